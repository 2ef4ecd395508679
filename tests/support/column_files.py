"""Column files that tests write and read."""

from hypothesis import strategies as st

from nuner_embed import Corpus


def read(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with Corpus([path], format="conll", **options) as corpus:
        return list(corpus)


def found(path, content, **options):
    """Each document's words, and its mentions as `(text, label)`."""
    documents = read(path, content, **options)
    return [
        (
            [document.text[start:end] for start, end in document.words],
            [(document.text[span.start : span.end], span.label) for span in document.spans],
        )
        for document in documents
    ]


def table(*sentences, separator="\t"):
    """Lines of sentences, each given as lines of fields with blanks between them."""
    return "\n".join("\n".join(separator.join(row.split(" ")) for row in rows) + "\n" for rows in sentences)


FERRY = (["The", "ferry", "Ellery", "Star", "left", "Oslo"], [("Ellery Star", "ship"), ("Oslo", "city")])
SHORT = (["Mara", "stayed"], [("Mara", "person")])
WORDS = [list(FERRY[0]), list(SHORT[0])]
TAGS = [["O", "O", "B-ship", "I-ship", "O", "B-city"], ["B-person", "O"]]


def in_columns(make_row, separator="\t", tags=TAGS):
    """The two sentences, a row a word, as `make_row(number, word, tag)` has it."""
    blocks = []
    for words, labels in zip(WORDS, tags, strict=True):
        rows = [make_row(i, word, tag) for i, (word, tag) in enumerate(zip(words, labels, strict=True), start=1)]
        blocks.append("\n".join(separator.join(row) for row in rows))
    return "\n\n".join(blocks) + "\n"


LETTERS = st.text(st.characters(categories=["L"]), min_size=2, max_size=6).filter(lambda word: len(word.split()) == 1)
PLACES = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([None, None, "place", "art_work", "b-side"])), max_size=6
)
