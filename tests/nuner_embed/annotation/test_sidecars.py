"""Files beside an annotated corpus: ours are replaced, others are left alone."""

import json
from collections import Counter
from pathlib import Path

import pytest
from command import run

from nuner_embed.annotation.report import AnnotationReport, beside, frequency_figure, require_own_sidecars
from nuner_embed.errors import AnnotationError

SUFFIXES = [".report.json", ".frequencies.png", ".review.html"]


@pytest.fixture
def replies(tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"text": "The ferry left.", "reply": "ferry <> boat"}\n')
    return ["annotate", "replies.jsonl", "-o", "out.jsonl", "--sample-review", 5]


def test_names():
    names = [beside(Path(name), ".png").name for name in ("a.jsonl", "a.jsonl.gz", "a")]
    assert names == ["a.png"] * 3


def test_ours_are_replaced(tmp_path, replies):
    run(*replies, cwd=tmp_path, check=0)
    run(*replies, cwd=tmp_path, check=0)
    require_own_sidecars(tmp_path / "out.jsonl", review=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"my own notes\n", b"{}", b'{"replies": 3}', b"\x89PNG\r\n\x1a\n", b"[" * 5000, b"<!doctype html>"]
)
def test_others_are_left_alone(tmp_path, replies, suffix, content):
    stranger = tmp_path / f"out{suffix}"
    stranger.write_bytes(content)
    done = run(*replies, cwd=tmp_path, check=1)
    assert f"out{suffix} was not written by annotate" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert stranger.read_bytes() == content
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", ["link", "broken link", "folder"])
def test_links_and_folders_are_left_alone(tmp_path, replies, suffix, what):
    run(*replies, cwd=tmp_path, check=0)
    path = tmp_path / f"out{suffix}"
    path.rename(tmp_path / "elsewhere")
    if what == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("elsewhere" if what == "link" else "nowhere"))
    before = (tmp_path / "elsewhere").read_bytes()
    assert "was not written by annotate" in run(*replies, cwd=tmp_path, check=1).stderr
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_a_page_that_is_not_asked_for_is_not_looked_at(tmp_path, replies):
    (tmp_path / "out.review.html").write_text("mine")
    run(*replies[:4], cwd=tmp_path, check=0)
    assert (tmp_path / "out.review.html").read_text() == "mine"


def test_the_figure_of_a_version_that_did_not_sign_is_ours(tmp_path):
    figure = frequency_figure(Counter({"boat": 2, "city": 1}))
    assert b"Software\0nuner-embed" in figure
    path = tmp_path / "out.frequencies.png"
    path.write_bytes(figure.replace(b"Software\0nuner-embed", b"Software\0Matplotlib version3"))
    require_own_sidecars(tmp_path / "out.jsonl")
    path.write_bytes(path.read_bytes()[:16] + bytes(8) + path.read_bytes()[24:])
    with pytest.raises(AnnotationError):
        require_own_sidecars(tmp_path / "out.jsonl")


def test_a_report_of_ours_is_known(tmp_path):
    (tmp_path / "out.report.json").write_text(json.dumps(AnnotationReport().to_dict()))
    require_own_sidecars(tmp_path / "out.jsonl")


def test_a_dry_run_changes_no_file(tmp_path):
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    (tmp_path / "out.replies.jsonl").write_text("notes of somebody else")
    (tmp_path / "out.report.json").write_text("notes")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command = ["annotate", "corpus.txt", "-o", "out.jsonl", "--llm", "m", "--base-url", "http://127.0.0.1:9/v1"]
    done = run(*command, "--dry-run", cwd=tmp_path, check=1)
    assert "out.replies.jsonl holds no kept replies" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_instruction_is_no_output(tmp_path):
    (tmp_path / "corpus.txt").write_text("the Anna sails\n")
    (tmp_path / "do.jsonl").write_text("Annotate {text}")
    command = ["annotate", "corpus.txt", "-o", "do.jsonl", "--llm", "m", "--base-url", "http://127.0.0.1:9/v1"]
    assert "name another output" in run(*command, "--instruction", "do.jsonl", cwd=tmp_path, check=1).stderr
    assert (tmp_path / "do.jsonl").read_text() == "Annotate {text}"
