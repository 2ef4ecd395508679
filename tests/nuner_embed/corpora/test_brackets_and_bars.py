"""Column files whose mentions stand in brackets, and files with a sentence a line."""

import pytest
from column_files import FERRY, PLACES, SHORT, TAGS, WORDS, found, in_columns, read
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed import Document
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import CorpusError


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
