import pytest
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import Span, join_words
from nuner_embed.tags import BIO, TagScheme, find_scheme, spans_to_tags, tags_to_spans


def spans_of(*sentences):
    """`(first word, one past the last, label)` of each span of each sentence, words parted by blanks."""
    sentences = [sentence.split() for sentence in sentences]
    scheme = find_scheme(sentences)
    found = []
    for tags in sentences:
        words = [(i, i + 1) for i in range(len(tags))]
        found.append([(span.start, span.end, span.label) for span in tags_to_spans(tags, words, scheme)])
    return found[0] if len(found) == 1 else found


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-x I-x O", [(1, 3, "x")]),
        ("B-x B-x", [(0, 1, "x"), (1, 2, "x")]),
        ("I-x I-x I-y", [(0, 2, "x"), (2, 3, "y")]),
        ("I-x B-x I-x", [(0, 1, "x"), (1, 3, "x")]),
        ("S-x B-y E-y E-x", [(0, 1, "x"), (1, 3, "y"), (3, 4, "x")]),
        ("U-x B-x L-x I-x", [(0, 1, "x"), (1, 3, "x"), (3, 4, "x")]),
        ("B-x M-x M-x E-x S-y", [(0, 4, "x"), (4, 5, "y")]),
        ("person-actor person-actor O org", [(0, 2, "person-actor"), (3, 4, "org")]),
        ("B_LOC I_LOC O B_PER", [(0, 2, "LOC"), (3, 4, "PER")]),
        ("B_LOC O B_PER", [(0, 1, "LOC"), (2, 3, "PER")]),
        ("B:LOC I:LOC O", [(0, 2, "LOC")]),
        ("LOC-B LOC-I O PER-B", [(0, 2, "LOC"), (3, 4, "PER")]),
        ("LOC_S O PER_B PER_E", [(0, 1, "LOC"), (2, 4, "PER")]),
        ("b-loc i-loc o b-per", [(0, 2, "loc"), (3, 4, "per")]),
        ("b-LOC i-LOC O", [(0, 2, "LOC")]),
        ("o B-LOC I-LOC", [(1, 3, "LOC")]),
        ("O B I B O", [(1, 3, None), (3, 4, None)]),
        ("o b i o", [(1, 3, None)]),
        ("I I O I", [(0, 2, None), (3, 4, None)]),
        ("S O B I E O B E", [(0, 1, None), (2, 5, None), (6, 8, None)]),
        ("U O B L", [(0, 1, None), (2, 4, None)]),
    ],
)
def test_every_scheme_is_read_as_conlleval_reads_it(tags, expected):
    assert spans_of(tags) == expected


@pytest.mark.parametrize(
    "tags",
    [
        "B-cell B-cell O T-cell O",
        "B-cell O E-mail E-mail O",
        "I-beam O B-cell O E-mail",
        "T-cell O person B-cell person",
        "E-mail O O",
        "e-mail O b-side T-shirt",
        "vitamin-B O vitamin-C O vitamin-E",
        "B-cell O gene O gene",
        "X-ray O gene",
    ],
)
def test_types_whose_names_look_like_tags(tags):
    runs = []
    for i, tag in enumerate(tags.split()):
        if tag != "O" and runs and runs[-1][1] == i and runs[-1][2] == tag:
            runs[-1] = (runs[-1][0], i + 1, tag)
        elif tag != "O":
            runs.append((i, i + 1, tag))
    assert spans_of(tags) == runs


def test_a_type_named_like_a_tag_among_tags():
    assert spans_of("B-B-cell I-B-cell O B-T-cell") == [(0, 2, "B-cell"), (3, 4, "T-cell")]
    assert spans_of("O B-cell I-cell") == [(1, 3, "cell")]


@pytest.mark.parametrize(
    "tags",
    [
        "S-Bahn O O",
        "B-cell B-cell O B-cell B-cell O",
        "LOC-B O PER-B",
        "hepatitis-B O",
        "vitamin-B O vitamin-E",
        "B-cell O B-cell O gene",
        "I-beam O person",
        "B-x I-x O person O person O person",
        "B- I- O",
        "S O",
        "B i O",
        "B-cell O E-cell",
    ],
)
def test_tags_that_may_be_read_in_two_ways_are_named(tags):
    first = min(tag for tag in tags.split() if tag != "O")
    with pytest.raises(ValueError, match=rf"the tags '{first}'.* may be types, or prefixes") as caught:
        spans_of(tags)
    assert "\n" not in str(caught.value)


def test_names_of_tags_without_sentences():
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    for order in (names, sorted(names), ["O", *(f"{p}-{t}" for p in "BIES" for t in ("PER", "LOC"))]):
        assert find_scheme([order]) == BIO
    assert find_scheme([["O", "art-painting", "person-other"]]).kind == "plain"


def test_words_in_no_mention_say_nothing():
    assert find_scheme([["O", "O"], []]) is None


def test_odd_tags_among_prefixed_ones_are_of_no_scheme():
    scheme = find_scheme([["B-x", "I-x", "O", "person", "B-", ""]])
    assert scheme == BIO
    for tag in ("person", "B-", "", "o", "b-x", "X-x"):
        assert not scheme.reads(tag)
        with pytest.raises(ValueError, match=rf"expected O or a tag such as B-x or I-x, found '{tag}'"):
            tags_to_spans([tag], [(0, 1)], scheme)


@pytest.mark.parametrize("tags", [["person", "O", "B-loc", "I-loc"], ["person", "o"], ["", "person"]])
def test_tags_that_a_plain_corpus_cannot_hold(tags):
    plain = find_scheme([["person", "O", "gene"]])
    with pytest.raises(ValueError, match="expected O or a type"):
        tags_to_spans(tags, [(i, i + 1) for i in range(len(tags))], plain)


def test_tags_and_words_must_be_as_many():
    with pytest.raises(ValueError, match="2 tags for 1 words"):
        tags_to_spans(["O", "O"], [(0, 1)], BIO)


WORDS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "Cc"]), min_size=1), min_size=1, max_size=12)


@given(words=WORDS, data=st.data())
def test_spans_to_bio_and_back(words, data):
    text, offsets = join_words(words)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(words)), max_size=6)))
    spans = tuple(
        Span(offsets[a][0], offsets[b - 1][1], data.draw(st.sampled_from(["x", "y-z", "B-q"])))
        for a, b in zip(cuts[::2], cuts[1::2], strict=False)
    )
    tags = spans_to_tags(spans, offsets)
    assert tags_to_spans(tags, offsets, BIO) == spans
    assert all(text[a:b] == word for (a, b), word in zip(offsets, words, strict=True))


def test_overlapping_spans_give_way_to_the_first():
    _, words = join_words(["a", "b", "c"])
    assert spans_to_tags([Span(0, 3, "x"), Span(2, 5, "y"), Span(4, 5)], words) == ["B-x", "I-x", "B-ENTITY"]


def looked_at_one_by_one(spans, words):
    tags = ["O"] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span.end and end > span.start]
        if inside and all(tags[i] == "O" for i in inside):
            for i in inside:
                tags[i] = f"{'B' if i == inside[0] else 'I'}-{span.label or 'ENTITY'}"
    return tags


@given(
    words=WORDS,
    ends=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20), st.sampled_from(["x", "y", None])), max_size=12),
    spaces=st.lists(st.booleans(), min_size=12, max_size=12),
    shuffled=st.booleans(),
)
def test_spans_anywhere_are_what_looking_at_each_word_gives(words, ends, spaces, shuffled):
    _, offsets = join_words(words, [" " if space else "" for space in spaces[: len(words)]])
    if shuffled:  # of which only a program makes documents
        offsets = tuple(reversed(offsets))
    spans = [Span(start, start + length, label) for start, length, label in ends]
    assert spans_to_tags(spans, offsets) == looked_at_one_by_one(spans, offsets)


class Counted(int):
    """A number that counts how often it is compared."""

    compared = 0

    def __lt__(self, other):
        Counted.compared += 1
        return int(self) < int(other)

    def __gt__(self, other):
        Counted.compared += 1
        return int(self) > int(other)


def test_the_work_does_not_grow_with_the_product_of_spans_and_words():
    many = 2000
    words = [(Counted(2 * i), Counted(2 * i + 1)) for i in range(many)]
    for spans in (
        [Span(2 * i, 2 * i + 1, "x") for i in range(many)],
        [Span(2 * i, 2 * many, "x") for i in reversed(range(many))],  # each meets the one before at its very end
        [Span(0, 2 * many, "x")] * many,
    ):
        Counted.compared = 0
        spans_to_tags([Span(Counted(span.start), Counted(span.end), span.label) for span in spans], words)
        assert Counted.compared < 40 * many  # 11 for each of two ends, and one a word


@st.composite
def sentences(draw):
    """Runs of words as `(length, label or None)`; one mention of two words of type "place" is always there."""
    runs = st.lists(st.tuples(st.integers(1, 4), st.sampled_from([None, "place", "B-cell", "art_work"])), max_size=5)
    return [[(2, "place"), (1, None)], *draw(st.lists(runs, max_size=4))]


def written(runs, kind, style, separator, lower):
    tags, spans, at = [], [], 0
    for length, label in runs:
        if label is None:
            tags += ["O"] * length
        else:
            inner = {"BIO": "I" * (length - 1), "BIOES": "I" * (length - 2) + "E", "BILOU": "I" * (length - 2) + "L"}
            alone = {"BIO": "B", "BIOES": "S", "BILOU": "U"}
            prefixes = "B" + inner[style] if length > 1 else alone[style]
            for prefix in prefixes.lower() if lower else prefixes:
                parts = {"before": (prefix, separator, label), "after": (label, separator, prefix), "bare": (prefix,)}
                tags.append("".join(parts[kind]))
            spans.append((at, at + length, label if kind != "bare" else None))
        at += length
    return tags, spans


@given(
    corpus=sentences(),
    kind=st.sampled_from(["before", "after", "bare"]),
    style=st.sampled_from(["BIO", "BIOES", "BILOU"]),
    separator=st.sampled_from("-_:/"),
    lower=st.booleans(),
)
def test_spans_written_in_any_scheme_read_back(corpus, kind, style, separator, lower):
    pairs = [written(runs, kind, style, separator, lower) for runs in corpus]
    scheme = find_scheme(tags for tags, _ in pairs)
    assert scheme == TagScheme(kind, "-" if kind == "bare" else separator, lower)
    for tags, spans in pairs:
        words = [(i, i + 1) for i in range(len(tags))]
        assert [(s.start, s.end, s.label) for s in tags_to_spans(tags, words, scheme)] == spans
