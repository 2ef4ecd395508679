"""`nuner-embed index` and `nuner-embed search` as a user meets them."""

import csv
import io
import json
import shutil

import pyarrow.parquet as pq
import pytest
from command import run

from nuner_embed.cli.hits import in_context
from nuner_embed.printable import cell, readable

TEXTS = [
    ("The ferry left Zürich at seven.", [(4, 9, "boat"), (15, 21, "city")]),
    ("=A ferry left at nine, the ferry came.", [(0, 8, "=boat"), (23, 32, "boat")]),
    ("Vol kova left\nthe ferry\tin\x1b[31m red", [(0, 8, "person"), (14, 23, "boat")]),
]


@pytest.fixture(scope="module")
def folder(default_model, tmp_path_factory):
    """A model, a corpus of mentions, its store and an index over it."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "m").symlink_to(default_model)
    with (folder / "c.jsonl").open("w") as lines:
        for text, spans in TEXTS:
            spans = [{"start": start, "end": end, "label": label} for start, end, label in spans]
            lines.write(json.dumps({"text": text, "spans": spans}) + "\n")
    run("encode", "c.jsonl", "-o", "store", "--model", "m", "--rows", "mention", cwd=folder, check=0)
    done = run("index", "build", "store", "-o", "index", cwd=folder, check=0)
    assert "6 rows in 1 segment" in done.stdout
    assert "exact" in done.stdout
    assert "next: nuner-embed search index" in done.stderr
    return folder


def test_a_mention_in_its_context_from_another_folder(folder, tmp_path):
    done = run("search", folder / "index", "The [[ferry]] left Zürich at seven.", "-k", "3", cwd=tmp_path, check=0)
    first = next(line for line in done.stdout.splitlines() if "1.000" in line)
    assert "The [[ferry]] left Zürich at seven." in first
    assert "boat" in first
    assert "c.jsonl:1" in first
    assert "\x1b" not in done.stdout  # neither colours nor what the corpus holds
    assert done.stdout.count("[[") == 3


def test_as_json(folder):
    done = run("search", "index", "The [[ferry]] left Zürich at seven.", "--json", "-k", "2", cwd=folder, check=0)
    found = json.loads(done.stdout)
    assert found["query"] == "The [[ferry]] left Zürich at seven."
    assert [hit["rank"] for hit in found["hits"]] == [1, 2]
    best = found["hits"][0]
    assert best["score"] == pytest.approx(1, abs=1e-3)
    assert {key: best[key] for key in ("document_id", "start", "end", "text", "label", "context")} == {
        "document_id": "c.jsonl:1", "start": 4, "end": 9, "text": "ferry", "label": "boat", "context": TEXTS[0][0],
    }  # fmt: skip


def test_csv_holds_no_formula(folder):
    done = run("search", "index", "=[[A ferry]]", "--csv", "--context", "4", cwd=folder, check=0)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert len(rows) == 6
    for row in rows:
        assert not any(
            str(row[name]).startswith(("=", "+", "@", "\t")) for name in ("query", "text", "label", "context")
        )
    assert any(row["text"] == "'=A ferry" and row["label"] == "'=boat" for row in rows)
    assert [cell(value) for value in ("+1", "-1", "@x", "x=1", -1.5, "\tx")] == [
        "'+1",
        "'-1",
        "'@x",
        "x=1",
        -1.5,
        "'\tx",
    ]


def test_control_characters_do_nothing():
    assert (
        readable("a\x1b[31mb\r\nc\u202ed\u2028e\x00")
        == "a\N{REPLACEMENT CHARACTER}[31mb  c\N{REPLACEMENT CHARACTER}d e\N{REPLACEMENT CHARACTER}"
    )
    assert readable("👩\u200d🚀 naïve שלום") == "👩\u200d🚀 naïve שלום"
    hit = {"context": "[red]b\x1b", "context_start": 5, "start": 6, "end": 9, "label": None}
    assert in_context(hit, marked=True).plain == "…[[[red]]]b\N{REPLACEMENT CHARACTER}".replace(
        "[[[red]]]", "[[[red]]]"
    )


def test_filters_and_uniqueness(folder):
    def texts(*options):
        done = run("search", "index", "the [[ferry]]", "--json", *options, cwd=folder, check=0)
        return [hit["text"] for hit in json.loads(done.stdout)["hits"]]

    assert sorted(texts("--filter", "label = 'city' OR label = 'person'")) == ["Vol kova", "Zürich"]
    assert len(texts("--unique", "surface")) == 5
    assert len(texts("--unique", "document")) == 3
    assert texts("--filter", "false") == []
    done = run(
        "search",
        "index",
        TEXTS[0][0].replace("ferry", "[[ferry]]"),
        "--json",
        "--exclude-document",
        cwd=folder,
        check=0,
    )
    assert {hit["document_id"] for hit in json.loads(done.stdout)["hits"]} == {"c.jsonl:2", "c.jsonl:3"}


def test_a_filter_without_an_end(folder):
    """DuckDB does not stop within it: the process does not wait."""
    condition = "levenshtein(repeat(text, 60000), repeat('b', 60000)) > 0"
    done = run("index", "remove", "index", "--filter", condition, "--filter-seconds", "0.2", cwd=folder, check=1)
    assert (
        "took more than 0.2 seconds and was stopped; make it simpler, or allow more with --filter-seconds"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1


def test_by_examples(folder):
    (folder / "like.jsonl").write_text(
        '{"text": "The ferry left Zürich at seven.", "spans": [{"start": 15, "end": 21, "label": "city"}, '
        '{"start": 4, "end": 9, "label": "-"}]}\n'
    )
    done = run("search", "index", "--like", "like.jsonl", "-k", "1", "--json", cwd=folder, check=0)
    assert "centroid of 1 example and 1 counter-example" in done.stderr
    assert json.loads(done.stdout)["hits"][0]["text"] == "Zürich"
    (folder / "none.txt").write_text("no spans here\n")
    assert "hold no span to look for" in run("search", "index", "--like", "none.txt", cwd=folder, check=1).stderr


@pytest.mark.slow
def test_files_of_queries(folder):
    (folder / "q.jsonl").write_text('{"id": "one", "query": "the [[ferry]]"}\n{"query": "left [[Zürich]]"}\n')
    run("search", "index", "--queries", "q.jsonl", "-o", "hits.parquet", "-k", "2", cwd=folder, check=0)
    hits = pq.read_table(folder / "hits.parquet").to_pylist()
    assert [(hit["query_id"], hit["query"], hit["rank"]) for hit in hits] == [
        ("one", "the [[ferry]]", 1), ("one", "the [[ferry]]", 2),
        ("q.jsonl:2", "left [[Zürich]]", 1), ("q.jsonl:2", "left [[Zürich]]", 2),
    ]  # fmt: skip
    lines = run("search", "index", "--queries", "q.jsonl", "--json", cwd=folder, check=0).stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["one", "q.jsonl:2"]
    table = run("search", "index", "--queries", "q.jsonl", "-k", "1", cwd=folder, check=0).stdout
    assert table.count("score") == 2
    (folder / "bad.txt").write_text("good\n[[bad\n")
    done = run("search", "index", "--queries", "bad.txt", "-o", "bad.parquet", cwd=folder, check=1)
    assert "bad.txt:2: query '[[bad'" in done.stderr
    (folder / "empty.txt").write_text("")
    (folder / "bad.parquet").write_bytes(b"kept")
    done = run("search", "index", "--queries", "empty.txt", "-o", "bad.parquet", cwd=folder, check=1)
    assert "empty.txt: holds no query" in done.stderr
    assert (folder / "bad.parquet").read_bytes() == b"kept"
    assert not list(folder.glob(".bad.parquet*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["index"], 2, "give one of QUERY, --like FILE, --concept NAME and --queries FILE"),
        (["index", "x", "--like", "c.jsonl"], 2, "give one of QUERY"),
        (["index", "x", "--min-score", "nan"], 2, "--min-score must be a number"),
        (["index", "x", "-k", "0"], 2, "0 is not in the range x>=1"),
        (["index", "x", "-o", "."], 2, "File '.' is a directory"),
        (["index", "x", "-o", "no/hits.parquet"], 2, "there is no folder no to write hits.parquet into"),
        (["index", "x", "--json", "--csv"], 2, "give --json or --csv, not both"),
        (["index", "x", "--json", "-o", "x.parquet"], 2, "-o writes Parquet; leave it out"),
        (["index", "[[a]] [[b]]"], 1, "mark one mention"),
        (["index", "a \udc80 [[b]]"], 1, "query 'a \\udc80 [[b]]' holds a lone surrogate, which is not text"),
        (["index", "--concept", "ci\udc80ty"], 2, "a concept is text, and 'ci\\udc80ty' holds a lone surrogate"),
        (["index", "x", "--filter", "colour = 1"], 1, 'column "colour" not found'),
        (["index", "x", "--model", "other"], 1, "vectors of two encoders or recipes cannot be compared"),
        (["index", "x", "--model", "nothing"], 1, "no directory and no known model is called 'nothing'"),
        (["store", "x"], 1, "is not the manifest of an index"),
        (["nowhere", "x"], 1, "holds no index; nuner-embed index build makes one"),
        (["c.jsonl", "x"], 1, "c.jsonl holds no index; nuner-embed index build makes one"),
        (["index", "--like", "missing.jsonl"], 1, "missing.jsonl"),
    ],
)
def test_one_line_each(folder, arguments, code, message):
    if not (folder / "other").exists():  # the same, but for what it says of its weights
        shutil.copytree(folder / "m", folder / "other")
        facts = json.loads((folder / "other" / "export.json").read_text())
        del facts["sha256"]  # as in an export of an earlier version
        (folder / "other" / "export.json").write_text(json.dumps({**facts, "weights_sha256": "0" * 64}))
    done = run("search", *arguments, cwd=folder, check=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_a_life_of_an_index(folder, tmp_path):
    (tmp_path / "more.jsonl").write_text(
        '{"text": "the red ferry", "spans": [{"start": 8, "end": 13, "label": "boat"}]}\n'
    )
    run("encode", "more.jsonl", "-o", "more", "--model", folder / "m", "--rows", "mention", cwd=tmp_path, check=0)
    run("index", "build", folder / "store", "-o", "i", cwd=tmp_path, check=0)
    assert "or replace it with --force" in run("index", "build", "more", "-o", "i", cwd=tmp_path, check=1).stderr
    added = json.loads(run("index", "add", "i", "more", "--json", cwd=tmp_path, check=0).stdout)
    assert (added["rows"], len(added["segments"])) == (7, 2)
    again = run("index", "add", "i", "more", cwd=tmp_path, check=1)
    assert "more was added before; nothing was added. --again" in again.stderr
    (tmp_path / "ids").write_text("0\n\n6\n99\n")
    removed = json.loads(run("index", "remove", "i", "--ids", "ids", "--json", cwd=tmp_path, check=0).stdout)
    assert (removed["removed_now"], removed["removed"], removed["rows"]) == (2, 2, 5)
    removed = run("index", "remove", "i", "--document", "c.jsonl:2", "--document", "o'none", cwd=tmp_path, check=0)
    assert "2 rows removed" in removed.stdout
    removed = run("index", "remove", "i", "--filter", "label = 'city'", cwd=tmp_path, check=0)
    assert "1 row removed" in removed.stdout
    assert "2 rows in 1 segment" in run("index", "compact", "i", cwd=tmp_path, check=0).stdout
    assert "unchanged" in run("index", "compact", "i", cwd=tmp_path, check=0).stderr
    assert "searches find what they should" in run("index", "verify", "i", cwd=tmp_path, check=0).stderr
    facts = json.loads(run("index", "info", "i", "--json", cwd=tmp_path, check=0).stdout)
    assert (facts["rows"], facts["removed"], facts["granularity"]) == (2, 0, "mention")
    shown = run("index", "info", "i", cwd=tmp_path, check=0).stdout
    assert "semantic_hash" in shown
    assert "every row is looked at" in shown
    path = next((tmp_path / "i").rglob("vectors.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    broken = run("index", "verify", "i", cwd=tmp_path, check=1)
    assert "vectors.npy is not what was written" in broken.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["build", "store", "-o", "x", "--kind", "hsnw"], 2, "'hsnw' is neither auto, flat, hnsw"),
        (["build", "store", "-o", "x", "--max-memory", "lots"], 2, "'lots' is not a size such as 500MB or 2GB"),
        (["build", "store", "-o", "x", "--target-recall", "95"], 2, "95.0 is not in the range"),
        (["build", "nostore", "-o", "x"], 1, "holds no store"),
        (["build", "store", "-o", "c.jsonl"], 1, "c.jsonl is a file; name a directory for an index"),
        (["build", "store", "-o", "x", "--gpu"], 1, "no GPU that FAISS can use"),
        (["remove", "index"], 2, "name what to remove"),
        (["remove", "index", "--ids", "c.jsonl"], 1, "c.jsonl:1: "),
        (["info", "store"], 1, "is not the manifest of an index"),
    ],
)
def test_index_mistakes_are_one_line(folder, arguments, code, message):
    done = run("index", *arguments, cwd=folder, check=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "x").exists()


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        (b"0\n99999999999999999999\n", 2, "'99999999999999999999'"),
        (b"\xef\xbb\xbf0\r\n\r\n-1\r\n", 3, "'-1'"),
        (b"1.0\n", 1, "'1.0'"),
        (b"1 2\n", 1, "'1 2'"),
        (b"0x1\n", 1, "'0x1'"),
        (b"1_0\n", 1, "'1_0'"),
        ("٣\n".encode(), 1, "'٣'"),
        (b"0\n\xff\xfe\x00PAR1", 2, "'\ufffd\ufffd\\x00PAR1'"),
        (b"9" * 10_000, 1, "'" + "9" * 40 + "'"),
    ],
)
def test_a_file_of_ids_that_are_none(folder, content, line, shown):
    """One line that names file and line, and nothing is removed."""
    (folder / "ids").write_bytes(content)
    done = run("index", "remove", "index", "--ids", "ids", cwd=folder, check=1)
    (said,) = done.stderr.splitlines()
    assert said.startswith(f"Error: ids:{line}: {shown} is not an id; expected one whole number per line")
    assert json.loads(run("index", "info", "index", "--json", cwd=folder, check=0).stdout)["removed"] == 0


@pytest.mark.slow
def test_an_emptied_index(folder, tmp_path):
    """By every way to ask, before and after compact."""
    (tmp_path / "like.jsonl").write_text('{"text": "a ferry", "spans": [{"start": 2, "end": 7, "label": "boat"}]}\n')
    (tmp_path / "q.txt").write_text("a [[ferry]]\n")
    run("index", "build", folder / "store", "-o", "i", cwd=tmp_path, check=0)
    run("index", "remove", "i", "--filter", "true", cwd=tmp_path, check=0)
    two = ["--concept", "boat", "--concept", "city", "--not", "person", "--unique", "surface"]
    others = [["--like", "like.jsonl", "--unique", "document"], ["--queries", "q.txt"], ["--concept", "boat"]]
    for compacted in (False, True):
        for question in [two, *others] if compacted else [two]:
            done = run("search", "i", *question, "--model", folder / "m", cwd=tmp_path, check=0)
            assert "nothing found" in done.stdout
            assert "i holds no row" in done.stderr
        done = run("search", "i", "ferry", "--json", "--filter", "true", cwd=tmp_path, check=0)
        assert json.loads(done.stdout)["hits"] == []
        run("search", "i", "ferry", "-o", "hits.parquet", cwd=tmp_path, check=0)
        assert pq.read_table(tmp_path / "hits.parquet").num_rows == 0
        assert "label" in pq.read_schema(tmp_path / "hits.parquet").names
        assert 'column "colour" not found' in run("search", "i", "x", "--filter", "colour = 1", cwd=tmp_path).stderr
        read = f"read: i, 0 rows in {'0 segments' if compacted else '1 segment'}\nmade: nothing; the files are intact\n"
        assert read in run("index", "verify", "i", cwd=tmp_path, check=0).stderr
        assert json.loads(run("index", "info", "i", "--json", cwd=tmp_path, check=0).stdout)["rows"] == 0
        shown = run("index", "info", "i", cwd=tmp_path, check=0).stdout
        assert shown.splitlines()[1].split()[-1] == "0"
        run("index", "compact", "i", cwd=tmp_path, check=0)
    run("index", "add", "i", folder / "store", cwd=tmp_path, check=0)
    assert "ferry" in run("search", "i", "ferry", "--model", folder / "m", cwd=tmp_path, check=0).stdout


def test_few_rows_are_flat_and_the_report_says_so(folder, tmp_path):
    done = run("index", "build", folder / "store", "-o", "i", "--kind", "ivf", cwd=tmp_path, check=0)
    assert "6 rows, Flat" in done.stdout
    assert "flat: so few rows are looked at one by one, though ivf was asked for" in done.stdout
    done = run("index", "build", folder / "store", "-o", "j", "--kind", "IVF64,Flat", cwd=tmp_path, check=2)
    assert "FAISS cannot train on 6 rows" in done.stderr.splitlines()[-1]
    assert "--kind flat" in done.stderr.splitlines()[-1]
