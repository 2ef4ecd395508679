"""`nuner-embed` and `python -m nuner_embed.cli`.

Signal handlers are installed before anything else is imported: Ctrl-C then never prints a traceback, however early.
"""

import _signal  # type: ignore[import-not-found]  # the C module below `signal`: loaded already, while importing `signal` takes milliseconds
import gc
import os
import sys

# Until `main` installs its handlers, Ctrl-C ends the process silently. This is done only if the process is the command
# line, since tests import this module too.
if (__name__ == "__main__" or os.path.basename(sys.argv[0]) == "nuner-embed") and (  # noqa: PTH119
    _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
):
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from nuner_embed.cli.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def main() -> None:
    """Runs the command line and ends the process: 0, 1 for an error, 2 for a usage error, 128 + n after signal n."""
    # torch and transformers make hundreds of thousands of objects that live to the end: at Python's default thresholds,
    # garbage collection takes a sixth of the time of a search
    gc.set_threshold(50_000, 20, 100)
    signals = Signals()
    try:
        code = _run(signals)
    except KeyboardInterrupt:  # the signal came after the command had ended
        if signals.arrived is None:
            raise
        os._exit(128 + signals.arrived)
    _leave_threads(code)
    sys.exit(code)


def _run(signals: Signals) -> int:
    try:
        signals.heed()
        _ready_streams()
        from nuner_embed.cli.commands import run

        code = run()
        if signals.arrived is not None:  # the signal came too late to interrupt the command
            code = 128 + signals.arrived
    except BrokenPipeError:  # the reader of the results has closed the pipe
        _ready_streams().drop(sys.stdout)
        code = 141
    except BaseException:
        if signals.arrived is None:
            raise
        _ready_streams().say(f"Interrupted.{_how_to_go_on()}")
        code = 128 + signals.arrived
    signals.leave()
    _ready_streams().leave()
    return code


def _ready_streams() -> "ModuleType":
    from nuner_embed.cli import streams

    streams.make_ready()  # does nothing the second time
    return streams


def _leave_threads(code: int) -> None:
    """Ends the process at once if a thread that nobody needs still runs; Python would wait for the thread, or abort.

    That is the thread of a stopped filter, or of a server that ended while loading its model or while computing.
    """
    threading = sys.modules.get("threading")
    names = {"nuner-embed filter", "nuner-embed abandoned"}
    if threading and any(thread.name in names for thread in threading.enumerate()):
        os._exit(code)


def _how_to_go_on() -> str:
    """How the user can continue the job that was interrupted; empty for other commands."""
    commands = sys.modules.get("nuner_embed.cli.commands")
    given = set(sys.argv[1:])
    # also if the command was interrupted before its module was imported
    if not given & getattr(commands, "JOBS", frozenset()):
        return ""
    if {"-", "encode"} <= given:
        return " --force starts over, because standard input cannot be read again."
    again = "The same command without --force" if "--force" in given else "The same command"
    return f" {again} continues the job."


if __name__ == "__main__":
    main()
