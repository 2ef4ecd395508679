"""Whatever ends a command is one line, with a hint at --debug."""

import errno
import resource
import subprocess
import sys

import pyarrow as pa
import pytest
from command import run

from nuner_embed.cli import commands
from nuner_embed.cli.commands import line_for
from nuner_embed.errors import NunerEmbedError


class SafetensorError(Exception):
    __module__ = "safetensors_rust"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; --debug shows where"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "x: too many files are open at once; ulimit -n shows"),
        (MemoryError(), "there is not enough memory; "),
        (pa.ArrowMemoryError("malloc of size 64 failed"), "there is not enough memory; "),
        (RuntimeError("std::bad_alloc"), "there is not enough memory; "),
        (RecursionError("maximum recursion depth exceeded"), "something is nested too deeply"),
        (pa.ArrowInvalid("Not a\nParquet file"), "pyarrow: Not a; --debug shows where"),
        (SafetensorError("header too large"), "safetensors_rust: header too large; --debug shows where"),
        (KeyError("rows"), "this is a fault of nuner-embed itself: KeyError: 'rows'; --debug shows where"),
        (AssertionError(), "this is a fault of nuner-embed itself: AssertionError; --debug shows where"),
    ],
)
def test_a_line_for_each(monkeypatch, error, line):
    assert line_for(error).startswith(line)

    def fail():
        raise error

    monkeypatch.setattr(commands, "_run", fail)
    done = run("models", "list")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {line}")
    assert done.stderr.count("\n") == 1
    with pytest.raises(type(error)):
        run("--debug", "models", "list")


def test_a_line_that_quotes_too_much_lacks_its_middle(monkeypatch):
    def fail():
        raise NunerEmbedError(f"beginning {'x' * 5000} end")

    monkeypatch.setattr(commands, "_run", fail)
    line = run("models", "list").stderr
    assert line.startswith("Error: beginning xxx")
    assert line.endswith("xxx end\n")
    assert " ... " in line
    assert len(line) < 1100


def test_an_error_of_a_library_by_the_code_that_raised_it():
    import faiss

    with pytest.raises(RuntimeError) as raised:
        faiss.index_factory(8, "nothing")
    assert line_for(raised.value).startswith("faiss: ")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["search", "index", "ferry"], ["store", "verify", "store"], ["doctor"]])
def test_few_descriptors(workshop, arguments):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    command = [sys.executable, "-m", "nuner_embed.cli", *arguments]
    done = subprocess.run(command, cwd=workshop, capture_output=True, text=True, preexec_fn=limit)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or done.stderr.count("\n") == 1, done.stderr
