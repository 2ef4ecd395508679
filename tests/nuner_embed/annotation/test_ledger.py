"""The kept replies: nothing that was paid for is lost, nothing of somebody else's is touched."""

import json
import os
import resource
import signal
from contextlib import contextmanager

import pytest
from six_texts import TEXTS

from nuner_embed import Corpus
from nuner_embed.annotation.instruction import Instruction
from nuner_embed.annotation.job import estimate
from nuner_embed.annotation.ledger import KeptReply, open_ledger, read_ledger
from nuner_embed.annotation.server import LLMServer
from nuner_embed.errors import AnnotationError


def kept(number, reply="ferry <> boat"):
    return KeptReply(f"{number:032x}", f"text {number}", reply, "stop", "m", "m-1", 3, 4)


@pytest.fixture
def path(tmp_path):
    with open_ledger(tmp_path / "x.replies.jsonl") as ledger:
        ledger.add(kept(1))
        ledger.add(kept(2))
    return tmp_path / "x.replies.jsonl"


def test_what_is_kept_is_found_again(path):
    with open_ledger(path) as ledger:
        assert (len(ledger), ledger.prompt_tokens, ledger.models) == (2, 6, {"m"})
        assert ledger.reply(f"{2:032x}", "an id").text == "text 2"


def test_a_reply_longer_than_what_is_read_at_once(path):
    long = "x" * 200_000
    with open_ledger(path) as ledger:
        ledger.add(kept(3, long))
        assert (ledger.reply(f"{3:032x}", "").reply, ledger.reply(f"{1:032x}", "").text) == (long, "text 1")


@pytest.mark.parametrize("cut", [1, 2, 40, 160])
def test_estimating_changes_nothing_whatever_the_last_line_is(path, cut):
    path.write_bytes(path.read_bytes()[:-cut])
    before = path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())
    with read_ledger(path) as ledger:
        assert len(ledger) == (2 if cut == 1 else 1)
    assert (path.read_bytes(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())) == before


def test_estimating_makes_no_file(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    with Corpus([tmp_path / "corpus.txt"]) as corpus:
        estimate(corpus, tmp_path / "x.jsonl", LLMServer("m", "http://localhost/v1"), Instruction.open_ended())
    assert list(tmp_path.iterdir()) == [tmp_path / "corpus.txt"]


def test_a_last_line_without_its_line_feed_is_kept_and_the_next_gets_a_line_of_its_own(path):
    path.write_bytes(path.read_bytes()[:-1])
    with open_ledger(path) as ledger:
        ledger.add(kept(3))
    with read_ledger(path) as ledger:
        assert [ledger.reply(key, "").text for key in ledger.keys()] == ["text 1", "text 2", "text 3"]  # noqa: SIM118


def test_a_half_written_line_is_replaced_when_the_next_reply_comes_and_not_before(path):
    whole = path.read_bytes()
    half = whole + whole[:50]
    path.write_bytes(half)
    with open_ledger(path):
        pass
    assert path.read_bytes() == half
    with open_ledger(path) as ledger:
        ledger.add(kept(3))
    assert path.read_bytes().startswith(whole + b'{"key": "00000000000000000000000000000003"')


@pytest.mark.parametrize("length", [1, 8, 9, 20, 41, 53, 60, 100])
def test_a_first_line_that_is_half_written_is_ours(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with open_ledger(path) as ledger:
        assert len(ledger) == 0
        ledger.add(kept(7))
    assert json.loads(path.read_text())["text"] == "text 7"


@pytest.mark.parametrize(
    "content",
    [
        b"my notes\n",
        b"my notes",
        b'{"text": "the ferry", "reply": "ferry <> boat"}\n',
        b'{"key": "abc", "text": "a"}\n',
        b'{"key": 3}\n',
        b'{"kez',
        b"\n",
        b"\0" * 100,
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
def test_a_file_of_somebody_else_is_left_alone(tmp_path, content):
    path = tmp_path / "x.replies.jsonl"
    path.write_bytes(content)
    for opening in (open_ledger, read_ledger):
        with pytest.raises(AnnotationError, match="holds no kept replies.*name another output"), opening(path):
            pass
        assert path.read_bytes() == content


def test_an_empty_file_is_nobodys(tmp_path):
    path = tmp_path / "x.replies.jsonl"
    path.touch()
    with open_ledger(path) as ledger:
        ledger.add(kept(1))
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("what", ["folder", "pipe"])
def test_what_is_no_file(tmp_path, what):
    path = tmp_path / "x.replies.jsonl"
    path.mkdir() if what == "folder" else os.mkfifo(path)
    for opening in (open_ledger, read_ledger):
        with pytest.raises(AnnotationError, match=r"x\.replies\.jsonl (is not a regular file|cannot be opened)"):
            opening(path).__enter__()


def test_a_link_is_followed_to_its_file_and_the_lock_lies_there(tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "x.replies.jsonl"
    link.symlink_to(tmp_path / "there" / "y.jsonl")
    with open_ledger(link) as ledger:
        ledger.add(kept(1))
        assert (tmp_path / "there" / ".y.jsonl.lock").exists()
        with pytest.raises(AnnotationError, match="being written by another"), open_ledger(tmp_path / "there/y.jsonl"):
            pass
    assert link.is_symlink()
    assert len((tmp_path / "there" / "y.jsonl").read_bytes().splitlines()) == 1


def test_a_link_to_a_strangers_file_is_not_written_through(tmp_path):
    (tmp_path / "precious").write_text("notes\n")
    (tmp_path / "x.replies.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(AnnotationError, match="holds no kept replies"), open_ledger(tmp_path / "x.replies.jsonl"):
        pass
    assert (tmp_path / "precious").read_text() == "notes\n"


@pytest.mark.parametrize(
    "change",
    [
        {"prompt_tokens": -1},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": 10**30},
        {"reply": None},
        {"reply": "\ud800"},
        {"text": ["a"]},
        {"key": "x"},
        {"model": 3},
    ],
)
def test_a_line_that_does_not_fit_is_named(path, change):
    first, second = path.read_bytes().splitlines(keepends=True)
    bad = json.dumps({**json.loads(second), **change}).encode() + b"\n"
    path.write_bytes(first + bad + second)
    with pytest.raises(AnnotationError, match=r"x\.replies\.jsonl:2: not a line of kept replies \("), read_ledger(path):
        pass


@contextmanager
def files_of_at_most(size):
    """As a full disk: what would make a file longer than this fails, in part or as a whole."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_whole_lines_and_the_next_reply_that_fits_is_kept(path):
    before = path.read_bytes()
    with open_ledger(path) as ledger:
        with files_of_at_most(len(before) + 300):
            with pytest.raises(AnnotationError, match="cannot be written: .*; the replies in it are intact"):
                ledger.add(kept(3, "x" * 1000))
            assert path.read_bytes() == before
            ledger.add(kept(4))
        ledger.add(kept(5))
    with read_ledger(path) as ledger:
        assert len(ledger) == 4


def test_a_full_disk_ends_the_job_and_keeps_what_fits(llm, job, tmp_path):
    job(TEXTS[:1])
    size = (tmp_path / "out.replies.jsonl").stat().st_size
    llm.seconds = 0.2
    with (
        files_of_at_most(size * 3),
        pytest.raises(AnnotationError, match=r"cannot be written: .*\(\d of the replies that came could not be kept\)"),
    ):
        job(concurrency=4)
    with read_ledger(tmp_path / "out.replies.jsonl") as ledger:
        assert len(ledger) >= 2
    llm.seconds = 0
    asked = len(llm.requests)
    assert job()[1].unanswered == 0
    assert len(llm.requests) - asked == 6 - len(ledger)
