"""Ctrl-C, SIGTERM and SIGHUP."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

# SIGHUP comes where the terminal goes; under nohup it is ignored, and stays so.
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` and some supervisors send a signal to a process and to its group: twice, for one that is both.
_ONE_SIGNAL_SECONDS = 1.0
_IMPORTING_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.02


class Signals:
    """Turns the first signal into a KeyboardInterrupt, and ends the process at once with a second one.

    An exception in the middle of an import can leave Python's import locks held, and then any thread that imports waits
    for ever: while modules are being imported, the KeyboardInterrupt waits; after three seconds the process ends.
    Where an event loop runs, its tasks are cancelled instead. Python drops what is raised in a finaliser or in a
    callback of C: it is raised once more then.

    Attributes:
        arrived: the number of the signal that came, None as long as none has.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
        self._when = 0.0
        self._unraisable: Callable[[Any], Any] | None = None

    def heed(self) -> None:
        """Takes over from Python's own handlers; a signal that this process is to ignore stays ignored."""
        self._handle(self._stop)
        self._unraisable, sys.unraisablehook = sys.unraisablehook, self._dropped

    def leave(self) -> None:
        """Nothing is left to do but to end: from now on a signal ends the process without a word."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._handle(signal.SIG_DFL)
        if self._unraisable:
            sys.unraisablehook = self._unraisable

    @staticmethod
    def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets nobody else do this
        for number in NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.arrived is None:
            self.arrived, self._when = number, now
            self._raise(number, frame)
        elif now - self._when > _ONE_SIGNAL_SECONDS:  # somebody who waits for the end of what the first one began
            self._end()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if _cancelled_tasks():
            return
        if not _importing(frame):
            raise KeyboardInterrupt
        if time.monotonic() - self._when > _IMPORTING_SECONDS:
            self._end("Interrupted.\n")
        self._raise_later()

    def _raise_later(self) -> None:
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)

    def _dropped(self, dropped: Any) -> None:
        """What Python cannot raise where it is: our own exception is raised a little later, others are reported."""
        if self.arrived is not None and issubclass(dropped.exc_type, KeyboardInterrupt):
            self._raise_later()
        elif self._unraisable:
            self._unraisable(dropped)

    def _end(self, text: str = "") -> None:
        """Ends the process where it stands, with the terminal's cursor visible, which a bar may have hidden."""
        try:
            if os.isatty(2):
                text = f"\x1b[?25h{text}"
            os.write(2, text.encode())
        except OSError:  # nobody is there to be told
            pass
        os._exit(128 + (self.arrived or signal.SIGINT))


def _cancelled_tasks() -> bool:
    """Cancels what an event loop of this thread is doing, if there is one: an exception would hit any of its tasks."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        loop = asyncio.get_running_loop()
    except (AttributeError, RuntimeError):  # it is being imported, or nothing runs
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
