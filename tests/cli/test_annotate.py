"""`nuner-embed annotate` as people run it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from command import run, run_apart
from llm_server import KEY, serve

REPLIES = [
    {"text": "The ferry left Kiel.", "reply": "ferry <> boat <> x\nKiel <> city\nOslo <> city"},
    {"text": "Oslo is cold.", "reply": "1. Oslo <> city\nnothing"},
    {"text": "Sorry?", "reply": "I'm sorry, I cannot"},
]


@pytest.fixture
def replies(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in REPLIES))
    return path


@pytest.fixture
def llm(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(lambda text: f"{text.split()[1]} <> boat <> x") as server:
        yield server


def test_replies_that_are_there(replies, tmp_path):
    done = run("annotate", "replies.jsonl", "-o", "out.jsonl", "--sample-review", 100, cwd=tmp_path, check=0)
    assert "2 of 3 with a reply" in done.stdout
    assert "dropped sentences: 1, refusal" in done.stdout
    assert "dropped annotations: 1, entity that is not in the text" in done.stdout
    spans = [json.loads(line)["spans"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[span["label"] for span in found] for found in spans] == [["boat", "city"], ["city"]]
    assert (tmp_path / "out.frequencies.png").read_bytes().startswith(b"\x89PNG")
    assert "3 annotations of out.jsonl" in (tmp_path / "out.review.html").read_text()
    facts = json.loads((tmp_path / "out.report.json").read_text())
    assert (facts["sentences"], facts["annotations"]) == (2, 3)
    again = run("annotate", "replies.jsonl", "-o", "out.jsonl", "--json", cwd=tmp_path, check=0)
    assert json.loads(again.stdout) == facts


def test_replies_from_standard_input(tmp_path):
    done = run(
        "annotate", "-", "-o", "out.jsonl", cwd=tmp_path, stdin='{"text": "Kiel", "reply": "Kiel <> x"}\n', check=0
    )
    assert "1 of 1 with a reply" in done.stdout


def test_no_key_in_a_traceback(llm, tmp_path):
    llm.misbehave = lambda number, text, handler: handler.fail(401, f"wrong key {KEY}")
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    done = run_apart(
        "--debug",
        "annotate",
        "corpus.txt",
        "-o",
        "out.jsonl",
        "--llm",
        "m",
        "--base-url",
        llm.url,
        cwd=tmp_path,
        check=1,
    )
    assert "Traceback" in done.stderr
    assert KEY not in done.stdout + done.stderr


def test_an_llm(llm, tmp_path):
    (tmp_path / "corpus.txt").write_text("the Anna sails\nthe Berta sails\n")
    command = ["annotate", "corpus.txt", "-o", "out.jsonl.gz", "--llm", "m", "--base-url", llm.url]
    dry = run(*command, "--dry-run", "--prices", 1, 2, cwd=tmp_path, check=0)
    assert "2, 0 of them answered already" in dry.stdout
    assert llm.requests == []
    done = run(*command, cwd=tmp_path, check=0)
    assert "2 texts: 0 answered before, 2 now in 2 requests, 0 without a reply" in done.stderr
    assert "2, from 2 lines" in done.stdout
    run(*command, cwd=tmp_path, check=0)
    assert len(llm.requests) == 2
    assert KEY not in done.stdout + done.stderr


def test_options_of_a_request(llm, tmp_path):
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    command = ["annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", llm.url]
    given = ["top_p=0.5", 'stop=["a", "b"]', "mode=fast", "x=NaN", "kwargs.enable_thinking=false", "kwargs.a.b=1=2"]
    options = [part for one in given for part in ("--llm-option", one)]
    assert "1, 0 of them answered already" in run(*command, *options, "--dry-run", cwd=tmp_path, check=0).stdout
    run(*command, *options, cwd=tmp_path, check=0)
    (request,) = llm.requests
    assert {name: request[name] for name in ("top_p", "stop", "mode", "x", "kwargs")} == {
        "top_p": 0.5, "stop": ["a", "b"], "mode": "fast", "x": "NaN",
        "kwargs": {"enable_thinking": False, "a": {"b": "1=2"}},
    }  # fmt: skip
    assert "1, 1 of them answered already" in run(*command, *options, "--dry-run", cwd=tmp_path, check=0).stdout
    assert "1, 0 of them answered already" in run(*command, "--dry-run", cwd=tmp_path, check=0).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["thinking"], "'thinking' is not of the form NAME=VALUE, such as enable_thinking=false"),
        (["=1"], "is not of the form NAME=VALUE"),
        (["a..b=1"], "is not of the form NAME=VALUE"),
        (["a=1", "a=2"], "a is given twice"),
        (["a=1", "a.b=2"], "a.b is given twice"),
        (["a.b=1", "a=2"], "a is given twice"),
        (["temperature=1"], "--llm-option temperature: cannot be set this way; use --temperature"),
    ],
)
def test_options_that_are_none(llm, tmp_path, options, message):
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    given = [part for one in options for part in ("--llm-option", one)]
    done = run("annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", llm.url, *given, cwd=tmp_path)
    assert (done.returncode, llm.requests) == (1 if "temperature" in message else 2, [])
    assert message in done.stderr


def test_a_proxy_that_cannot_be_used_is_one_line(llm, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:port")
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    command = ["annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", llm.url]
    done = run(*command, cwd=tmp_path, check=1)
    assert "Error: the environment variable HTTPS_PROXY names no proxy that can be used; expected" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_texts_without_a_reply_are_an_error_and_the_others_are_written(llm, tmp_path):
    llm.misbehave = lambda number, text, handler: "Anna" in text and handler.fail(400, "too odd")
    (tmp_path / "corpus.txt").write_text("the Anna sails\nthe Berta sails\n")
    command = ["annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", llm.url]
    done = run(*command, cwd=tmp_path, check=1)
    assert "Error: 1 text got no reply (1: HTTP 400: too odd); the same command asks again" in done.stderr
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 1


def test_killed_and_run_again_it_pays_for_nothing_twice(llm, tmp_path):
    llm.seconds = 0.05
    (tmp_path / "corpus.txt").write_text("".join(f"the Anna{i} sails\n" for i in range(120)))
    command = ["annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", llm.url, "--concurrency", "4"]
    process = subprocess.Popen([sys.executable, "-m", "nuner_embed.cli", *command], cwd=tmp_path, env=dict(os.environ))
    while len(llm.requests) < 20:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run(*command, cwd=tmp_path, check=0)
    texts = llm.asked
    assert len(set(texts)) == 120
    assert len(texts) <= 124  # only what was under way when it died
    kept = [json.loads(line)["text"] for line in (tmp_path / "out.replies.jsonl").read_text().splitlines()]
    assert len(kept) == len(set(kept)) == 120


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["corpus.txt", "-o", "out.jsonl"], 1, "holds no replies that can be read"),
        (["none.jsonl", "-o", "out.jsonl"], 1, "none.jsonl: no such file"),
        (["replies.jsonl", "-o", "out.txt"], 2, "must end in .jsonl or .jsonl.gz"),
        (["replies.jsonl", "-o", "replies.jsonl"], 1, "name another output"),
        (["replies.jsonl", "-o", "no/out.jsonl"], 2, "there is no folder no to write out.jsonl into"),
        (["replies.jsonl", "-o", "out.jsonl", "--dry-run"], 2, "--dry-run goes with --llm"),
        (["replies.jsonl", "-o", "out.jsonl", "--temperature", "1"], 2, "--temperature goes with --llm"),
        (["replies.jsonl", "-o", "out.jsonl", "--llm-option", "a=1"], 2, "--llm-option goes with --llm"),
        (["replies.jsonl", "-o", "out.jsonl", "--prices", "1", "1"], 2, "--prices goes with --dry-run"),
        ([".", "-o", "out.jsonl"], 1, "name an output outside of that directory"),
        (["empty.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", "http://127.0.0.1:9/v1"], 1, "no documents"),
        (
            ["corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", "http://127.0.0.1:9/v1", "--retries", "0"],
            1,
            "127.0.0.1:9/v1 does not answer: no text got a reply (the connection failed",
        ),
        (["corpus.txt", "-o", "out.jsonl", "--llm", "m", "--instruction", "none.md"], 1, "the instruction cannot be"),
        (["corpus.txt", "-o", "out.jsonl", "--llm", "m"], 1, "OPENAI_API_KEY holds no API key"),
    ],
)
def test_bad_input_is_one_line(replies, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    (tmp_path / "corpus.txt").write_text("one\n")
    (tmp_path / "empty.txt").write_text("")
    before = replies.read_bytes()
    done = run("annotate", *arguments, cwd=tmp_path, check=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    assert replies.read_bytes() == before
