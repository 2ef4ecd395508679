"""CoNLL-U: the words and the text that a reader sees, and mentions in MISC."""

import pytest
from column_files import FERRY, LETTERS, SHORT, found, in_columns, read, table
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed import Corpus, Document, Span
from nuner_embed.corpora.base import FORMATS, WriteOptions
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

CONLLU = """# newdoc id = 7
# sent_id = 7-1
# text = Vámonos al "mar", dijo Mara.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\tMood=Imp\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t6\tcase\t_\t_
4\tel\tel\tDET\t_\t_\t6\tdet\t_\t_
5\t"\t"\tPUNCT\t_\t_\t6\tpunct\t_\tSpaceAfter=No
6\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tGloss=sea|SpaceAfter=No
7\t"\t"\tPUNCT\t_\t_\t6\tpunct\t_\tSpaceAfter=No
8\t,\t,\tPUNCT\t_\t_\t1\tpunct\t_\t_
8.1\tella\tella\tPRON\t_\t_\t_\t_\t9:nsubj\t_
9\tdijo\tdecir\tVERB\t_\t_\t1\tparataxis\t_\t_
10\tMara\tMara\tPROPN\t_\t_\t9\tnsubj\t_\tSpaceAfter=No
11\t.\t.\tPUNCT\t_\t_\t1\tpunct\t_\tSpaceAfter=No

# sent_id = 7-2
# text = Vale
1\tVale\tvale\tINTJ\t_\t_\t0\troot\t_\t_
"""


def test_conllu_gives_the_words_and_the_text_as_it_was(tmp_path):
    first, second = read(tmp_path / "c.conllu", CONLLU)
    assert first.text == 'Vámonos al "mar", dijo Mara.'
    words = ["Vámonos", "al", '"', "mar", '"', ",", "dijo", "Mara", "."]
    assert [first.text[start:end] for start, end in first.words] == words
    assert first.spans == ()
    assert (first.id, second.id, second.text) == ("c.conllu:4", "c.conllu:21", "Vale")


@pytest.mark.parametrize("key", ["NER", "ner", "NE"])
def test_conllu_with_tags_in_the_last_field(tmp_path, key):
    rows = [
        "1 Mara Mara PROPN _ _ 2 nsubj _ {}=S-PER",
        "2 left leave VERB _ _ 0 root _ _",
        "3-4 Newport _ _ _ _ _ _ _ SpaceAfter=No",
        "3 New New PROPN _ _ 2 obj _ {}=B-LOC",
        "4 port port PROPN _ _ 3 flat _ {}=E-LOC",
        "5 . . PUNCT _ _ 2 punct _ {}=O",
    ]
    content = table([row.format(key) for row in rows])
    assert found(tmp_path / "c.conllu", content) == [
        (["Mara", "left", "Newport", "."], [("Mara", "PER"), ("Newport", "LOC")])
    ]
    assert found(tmp_path / "c.conllu", content, tag_column="none") == [(["Mara", "left", "Newport", "."], [])]
    assert found(tmp_path / "c.conllu", content, tag_column=key)[0][1] == [("Mara", "PER"), ("Newport", "LOC")]


def test_conllu_fields_that_the_user_names(tmp_path):
    first, _ = read(
        tmp_path / "c.conllu", CONLLU.replace("1-2\tVámonos\t_", "1-2\tVámonos\tVamos"), word_column="lemma"
    )
    assert first.text.startswith("Vamos ")
    first, _ = read(tmp_path / "c.conllu", CONLLU, tag_column=4)
    assert {span.label for span in first.spans} == {"PUNCT", "NOUN", "VERB", "PROPN", "ADP"}
    with pytest.raises(CorpusError, match=r"CoNLL-U has the fields 1 to 10, id, form, .*, not 'ner'; found 10"):
        read(tmp_path / "c.conllu", CONLLU, tag_column="ner")


def test_a_conllu_line_that_does_not_fit(tmp_path):
    broken = CONLLU.replace("9\tdijo\tdecir\tVERB\t_\t_\t1\tparataxis\t_\t_", "9\tdijo")
    with pytest.raises(CorpusError, match=r"c.conllu:15: expected the 10 fields of CoNLL-U.*found '9\\tdijo'"):
        read(tmp_path / "c.conllu", broken)
    bad, good = read(tmp_path / "c.conllu", broken, on_error="skip")
    assert isinstance(bad, Reject)
    assert good.text == "Vale"


@given(
    words=st.lists(st.tuples(LETTERS, st.booleans(), st.integers(1, 3), st.booleans()), min_size=1, max_size=6),
    key=st.sampled_from(["NER", "ner"]),
)
def test_conllu_gives_back_any_text(tmp_path_factory, words, key):
    """Words with or without a blank behind them, of one or several parts, in a mention or not."""
    lines, text, mentions, number = [], "", [], 0
    for i, (word, space, parts, is_mention) in enumerate(words):
        tag = f"{key}=B-t{i}|" if is_mention else ""
        glue = "SpaceAfter=No" if not space else "_"
        first = number + 1
        if parts > 1:
            lines.append([f"{first}-{number + parts}", word, *["_"] * 7, glue])
        for _ in range(parts):
            number += 1
            lines.append([str(number), word if parts == 1 else "part", *["_"] * 7, tag + glue])
        lines.append([f"{number}.1", "unsaid", *["_"] * 8])
        if is_mention:
            mentions.append((len(text), len(text) + len(word), f"t{i}"))
        text += word + (" " if space and i + 1 < len(words) else "")
    path = tmp_path_factory.mktemp("c") / "c.conllu"
    (document,) = read(path, "# text = " + text + "\n" + "\n".join("\t".join(line) for line in lines))
    assert document.text == text
    assert [document.text[start:end] for start, end in document.words] == [word for word, *_ in words]
    assert [(span.start, span.end, span.label) for span in document.spans] == mentions


def test_other_layouts_are_refused_with_what_to_say(tmp_path):
    (tmp_path / "c.conllu").write_text(in_columns(lambda i, w, t: [w, t]))
    message = r"^c.conllu: not CoNLL-U, which has 10 fields per word; found 2 tab.*--format conll reads other files$"
    with pytest.raises(CorpusError, match=message):
        Corpus([tmp_path / "c.conllu"]).survey()
    assert found(tmp_path / "c.conllu", in_columns(lambda i, w, t: [w, t])) == [FERRY, SHORT]  # with --format conll
    (tmp_path / "c.conllu").write_text("# sent_id = 1\n# text = nothing\n\n")
    with pytest.raises(CorpusError, match="holds no documents"):
        Corpus([tmp_path / "c.conllu"]).survey()


def test_both_formats_read_the_same(tmp_path):
    document = Document("d 1", "In  Oslo.\n", ((0, 2), (4, 8), (8, 9)), (Span(4, 8, "a|b"),))
    own = "".join(FORMATS["conllu"].write([document], WriteOptions()))
    for content in (CONLLU, own):
        (tmp_path / "c.conllu").write_text(content)
        assert list(Corpus([tmp_path / "c.conllu"])) == list(Corpus([tmp_path / "c.conllu"], format="conll"))
    assert list(Corpus([tmp_path / "c.conllu"])) == [document]


def test_what_is_written(tmp_path):
    document = Document("d 1", "In  Oslo|x.\n", ((0, 2), (4, 8), (8, 9), (9, 10), (10, 11)), (Span(4, 8, "a|b"),))
    (text,) = ["".join(FORMATS["conllu"].write([document], WriteOptions()))]
    assert text.splitlines() == [
        "# generator = nuner-embed",
        "# text = In  Oslo|x. ",
        r"# sent_id = d\s1",
        "1\tIn\t_\t_\t_\t_\t_\t_\t_\tSpacesAfter=\\s\\s",
        "2\tOslo\t_\t_\t_\t_\t_\t_\t_\tNER=B-a\\pb|SpaceAfter=No",
        "3\t|\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No",
        "4\tx\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No",
        "5\t.\t_\t_\t_\t_\t_\t_\t_\tSpacesAfter=\\n",
        "",
    ]


def test_ids_and_spaces_of_other_programs_are_not_read(tmp_path):
    """So that the documents of files that were read before stay what they were."""
    content = "# sent_id = 7\n1\tNew\t_\t_\t_\t_\t_\t_\t_\tSpacesAfter=\\s\\s\n2\tYork\t_\t_\t_\t_\t_\t_\t_\t_\n"
    assert [(one.id, one.text) for one in read(tmp_path / "c.conllu", content)] == [("c.conllu:2", "New York")]


def test_words_of_other_numbers(tmp_path):
    """A sentence may be numbered from 0, consist of an empty node, or have an id and no words."""
    row = "{}\tNew\t_\t_\t_\t_\t_\t_\t_\t_\n"
    assert [one.text for one in read(tmp_path / "c.conllu", row.format(0) + row.format(1))] == ["New New"]
    assert [one.text for one in read(tmp_path / "c.conllu", row.format(1) + "\n" + row.format("1.1"))] == ["New", ""]
    own = "# generator = nuner-embed\n# sent_id = 1\n\n# sent_id = 2\n" + row.format(1)
    reject, document = read(tmp_path / "c.conllu", own, on_error="skip")
    assert (reject.line, document.id) == (2, "2")
