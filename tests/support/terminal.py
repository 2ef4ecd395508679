"""The command line on a pseudo-terminal, and what is to be seen on it."""

import contextlib
import os
import re
import termios
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from command import call

_PART = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)|(.)", re.DOTALL)


def run_on_terminal(*arguments: Any, cwd: Path, to: Path | None = None, check: int | None = None) -> Any:
    """Runs `nuner-embed` in this process on a terminal.

    Args:
        arguments: of the command line.
        cwd: the folder that it runs in.
        to: a file that standard output is redirected to; else it is the terminal's too.
        check: the exit code that it must have.

    Returns:
        `returncode`, and `raw`, the text that the terminal was sent.
    """
    ours, theirs = os.openpty()
    settings = termios.tcgetattr(theirs)
    settings[1] &= ~termios.OPOST  # line ends as they were written
    termios.tcsetattr(theirs, termios.TCSANOW, settings)
    received: list[bytes] = []

    def receive() -> None:
        with contextlib.suppress(OSError):  # how Linux says that nobody has the terminal open any more
            while data := os.read(ours, 65536):
                received.append(data)

    reader = threading.Thread(target=receive)
    reader.start()
    try:
        with (
            open(theirs, closefd=False) as stdin,
            open(theirs, "w", encoding="utf-8", closefd=False) as stderr,
            open(to or theirs, "w", encoding="utf-8", closefd=to is not None) as stdout,
            mock.patch.dict(os.environ, {"TERM": "xterm-256color"}),
        ):
            code = call(arguments, cwd, {"stdin": stdin, "stdout": stdout, "stderr": stderr})
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    raw = b"".join(received).decode()
    if check is not None:
        assert code == check, raw
    return SimpleNamespace(returncode=code, raw=raw)


def screen(raw: str) -> list[str]:
    """The lines that a terminal of any height shows in the end, without colours and blanks at their ends.

    Raises:
        ValueError: it was sent something that is neither a text nor what a progress bar needs.
    """
    lines, row, column = [""], 0, 0
    for numbers, letter, end, text, other in _PART.findall(raw):
        if end == "\r":
            column = 0
        elif end == "\n":
            row, column = row + 1, 0  # as a terminal's driver does it
            lines += [""] * (row + 1 - len(lines))
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif letter == "A":
            row = max(0, row - int(numbers or 1))
        elif letter == "K":
            lines[row] = ""
        elif other or letter not in "mhl":
            raise ValueError(f"{numbers}{letter}{other!r}")
    return [line.rstrip() for line in lines]
