"""What a filter lets through, and what it cannot do."""

import subprocess
import sys
import time

import numpy as np
import pytest
from stores import make_store

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes import Index


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filtering")
    index = Index.build(make_store(folder / "a", 1, documents=6), folder / "in[d]ex 'quoted'", kind="flat")
    index.add(make_store(folder / "b", 2, documents=3))
    return index


def matching(index, condition):
    return index.rows(index.ids(condition)).to_pylist()


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('start >= 10 AND "end" < 90', lambda row: row["start"] >= 10 and row["end"] < 90),
        ("text LIKE 'b%' or token = 3", lambda row: row["text"].startswith("b") or row["token"] == 3),
        ("document_id = 'b.txt:2'", lambda row: row["document_id"] == "b.txt:2"),
        ("label IS NULL AND length(text) = 2", lambda row: len(row["text"]) == 2),
        ("regexp_matches(TEXT, '^[a-m]')", lambda row: "a" <= row["text"][0] <= "m"),
        ("text = 'it''s; DROP TABLE rows'", lambda row: False),
        ("true", lambda row: True),
        ("label = 'x'", lambda row: False),
        ("token = token -- and nothing more", lambda row: True),
    ],
)
def test_it_means_what_sql_means(index, condition, holds):
    every = index.rows(index.ids()).to_pylist()
    expected = [row["id"] for row in every if holds(row)]
    assert [row["id"] for row in matching(index, condition)] == expected
    found = index.search(np.ones(16), k=10**6, filter=condition)
    assert sorted(found.ids[0].tolist()) == expected


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("colour = 'red'", 'column "colour" not found'),
        ("text = ", "syntax error"),
        ("", "Parser Error"),
        ("text", "is of type VARCHAR; it must be true or false"),
        ("start + 1", "is of type BIGINT"),
        ("true; DROP TABLE rows", "Parser Error"),
        ("true) OR (true", "syntax error"),
        ("1=1) UNION SELECT 1 --", "syntax error"),
        ("true, text", "Parser Error|is of type"),
        ("sum(start) > 3", "aggregates"),
        ("EXISTS (SELECT 1 FROM read_text('/etc/passwd'))", "Permission|disabled"),
        ("EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))", "Permission|disabled"),
        ("EXISTS (SELECT 1 FROM glob('/*'))", "Permission|disabled"),
        ("EXISTS (SELECT 1 FROM '/etc/passwd')", "does not exist|disabled"),
        ("EXISTS (FROM sniff_csv('/etc/passwd'))", "Permission|disabled"),
        ("getenv('HOME') IS NOT NULL", "does not exist"),
        ("EXISTS (SELECT 1 FROM every)", "does not exist"),  # a variable of the caller
        ("COPY (SELECT 1) TO '/tmp/x'", "syntax error"),
        ("(ATTACH '/tmp/x.db')", "syntax error|does not exist|not found"),
        ("(SET enable_external_access = true)", "syntax error|does not exist|not found"),
        ("(INSTALL httpfs)", "syntax error|does not exist|not found"),
    ],
)
def test_what_is_no_condition_is_one_line(index, condition, reason):
    every = index.ids()
    for call in (index.check_filter, lambda filter: index.search(np.ones(16), filter=filter), index.remove_where):
        with pytest.raises(IndexBundleError, match=reason) as caught:
            call(condition)
        assert "\n" not in str(caught.value)
        assert "It is one SQL condition over document_id, start" in str(caught.value) or "must be true" in str(
            caught.value
        )
    np.testing.assert_array_equal(index.ids(), every)


# DuckDB looks whether it is to stop during the first, and not during the second, for which it needs some seconds.
ENDLESS = ["(SELECT count(*) FROM range(100000000000)) > 0", "levenshtein(repeat(text, 9000), repeat('b', 9000)) > 0"]


@pytest.mark.parametrize("condition", ENDLESS)
def test_it_may_not_take_for_ever(index, condition):
    opened = Index.open(index.path, filter_seconds=0.2)
    for call in (lambda: opened.ids(condition), lambda: opened.snapshot().search(np.ones(16), filter=condition)):
        began = time.monotonic()
        with pytest.raises(IndexBundleError, match=r"took more than 0.2 seconds and was stopped; .*--filter-seconds"):
            call()
        assert time.monotonic() - began < 10
    opened.filter_seconds = 60
    assert len(opened.ids("label IS NULL")) == len(opened)


INTERRUPTED = """
import os, signal, sys, threading, nuner_embed
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
index = nuner_embed.Index.open(sys.argv[1])
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    index.ids(sys.argv[2])
except KeyboardInterrupt:
    print("interrupted", flush=True)
os._exit(0)
"""


def test_ctrl_c_stops_it(index):
    """DuckDB itself heeded it after the query."""
    command = [sys.executable, "-c", INTERRUPTED, str(index.path), ENDLESS[0]]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.endswith("interrupted\n")
