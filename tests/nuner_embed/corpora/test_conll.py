"""Every layout of column files: read as it is meant, or refused with what was seen and what to say."""

import gzip
import random

import pytest
from column_files import FERRY, LETTERS, PLACES, SHORT, TAGS, WORDS, found, in_columns, read, table
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed import Document, Span
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError

LAYOUTS = {
    "word first, tag last": lambda i, w, t: [w, t],
    "tag first": lambda i, w, t: [t, w],
    "CoNLL-2003": lambda i, w, t: [w, "NN" if i % 2 else "VB", "B-NP" if i % 2 else "I-NP", t],
    "MultiCoNER": lambda i, w, t: [w, "_", "_", t],
    "a word number": lambda i, w, t: [str(i), w, t],
    "a word number from 0": lambda i, w, t: [str(i - 1), w, t],
    "a word number and a part of speech": lambda i, w, t: [str(i), w, "NN" if i % 2 else "VB", t],
    "GermEval": lambda i, w, t: [str(i), w, t, "B-inner" if i == 3 else "O"],
    "GermEval without inner mentions": lambda i, w, t: [str(i), w, t, "O"],
    "Universal NER": lambda i, w, t: [str(i), w, t, "-", "-"],
    "a document, a part and a number": lambda i, w, t: ["bc/x", "0", str(i), w, "NN", t],
    "an empty last field": lambda i, w, t: [w, t, "_"],
}


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_told_by_what_their_fields_hold(tmp_path, layout, separator):
    assert found(tmp_path / "c.tsv", in_columns(LAYOUTS[layout], separator)) == [FERRY, SHORT]


def test_germeval(tmp_path):
    content = (
        "#\thttp://de.example.org/wiki/Reederei [2009-10-17]\n"
        "1\tDie\tO\tO\n2\tHapag\tB-ORG\tO\n3\tHamburg\tI-ORG\tB-LOC\n4\tzahlt\tO\tO\n\n"
        "#\thttp://de.example.org/wiki/Mara [2009-10-17]\n1\tMara\tB-PER\tO\n2\tfragt\tO\tO\n"
    )
    first, second = read(tmp_path / "c.tsv", content)
    assert first == Document(
        "c.tsv:2", "Die Hapag Hamburg zahlt", ((0, 3), (4, 9), (10, 17), (18, 23)), (Span(4, 17, "ORG"),)
    )
    assert (second.id, second.text, second.spans) == ("c.tsv:8", "Mara fragt", (Span(0, 4, "PER"),))


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_multiconer(tmp_path, separator):
    lines = in_columns(LAYOUTS["MultiCoNER"], separator).split("\n\n")
    heads = ["# id 1f4b2a\tdomain=en", "# id 77aa01\tdomain=en"]
    content = "\n\n\n".join(f"{head}\n{block}" for head, block in zip(heads, lines, strict=True))
    assert found(tmp_path / "c.conll", content) == [FERRY, SHORT]
    assert [document.id for document in read(tmp_path / "c.conll", content)] == ["c.conll:2", "c.conll:11"]


@pytest.mark.parametrize("names", ["text label", "Token NER", "word tag", "tokens ner_tags"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_first_line_that_names_the_fields_is_no_word(tmp_path, names, separator):
    header = separator.join(names.split())
    for between in ("\n", "\n\n"):
        content = header + between + in_columns(lambda i, w, t: [w, t], separator)
        assert found(tmp_path / "c.tsv", content) == [FERRY, SHORT]
    content = separator.join(reversed(names.split())) + "\n" + in_columns(lambda i, w, t: [t, w], separator)
    assert found(tmp_path / "c.tsv", content) == [FERRY, SHORT]


def test_names_of_the_first_line_choose_among_fields(tmp_path):
    rows = in_columns(lambda i, w, t: [f"{i * 7}", "NN", w, "B-x" if i == 1 else "O", t])
    content = "offset\tpos\tword\tguess\tner\n" + rows
    assert found(tmp_path / "c.tsv", content) == [FERRY, SHORT]
    guessed = found(tmp_path / "c.tsv", content, word_column="word", tag_column="guess")
    assert guessed == [(FERRY[0], [("The", "x")]), (SHORT[0], [("Mara", "x")])]
    assert found(tmp_path / "c.tsv", content.replace("word\t", "Wort\t"), word_column="wort")[0][0] == FERRY[0]


UNCERTAIN = {
    "two fields of tags": (lambda i, w, t: [w, t, "B-x" if i == 1 else "O"], "fields 2, 3 hold tags"),
    "parts of speech": (lambda i, w, t: [w, "NN" if i % 2 else "VB"], "no field is certain to hold tags"),
    "a tag in the middle": (lambda i, w, t: [w, t, "NN" if i % 2 else "VB"], "no field is certain to hold words"),
    "a document before the word": (lambda i, w, t: ["d1", w, t], "no field is certain to hold words"),
    "a word and a lemma": (lambda i, w, t: [w, w.lower()], "no field is certain to hold tags"),
    "tags, words and numbers": (lambda i, w, t: [t, w, "0.5"], "no field is certain to hold words"),
    "parts of speech with an O": (lambda i, w, t: [w, "O" if i == 1 else "!"], "no field is certain to hold tags"),
    "gold and guessed": (lambda i, w, t: [w, "NN", t, "O"], "fields 3, 4 hold tags"),
    "brackets in several fields": (
        lambda i, w, t: [w, "(S*" if i == 1 else "*", "(X)" if i == 2 else "*"],
        "fields 2, 3 hold tags",
    ),
    "types of every word": (lambda i, w, t: [w, "ship"], "no field is certain to hold tags"),
}


@pytest.mark.parametrize("layout", UNCERTAIN)
def test_what_is_not_certain_is_refused_with_what_was_seen(tmp_path, layout):
    make_row, why = UNCERTAIN[layout]
    with pytest.raises(CorpusError, match=rf"^c.tsv: {why}") as caught:
        read(tmp_path / "c.tsv", in_columns(make_row))
    said = str(caught.value)
    assert "\n" not in said
    assert "--word-column and --tag-column" in said
    assert f"tab-separated fields such as {make_row(1, 'The', 'O')!r}" in said


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["d1 Oslo B-city", "d1 sleeps O"], "no field is certain to hold words"),
        (["1 Oslo B-city", "1 sleeps O", "2 Mara B-person", "2 too O"], "no field is certain to hold words"),
        (["1 Oslo B-city"], "no field is certain to hold words"),
        (
            ["Sent_ID Word Tag", "1 Oslo B-city", "1 sleeps O"],
            "a field marks the sentences, but blank lines should separate them",
        ),
        (["Sentence Word POS Tag", "1 Oslo NE B-city", "_ sleeps V O"], "a field marks the sentences"),
        (["The/O ferry/B-ship left/O", "Mara/B-person stays/O too/O"], "no field is certain to hold tags"),
        (["Oslo city", "sleeps 0", "now 0"], "no field is certain to hold tags"),
    ],
)
def test_small_files_that_tell_too_little(tmp_path, lines, why):
    for separator in ("\t", " "):
        with pytest.raises(CorpusError, match=rf"^c.tsv: {why}.*--word-column"):
            read(tmp_path / "c.tsv", table(lines, separator=separator))


def test_two_fields_one_of_them_tags(tmp_path):
    assert found(tmp_path / "c.tsv", table(["ha O", "ha O", "ha B-sound"])) == [(["ha"] * 3, [("ha", "sound")])]
    assert found(tmp_path / "c.tsv", table(["2019 B-year"])) == [(["2019"], [("2019", "year")])]
    assert found(tmp_path / "c.tsv", table(["o O", "Oslo B-x", "O O"])) == [(["o", "Oslo", "O"], [("Oslo", "x")])]
    assert found(tmp_path / "c.tsv", "1\n2\n3\n") == [(["1", "2", "3"], [])]


@pytest.mark.parametrize(
    ("layout", "word", "tag"),
    [
        ("two fields of tags", 1, 2), ("a tag in the middle", 1, 2), ("a document before the word", 2, 3),
        ("two fields of tags", None, 2), ("a document before the word", 2, None),
    ],
)  # fmt: skip
def test_fields_by_number(tmp_path, layout, word, tag):
    content = in_columns(UNCERTAIN[layout][0])
    assert found(tmp_path / "c.tsv", content, word_column=word, tag_column=tag) == [FERRY, SHORT]


def test_words_without_tags_on_demand(tmp_path):
    for layout in ("parts of speech", "a word and a lemma", "two fields of tags"):
        content = in_columns(UNCERTAIN[layout][0])
        assert found(tmp_path / "c.tsv", content, tag_column="none") == [(FERRY[0], []), (SHORT[0], [])]
    assert found(tmp_path / "c.tsv", in_columns(lambda i, w, t: [str(i), w])) == [(FERRY[0], []), (SHORT[0], [])]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"word_column": 3}, r"--word-column 3: there are fields 1 to 2; found 2 tab-separated fields such as \['The'"),
        ({"tag_column": 0}, "--tag-column 0: there are fields 1 to 2"),
        ({"tag_column": "ner"}, "--tag-column ner: the first line names no such field; found 2 tab-separated"),
        ({"word_column": 2, "tag_column": 2}, "field 2 cannot hold both words and tags"),
    ],
)
def test_fields_that_are_not_there(tmp_path, options, message):
    with pytest.raises(CorpusError, match=message):
        read(tmp_path / "c.tsv", in_columns(lambda i, w, t: [w, t]), **options)


def test_whole_texts_are_no_words(tmp_path):
    rows = [("The ferry left at seven", "B-pos"), ("Nobody saw the crew again", "B-neg"), ("It was quiet all day", "O")]
    for header in ("", "text\tlabel\n"):
        with pytest.raises(CorpusError, match=r"field 1 holds whole texts, not words.*'The ferry left at seven'"):
            read(tmp_path / "c.tsv", header + "\n".join("\t".join(row) for row in rows))
    plain = header + "\n".join(f"{text}\tpositive" for text, _ in rows)
    with pytest.raises(CorpusError, match="no field is certain to hold tags"):
        read(tmp_path / "c.tsv", plain)


@pytest.mark.parametrize("mark", [",", ";"])
def test_commas_are_no_separators(tmp_path, mark):
    for header in ("", f"word{mark}tag\n"):
        content = header + in_columns(lambda i, w, t: [w, t], mark)
        with pytest.raises(
            CorpusError, match=rf"must be separated by tabs or blanks, not by '{mark}'; found 1 .*(The|word)"
        ):
            read(tmp_path / "c.tsv", content)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("layout", ["word first, tag last", "GermEval"])
def test_line_ends_of_every_system(tmp_path, end, layout):
    content = in_columns(LAYOUTS[layout]).replace("\n", end)
    documents = read(tmp_path / "c.tsv", content)
    assert [document.text for document in documents] == [" ".join(words) for words in WORDS]
    assert [document.id for document in documents] == ["c.tsv:1", "c.tsv:8"]
    (tmp_path / "c.tsv.gz").write_bytes(gzip.compress(content.encode()))
    assert [document.spans for document in Corpus([tmp_path / "c.tsv.gz"])] == [one.spans for one in documents]


@pytest.mark.parametrize("layout", ["word first, tag last", "tag first", "GermEval"])
def test_byte_order_marks_are_no_part_of_a_word(tmp_path, layout):
    content = in_columns(LAYOUTS[layout])
    twice = f"\ufeff{content}\n\ufeff{content}"
    assert found(tmp_path / "c.tsv", twice) == [FERRY, SHORT] * 2
    assert found(tmp_path / "c.tsv", f"\ufeffword\ttag\n{in_columns(LAYOUTS['word first, tag last'])}") == [
        FERRY,
        SHORT,
    ]


def test_a_hash_may_be_a_word_or_begin_one(tmp_path):
    rows = ["# O", "#oslo B-city", "# B-sign"]
    for separator in ("\t", " "):
        content = "# source = web\n" + table(rows, ["a O", "b O"], separator=separator)
        assert found(tmp_path / "c.tsv", content) == [
            (["#", "#oslo", "#"], [("#oslo", "city"), ("#", "sign")]), (["a", "b"], []),
        ]  # fmt: skip
    assert found(tmp_path / "c.tsv", "# 1 O\n" + in_columns(LAYOUTS["a word number"])) == [FERRY, SHORT]


def test_a_file_that_only_comments(tmp_path):
    with pytest.raises(CorpusError, match="holds no documents"):
        read(tmp_path / "c.tsv", "# nothing = here yet\n")


def test_tags_that_can_be_read_in_two_ways_refuse_the_file(tmp_path):
    with pytest.raises(CorpusError, match=r"^c.tsv: the tags 'LOC-B', 'PER-B' may be types, or prefixes"):
        read(tmp_path / "c.tsv", table(["Oslo LOC-B", "and O", "Mara PER-B"]))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["O", "O", "B", "I", "O", "B"], [("Ellery Star", None), ("Oslo", None)]),
        (["O", "O", "B", "E", "O", "S"], [("Ellery Star", None), ("Oslo", None)]),
        (["o", "o", "b-ship", "i-ship", "o", "b-city"], FERRY[1]),
        (["O", "O", "b-ship", "i-ship", "O", "b-city"], FERRY[1]),
        (["O", "O", "B_ship", "I_ship", "O", "B_city"], FERRY[1]),
        (["O", "O", "ship-B", "ship-I", "O", "city-B"], FERRY[1]),
        (["O", "O", "ship", "ship", "O", "city"], FERRY[1]),
        (["O", "O", "B-cell", "B-cell", "O", "T-cell"], [("Ellery Star", "B-cell"), ("Oslo", "T-cell")]),
        (["O", "O", "E-mail", "E-mail", "O", "B-side"], [("Ellery Star", "E-mail"), ("Oslo", "B-side")]),
        (["O", "O", "I-beam", "I-beam", "O", "B-side"], [("Ellery Star", "I-beam"), ("Oslo", "B-side")]),
    ],
)
@pytest.mark.parametrize("layout", ["word first, tag last", "tag first", "a word number"])
def test_tag_schemes_in_columns(tmp_path, tags, expected, layout):
    outside = tags[0]
    content = in_columns(LAYOUTS[layout], tags=[tags, [outside, outside]])
    assert found(tmp_path / "c.tsv", content) == [(FERRY[0], expected), (SHORT[0], [])]


@pytest.mark.parametrize("outside", ["o", "O"])
def test_a_first_mention_that_comes_late(tmp_path, outside):
    nothing = f"it\t{outside}\nleft\t{outside}\n\n" * 250
    documents = found(tmp_path / "c.tsv", nothing + f"New\tb-city\nport\ti-city\nleft\t{outside}\n")
    assert documents[:250] == [(["it", "left"], [])] * 250
    assert documents[250:] == [(["New", "port", "left"], [("New port", "city")])]


def test_a_tag_that_comes_late_and_does_not_fit(tmp_path):
    plain = "Mara\tperson\nleft\tO\n\n" * 150
    with pytest.raises(CorpusError, match=r"c.tsv:451: expected O or a type, .*found 'B-city'"):
        read(tmp_path / "c.tsv", plain + "New\tB-city\nport\tI-city\n")


def test_several_tags_of_a_word_are_no_type(tmp_path):
    with pytest.raises(CorpusError, match=r"c.tsv:3: expected O or a tag such as B-x or I-x, found 'B-city\|B-port'"):
        read(tmp_path / "c.tsv", table(["New B-city", "York I-city", "Oslo B-city|B-port"]))


@given(
    sentences=st.lists(PLACES.filter(bool), min_size=1, max_size=4),
    word=LETTERS,
    layout=st.sampled_from(sorted(LAYOUTS)),
    separator=st.sampled_from(["\t", " "]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    marks=st.sampled_from(["BI", "bi"]),
    order=st.sampled_from(["{0}-{1}", "{0}_{1}", "{1}-{0}"]),
)
def test_mentions_written_in_any_layout_and_scheme_read_back(
    tmp_path_factory, sentences, word, layout, separator, end, marks, order
):
    expected, blocks = [], []
    generator = random.Random(0)
    for runs in ([(1, None), (2, "place"), (3, None)], *sentences):
        words, tags, mentions = [], [], []
        for length, label in runs:
            some = [f"{word}{generator.randrange(10**6)}x" for _ in range(length)]
            words += some
            tags += [order.format(marks[bool(i)], label) if label else "O" for i in range(length)]
            if label:
                mentions.append((" ".join(some), label))
        expected.append((words, mentions))
        rows = [LAYOUTS[layout](i, w, t) for i, (w, t) in enumerate(zip(words, tags, strict=True), start=1)]
        blocks.append(end.join(separator.join(row) for row in rows))
    path = tmp_path_factory.mktemp("c") / "c.conll"
    assert found(path, (end * 2).join(blocks)) == expected


def ontonotes(entities, predicates=(1, 0)):
    blocks = []
    for words, tags, verbs in zip(WORDS, entities, predicates, strict=True):
        rows = [
            ["bc/cctv/00/cctv_0000", "0", str(i), word, "NN", "(TOP(S*" if not i else "*", "-", "-", "-", "Ann", tag]
            + (["(V*)" if i == 1 else "*"] * verbs) + ["-"]
            for i, (word, tag) in enumerate(zip(words, tags, strict=True))
        ]  # fmt: skip
        blocks.append("\n".join("   ".join(row) for row in rows))
    return "#begin document (bc/cctv/00/cctv_0000); part 000\n" + "\n\n".join(blocks) + "\n\n#end document\n"


def test_conll_2012(tmp_path):
    content = ontonotes([["*", "*", "(ship*", "*)", "*", "(city)"], ["(person)", "*"]])
    assert found(tmp_path / "c.conll", content) == [FERRY, SHORT]
    assert found(tmp_path / "c.conll", ontonotes([["*"] * 6, ["*"] * 2])) == [(FERRY[0], []), (SHORT[0], [])]


@pytest.mark.parametrize(
    ("tags", "line", "expected"),
    [
        (["*", "*", "(ship*", "*", "*", "*"], 7, r'"\*\)", which closes "\(ship\*"'),
        (["*", "*", "(ship*", "(city)", "*)", "*"], 5, "no bracket within another"),
        (["*", "*", "*)", "*", "*", "*"], 4, "no bracket within another"),
    ],
)
def test_brackets_that_do_not_close_are_no_mentions(tmp_path, tags, line, expected):
    content = ontonotes([tags, ["(person)", "*"]])
    with pytest.raises(CorpusError, match=rf"c.conll:{line}: expected .*{expected}"):
        read(tmp_path / "c.conll", content)
    assert [type(item) for item in read(tmp_path / "c.conll", content, on_error="skip")] == [Reject, Document]


def test_brackets_in_two_columns(tmp_path):
    tags = [["*", "*", "(ship*", "*)", "*", "(city*)"], ["(person)", "*"]]
    assert found(tmp_path / "c.conll", in_columns(lambda i, w, t: [w, t], tags=tags)) == [FERRY, SHORT]


@pytest.mark.parametrize("extra", ["", "|NN"])
def test_a_sentence_a_line_with_bars(tmp_path, extra):
    lines = [
        " ".join(f"{word}{extra}|{tag}" for word, tag in zip(words, tags, strict=True))
        for words, tags in zip(WORDS, TAGS, strict=True)
    ]
    for end in ("\n", "\n\n", "\r\n", "\r"):
        assert found(tmp_path / "c.iob", end.join(lines)) == [FERRY, SHORT]
    assert [document.id for document in read(tmp_path / "c.iob", "\n".join(lines))] == ["c.iob:1", "c.iob:2"]
    bars = [f"a||{extra}|O", *lines]
    assert found(tmp_path / "c.iob", "\n".join(bars))[0] == (["a||"], [])
    broken = "\n".join([*lines, "Mara left|O"])
    with pytest.raises(CorpusError, match=r"c.iob:3: expected words such as ferry\|x.* found 'Mara'"):
        read(tmp_path / "c.iob", broken)


@given(sentences=st.lists(PLACES.filter(bool), min_size=1, max_size=4), single=st.sampled_from(["({})", "({}*)"]))
def test_mentions_written_in_brackets_or_in_a_line_a_sentence_read_back(tmp_path_factory, sentences, single):
    expected, tables, lines = [], [], []
    for runs in ([(1, None), (2, "place")], *sentences):
        words, mentions, rows, pieces = [], [], [], []
        for length, label in runs:
            some = [f"w{len(words) + i}" for i in range(length)]
            words += some
            brackets = ["*"] * length
            if label:
                mentions.append((" ".join(some), label))
                brackets = [f"({label}*", *["*"] * (length - 2), "*)"] if length > 1 else [single.format(label)]
            rows += [f"{word}\t{bracket}" for word, bracket in zip(some, brackets, strict=True)]
            tags = ["O"] * length if label is None else [f"{'BI'[i > 0]}-{label}" for i in range(length)]
            pieces += [f"{word}|{tag}" for word, tag in zip(some, tags, strict=True)]
        expected.append((words, mentions))
        tables.append("\n".join(rows))
        lines.append(" ".join(pieces))
    folder = tmp_path_factory.mktemp("c")
    assert found(folder / "c.conll", "\n\n".join(tables)) == expected
    assert found(folder / "c.iob", "\n".join(lines)) == expected
