"""Ctrl-C, SIGTERM and SIGHUP."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# SIGHUP arrives when the terminal closes; nohup makes the process ignore SIGHUP, and that is left so.
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` and some supervisors signal a process and its group: the leader of the group gets the signal twice.
_ONE_SIGNAL_SECONDS = 1.0
_PATIENCE_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.02
# methods of Condition and its kin, written in Python: a lock is held before or after `with` knows of it
_LOCKS, _LOGGING = ("/threading.py", "/multiprocessing/synchronize.py"), "/logging/__init__.py"
_TAKE_OR_FREE = frozenset({"__enter__", "__exit__", "_acquire_restore", "_release_save"})


class Signals:
    """Turns the first signal into a KeyboardInterrupt, and ends the process at once with a second one.

    An exception during an import can leave Python's import locks held, and any thread that imports then waits for ever.
    An exception while Python code takes or frees a lock, such as the one of a `threading.Condition`, leaves the lock
    held, and the next thread that wants the lock waits for ever. So the KeyboardInterrupt waits until no module is
    being imported and no lock is being taken; after three seconds the process ends. If an event loop runs, its tasks
    are cancelled instead. Python drops an exception that is raised in a finaliser or in a callback of C; such a
    KeyboardInterrupt is raised again a little later.

    Attributes:
        arrived: the number of the first signal, None until one arrives.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
        self._when = 0.0
        self._unraisable: Callable[[Any], Any] | None = None

    def heed(self) -> None:
        """Replaces Python's own handlers; a signal that the process ignores stays ignored."""
        self._handle(self._stop)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._dropped

    def leave(self) -> None:
        """Restores the default handlers: from now on, with only the exit left, a signal ends the process silently."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._handle(signal.SIG_DFL)
        if self._unraisable:
            sys.unraisablehook = self._unraisable

    @staticmethod
    def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.arrived is None:
            self.arrived, self._when = number, now
            self._raise(number, frame)
        elif now - self._when > _ONE_SIGNAL_SECONDS:  # the user does not want to wait for the clean-up
            self._end()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if _cancelled_tasks():
            return
        if not _importing(frame) and not _locking(frame):
            raise KeyboardInterrupt
        if time.monotonic() - self._when > _PATIENCE_SECONDS:
            self._end("Interrupted.\n")
        self._raise_later()

    def _raise_later(self) -> None:
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)

    def _dropped(self, dropped: Any) -> None:
        """Takes an exception that Python dropped: a KeyboardInterrupt is raised again later, others are reported."""
        if self.arrived is not None and issubclass(dropped.exc_type, KeyboardInterrupt):
            self._raise_later()
        elif self._unraisable:
            self._unraisable(dropped)

    def _end(self, text: str = "") -> None:
        """Ends the process at once, and shows the cursor again, which a progress bar may have hidden."""
        try:
            if os.isatty(2):
                text = f"\x1b[?25h{text}"
            os.write(2, text.encode())
        except OSError:  # standard error is closed
            pass
        os._exit(128 + (self.arrived or signal.SIGINT))


def _cancelled_tasks() -> bool:
    """Cancels the tasks of this thread's event loop, if one runs; an exception would end whichever task is active."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        loop = asyncio.get_running_loop()
    except (AttributeError, RuntimeError):  # asyncio is only partly imported, or no loop runs
        return False
    tasks = asyncio.all_tasks(loop)
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in tasks])
    return True


def _importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _locking(frame: FrameType | None) -> bool:
    """Whether the code that runs takes or frees a lock; waiting for a notification is no part of that."""
    if frame is None:
        return False
    name, function = frame.f_code.co_filename, frame.f_code.co_name
    return (name.endswith(_LOCKS) and function in _TAKE_OR_FREE) or name.endswith(_LOGGING)
