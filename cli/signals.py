"""Ctrl-C and SIGTERM."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

# `timeout` and some supervisors send a signal to a process and to its group: twice, for one that is both.
_ONE_SIGNAL_SECONDS = 1.0
_IMPORTING_SECONDS = 3.0
_LOOK_AGAIN_SECONDS = 0.02


class Signals:
    """Turns the first signal into a KeyboardInterrupt, and ends the process at once with a second one.

    An exception in the middle of an import can leave Python's import locks held, and then any thread that imports waits
    for ever: while modules are being imported, the KeyboardInterrupt waits; after three seconds the process ends.
    Where an event loop runs, its tasks are cancelled instead.

    Attributes:
        arrived: the number of the signal that came, None as long as none has.
    """

    def __init__(self) -> None:
        self.arrived: int | None = None
        self._when = 0.0

    def heed(self) -> None:
        """Takes over from Python's own handlers; a signal that this process is to ignore stays ignored."""
        self._handle(self._stop)

    def leave(self) -> None:
        """Nothing is left to do but to end: from now on a signal ends the process without a word."""
        self._handle(signal.SIG_DFL)

    @staticmethod
    def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # Python lets nobody else do this
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.arrived is None:
            self.arrived, self._when = number, now
            self._raise(number, frame)
        elif now - self._when > _ONE_SIGNAL_SECONDS:  # somebody who waits for the end of what the first one began
            os._exit(128 + self.arrived)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if _cancelled_tasks():
            return
        if not (_importing(frame) and hasattr(signal, "setitimer")):
            raise KeyboardInterrupt
        if time.monotonic() - self._when > _IMPORTING_SECONDS:
            print("Interrupted.", file=sys.stderr, flush=True)
            os._exit(128 + (self.arrived or number))
        signal.signal(signal.SIGALRM, self._raise)
        signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)


def _cancelled_tasks() -> bool:
    """Cancels what an event loop of this thread is doing, if there is one: an exception would hit any of its tasks."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
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
