"""Hits with their surroundings: deduplicated, without the query's own documents, as many as were asked for."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fakes import HashSpec
from stores import ContextSpec, make_store

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError, IndexBundleError, StoreMismatch
from nuner_embed.indexes import Examples, Index, embed_mentions, examples_of, find, marked_document, queries
from nuner_embed.indexes.queries import read_queries
from nuner_embed.indexes.retrieval import _around
from nuner_embed.jobs.encoding import run_job
from nuner_embed.jobs.options import JobOptions
from nuner_embed.store.reader import Store

TEXTS = [
    ("The ferry left Zürich at seven.", ["ferry", "Zürich"]),
    ("A Ferry left at 😀 nine, the ferry came.", ["Ferry", "the ferry"]),
    ("שלום the ferry", ["ferry"]),
    ("Vol kova left\nthe ferry\tin\x1b[31m red", ["Vol kova", "ferry"]),
    ("an\u202eevil\u202c ferry", ["ferry"]),
]


def corpus_file(folder):
    lines = []
    for text, mentions in TEXTS:
        spans = [{"start": text.index(m), "end": text.index(m) + len(m), "label": f"={m}"} for m in mentions]
        lines.append(json.dumps({"text": text, "spans": spans}) + "\n")
    (folder / "c.jsonl").write_text("".join(lines))
    return folder / "c.jsonl"


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """An index of tokens, one of words and one of mentions of the same texts."""
    folder = tmp_path_factory.mktemp("finding")
    corpus = corpus_file(folder)
    made = {}
    for rows in ("token", "word", "mention"):
        run_job(Corpus([corpus]), folder / rows, JobOptions(HashSpec(dim=16), granularity=rows))
        made[rows] = Index.build(folder / rows, folder / f"{rows}-index")
    return made


@pytest.fixture(scope="module")
def encoder():
    return HashSpec(dim=16).load()


@pytest.mark.parametrize(
    ("text", "context", "expected"),
    [
        ("the ferry left [Kiel] at seven sharp", 9, (9, " left [Kiel] at seven")),
        ("the ferry left [Kiel] at seven sharp", 99, (0, "the ferry left [Kiel] at seven sharp")),
        ("the ferry left [Kiel] at seven sharp", 5, (10, "left [Kiel] at ")),
        ("the ferry left [Kiel] at seven sharp", 0, (15, "[Kiel]")),
        ("渡し船は[キール]を七時に出た", 2, (2, "船は[キール]を七")),  # no blanks: cut anywhere
    ],
)
def test_no_word_is_cut_where_there_are_words(text, context, expected):
    start, end = text.index("["), text.index("]") + 1
    assert _around(text, start, end, context) == expected


def test_context_is_cut_from_the_text(indexes):
    index = indexes["mention"]
    hits = find(index, index.vectors([0]), 100, context=6).to_pylist()
    assert [hit["rank"] for hit in hits] == list(range(1, len(index) + 1))
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    for hit in hits:
        text = TEXTS[int(hit["document_id"].split(":")[1]) - 1][0]
        assert hit["text"] == text[hit["start"] : hit["end"]]
        first, last = hit["context_start"], hit["context_start"] + len(hit["context"])
        assert hit["start"] - 6 <= first <= hit["start"] < hit["end"] <= last <= hit["end"] + 6
        assert text[hit["context_start"] :].startswith(hit["context"])
        assert hit["label"] == f"={hit['text']}"


def test_unique(indexes):
    index = indexes["mention"]
    every = find(index, index.vectors([0, 1]), 100)
    for query in (0, 1):
        mine = [hit for hit in every.to_pylist() if hit["query"] == query]
        for unique, key in (("surface", lambda hit: hit["text"].lower()), ("document", lambda hit: hit["document_id"])):
            best = {}
            for hit in mine:
                best.setdefault(key(hit), hit["id"])
            found = find(index, index.vectors([0, 1]), 100, unique=unique).to_pylist()
            assert [hit["id"] for hit in found if hit["query"] == query] == list(best.values())
            two = find(index, index.vectors([query]), 2, unique=unique)
            assert two["id"].to_pylist() == list(best.values())[:2]
    with pytest.raises(ValueError, match="unique must be surface or document"):
        find(index, index.vectors([0]), unique="label")


def test_unique_goes_on_until_there_are_k(tmp_path):
    """Many rows share a text: what is fetched first does not do."""
    (tmp_path / "c.txt").write_text(" ".join(["ferry"] * 300 + ["Zürich", "an", "in"]) + "\n")
    run_job(Corpus([tmp_path / "c.txt"]), tmp_path / "s", JobOptions(ContextSpec(dim=16), granularity="word"))
    index = Index.build(tmp_path / "s", tmp_path / "i")
    hits = find(index, index.vectors([0]), 3, unique="surface")
    assert hits.num_rows == 3
    assert len(set(hits["text"].to_pylist())) == 3


def test_the_querys_own_texts_are_left_out(indexes):
    index = indexes["mention"]
    vectors = index.vectors([0, 1])
    found = find(index, vectors, 100, exclude=[{TEXTS[0][0], TEXTS[1][0]}, set()]).to_pylist()
    assert {hit["document_id"] for hit in found if hit["query"] == 0} == {"c.jsonl:3", "c.jsonl:4", "c.jsonl:5"}
    assert len([hit for hit in found if hit["query"] == 1]) == len(index)


def test_filters_leave_k(indexes):
    hits = find(indexes["word"], np.ones(16), 4, filter="text = 'ferry'")
    assert hits["text"].to_pylist() == ["ferry"] * 4


def test_nothing_to_find(indexes, tmp_path):
    empty = Index.build(tmp_path_store(tmp_path), tmp_path / "index")
    empty.remove(empty.ids())
    for index in (empty, Index.open(empty.path)):
        assert find(index, np.ones(16)).num_rows == 0
        assert find(index, np.ones(16), unique="surface", filter="true").num_rows == 0
    empty.compact()
    assert find(empty, np.ones(16), unique="document").num_rows == 0


def tmp_path_store(tmp_path):
    return make_store(tmp_path / "s", 1, documents=1)


@pytest.mark.slow
def test_threads_search_while_another_process_might_change_it(indexes, tmp_path):
    """Every search sees one state whole: its hits' texts are there, though their segment is gone meanwhile."""
    folder = indexes["word"].path.parent
    index = Index.build(folder / "word", tmp_path / "i")
    other = Index.open(index.path)
    done = threading.Event()

    def look():
        rounds = 0
        while not done.is_set() or rounds < 3:
            hits = find(index, index.vectors([0]), 20, unique="surface", filter="text != 'red'")
            assert 1 <= hits.num_rows <= 20
            for hit in hits.to_pylist():
                inside = hit["start"] - hit["context_start"]
                assert hit["context"][inside : inside + len(hit["text"])] == hit["text"]
            rounds += 1
            index.refresh()
        return rounds

    with ThreadPoolExecutor(4) as pool:
        lookers = [pool.submit(look) for _ in range(4)]
        try:
            for _ in range(6):
                other.add(folder / "word", again=True)
                other.remove(other.ids()[30::2])
                other.compact()
        finally:
            done.set()
        assert all(looker.result() >= 3 for looker in lookers)


@pytest.mark.parametrize(
    ("query", "text", "mention"),
    [
        ("He signed for the [[Falcons]] in 2018.", "He signed for the Falcons in 2018.", "Falcons"),
        ("Falcons", "Falcons", "Falcons"),
        ("  Falcons ", "  Falcons ", "Falcons"),
        ("[[ Falcons ]] won", " Falcons  won", "Falcons"),
        ("[[😀]]", "😀", "😀"),
        ("a [b] [[c]] [d]]".replace("[d]]", "[d]"), "a [b] c [d]", "c"),
    ],
)
def test_a_marked_mention(query, text, mention):
    document = marked_document(query)
    (span,) = document.spans
    assert (document.text, document.text[span.start : span.end]) == (text, mention)


@pytest.mark.parametrize(
    "query", ["", "  ", "[[]] x", "[[ ]]", "[[a]] [[b]]", "a [[b", "a]] b", "[[a [[b]] c]]", "[[[[a]]]]"]
)
def test_what_is_not_one_mention(query):
    with pytest.raises(IndexBundleError, match="mark one mention with double brackets"):
        marked_document(query)


@pytest.mark.parametrize("rows", ["token", "word", "mention"])
def test_a_mention_is_pooled_as_the_rows_are(indexes, encoder, rows):
    """Asked for with its very own context, each mention of the corpus finds its rows."""
    index = indexes[rows]
    table = index.rows(index.ids()).to_pylist()
    for number, (text, mentions) in enumerate(TEXTS, start=1):
        for mention in mentions:
            start = text.index(mention)
            end = start + len(mention)
            document = Document("q", text, spans=(Span(start, end),))
            (vector,) = embed_mentions(index, encoder, [document])
            mine = [row["id"] for row in table if row["document_id"] == f"c.jsonl:{number}"
                    and row["start"] < end and row["end"] > start]  # fmt: skip
            if rows == "mention":
                mine = [i for i in mine if table[i]["text"] == mention]
            run = Store.open(index.path.parent / rows).vectors(mine).astype(np.float32)
            np.testing.assert_allclose(vector, run.mean(axis=0), atol=2e-3)


def test_many_documents_at_once_are_each_alone(indexes, encoder):
    documents = [Document(str(n), text, spans=tuple(Span(text.index(m), text.index(m) + len(m)) for m in mentions))
                 for n, (text, mentions) in enumerate(TEXTS)]  # fmt: skip
    for index in indexes.values():
        together = embed_mentions(index, encoder, documents)
        alone = np.concatenate([embed_mentions(index, encoder, [document]) for document in documents])
        np.testing.assert_allclose(together, alone, atol=1e-6)
        assert together.shape == (sum(len(mentions) for _, mentions in TEXTS), 16)


def test_another_encoder_is_refused(indexes):
    other = HashSpec(dim=16, max_length=24).load()
    with pytest.raises(StoreMismatch, match="vectors of two encoders or recipes cannot be compared"):
        embed_mentions(indexes["word"], other, [marked_document("ferry")])


def test_a_mention_without_a_token(indexes, encoder):
    document = Document("q:3", "a \u200b b", spans=(Span(2, 3),))
    with pytest.raises(IndexBundleError, match="q:3: there is no token for"):
        embed_mentions(indexes["mention"], encoder, [document])


def test_texts_with_brackets_are_taken_where_documents_are(indexes, encoder):
    index = indexes["mention"]
    texts = ["the [[ferry]] left at seven", marked_document("[[ferry]]"), "ferry"]
    expected = embed_mentions(index, encoder, [marked_document(texts[0]), texts[1], texts[1]])
    np.testing.assert_array_equal(embed_mentions(index, encoder, texts), expected)
    np.testing.assert_array_equal(embed_mentions(index, encoder, texts[0]), expected[:1])
    np.testing.assert_array_equal(examples_of(index, encoder, texts).positives, expected)
    with pytest.raises(TypeError, match="expected a text or a Document, found int"):
        embed_mentions(index, encoder, [7])


def test_examples(indexes, encoder):
    index = indexes["mention"]
    text = TEXTS[0][0]
    positive = Document("p", text, spans=(Span(4, 9, "boat"), Span(15, 21, "-")))
    examples = examples_of(index, encoder, [positive])
    assert (len(examples.positives), len(examples.negatives)) == (1, 1)
    vector, what = examples.query(index)
    assert what == "centroid"
    assert find(index, vector, 1)["text"].to_pylist() == ["ferry"]

    def score(vector, text):
        return find(index, vector, 1, filter=f"text = '{text}'")["score"][0].as_py()

    alone, _ = Examples(examples.positives, examples.negatives[:0]).query(index)
    assert score(vector, "Zürich") < score(alone, "Zürich") - 0.1
    for documents in ([], [Document("n", text, spans=(Span(4, 9, "-"),))], [Document("n", text)]):
        with pytest.raises(IndexBundleError, match="no span to look for"):
            examples_of(index, encoder, documents)


def test_a_few_examples_are_seen_from_the_mean_of_the_rows(indexes, tmp_path, monkeypatch):
    index = indexes["mention"]
    rows = index.vectors(index.ids())
    few, _ = Examples(rows[:3], rows[:0]).query(index)
    np.testing.assert_allclose(few, rows[:3].mean(axis=0), atol=1e-4)  # the mean of a few rows says nothing
    monkeypatch.setattr(queries, "_FEWEST_ROWS", 2)
    vector, what = Examples(rows[:3], rows[4:5]).query(index)
    assert what == "centroid"
    centre = 1.25 * rows[:3].mean(axis=0) - 0.25 * rows[4]
    np.testing.assert_allclose(vector, centre - rows.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(Examples(rows[:1], rows[:0]).query(index)[0], rows[0], atol=1e-4)  # one keeps its cosine
    by_distance = Index.build(make_store(tmp_path / "s", 1), tmp_path / "i", metric="l2", kind="flat")
    rows = by_distance.vectors([0, 1])
    np.testing.assert_allclose(Examples(rows, rows[:0]).query(by_distance)[0], rows.mean(axis=0), atol=1e-4)


def test_from_ten_examples_on_a_linear_scorer_ignores_what_all_rows_share(tmp_path):
    """Two kinds of rows that differ in one direction only, in which little varies."""
    index = Index.build(make_store(tmp_path / "s", 1), tmp_path / "i", metric="dot", kind="flat")
    rows = index.vectors(index.ids())
    noise = rows - rows.mean(axis=0)
    direction = np.linalg.svd(noise, full_matrices=False)[2][-1]
    side = noise @ direction
    order = np.argsort(side)
    examples = Examples(rows[order[-8:]], rows[order[:8]])
    vector, what = examples.query(index)
    assert what == "linear scorer"
    best = index.search(vector, 50).ids[0]
    centroid = index.search(examples.positives.mean(axis=0), 50).ids[0]
    assert side[best].mean() > 1.5 * side[centroid].mean()
    assert Examples(examples.positives[:5], examples.negatives[:4]).query(index)[1] == "centroid"


def _index_of(folder, texts):
    (folder / "c.txt").write_text("".join(f"{text}\n" for text in texts))
    run_job(Corpus([folder / "c.txt"]), folder / "s", JobOptions(HashSpec(dim=16), granularity="word"))
    return Index.build(folder / "s", folder / "i")


@pytest.mark.parametrize("number", [2, 10])
@pytest.mark.parametrize("texts", [["ferry"], ["ferry"] * 9, ["ferry"] * 3 + ["boat"]], ids=["one", "alike", "removed"])
def test_examples_among_rows_that_do_not_vary(tmp_path, monkeypatch, texts, number):
    """There is nothing to tell the examples from: they are searched for by their centre, whose score is a cosine."""
    monkeypatch.setattr(queries, "_FEWEST_ROWS", 1)
    index = _index_of(tmp_path, texts)
    index.remove_where("text = 'boat'")
    ferry = np.repeat(index.vectors([0]), number, axis=0)
    for negatives in (ferry[:0], -ferry):
        vector, what = Examples(ferry, negatives).query(index)
        assert what == "centroid"
        hits = find(index, vector, 3)
        assert hits["text"].to_pylist() == ["ferry"] * min(3, len(index))
        assert hits["score"].to_pylist() == pytest.approx([1] * min(3, len(index)), abs=1e-3)


def test_examples_that_are_all_rows(tmp_path, monkeypatch):
    """Examples in the very middle of the rows stand out in no direction."""
    monkeypatch.setattr(queries, "_FEWEST_ROWS", 2)
    index = _index_of(tmp_path, ["ferry", "boat"])
    for ids in ([0, 1], [0, 1] * 5):
        vector, what = Examples(index.vectors(ids), index.vectors([])).query(index)
        assert what == "centroid"
        assert find(index, vector)["score"][0].as_py() > 0.5


def test_the_same_example_ten_times(indexes):
    index = indexes["word"]
    ferry = np.repeat(index.vectors(index.ids("text = 'ferry'")[:1]), 10, axis=0)
    vector, what = Examples(ferry, ferry[:0]).query(index)
    assert what == "linear scorer"
    assert find(index, vector, 1)["text"].to_pylist() == ["ferry"]


def test_examples_and_an_emptied_index(indexes, tmp_path):
    index = _index_of(tmp_path, ["ferry", "boat"])
    examples = Examples(index.vectors([0] * 10), index.vectors([1]))
    index.remove([0, 1])
    for _ in range(2):
        vector, what = examples.query(index)
        assert what == "centroid"
        assert find(index, vector, unique="surface").num_rows == 0
        index.compact()


def test_files_of_queries(tmp_path):
    (tmp_path / "q.txt").write_text("He [[left]].\n\nferry\r\n")
    (tmp_path / "q.jsonl").write_text('{"id": 7, "query": "the [[ferry]]"}\n{"query": "x"}\n')
    assert [(q.id.split("/")[-1], q.document.text) for q in read_queries(tmp_path / "q.txt")] == [
        ("q.txt:1", "He left."),
        ("q.txt:3", "ferry"),
    ]
    assert [q.id.split("/")[-1] for q in read_queries(tmp_path / "q.jsonl")] == ["7", "q.jsonl:2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.txt", b"good\n[[bad\n", r"q.txt:2: query '\[\[bad': mark one mention"),
        ("q.txt", b"good\n\xff\n", r"q.txt:2: not valid UTF-8"),
        ("q.jsonl", b'{"query": "a"}\n{"text": "a"}\n', 'q.jsonl:2: expected an object with "query"'),
        ("q.jsonl", b'{"query": 5}\n', 'q.jsonl:1: expected an object with "query"'),
        ("q.jsonl", b"{\n", "q.jsonl:1: broken JSON at character 2"),
        ("q.csv", b"a\n", "expected a .txt file"),
    ],
)
def test_bad_files_of_queries_name_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_queries(tmp_path / name))


def test_a_file_of_queries_that_is_not_there(tmp_path):
    with pytest.raises(CorpusError, match="cannot be read: No such file"):
        list(read_queries(tmp_path / "q.txt"))
