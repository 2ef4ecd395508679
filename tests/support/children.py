"""A piece of work in a process of its own, by a fork: what may end it by a signal, or is done under a limit."""

import os
import signal
import traceback
from collections.abc import Callable


def in_child(work: Callable[[], str], seconds: int = 60) -> tuple[int, str]:
    """How the process ended, and what the work says, or its traceback. What it prints is dropped."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        try:
            words = work()
        except BaseException:
            words = traceback.format_exc()
        os.write(writing, words.encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        words = stream.read().decode()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), words
