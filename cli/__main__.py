"""`nuner-embed` and `python -m nuner_embed.cli`.

Signals are heeded before anything else is imported, so that nobody who presses Ctrl-C early sees a traceback.
"""

import _signal  # type: ignore[import-not-found]  # what `signal` is made of: there already, where `signal` takes ms
import gc
import os
import sys

# Until `main` heeds signals, Ctrl-C ends the process without a word. Only of a process that is the command line: tests
# import this module too.
if (__name__ == "__main__" or os.path.basename(sys.argv[0]) == "nuner-embed") and (  # noqa: PTH119
    _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
):
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from nuner_embed.cli.signals import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def main() -> None:
    """Runs the command line and ends the process: 0, 1 for an error, 2 for a wrong use, 128 + n after signal n."""
    # torch and transformers make hundreds of thousands of objects that stay: looking through them for garbage at
    # Python's own thresholds takes a sixth of a search
    gc.set_threshold(50_000, 20, 100)
    signals = Signals()
    try:
        code = _run(signals)
    except KeyboardInterrupt:  # it came when there was nothing left to interrupt
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
        if signals.arrived is not None:  # too late to interrupt anything
            code = 128 + signals.arrived
    except BrokenPipeError:  # whoever read the results has gone
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

    streams.make_ready()  # does nothing where it was done
    return streams


def _leave_threads(code: int) -> None:
    """Ends the process at once where a filter that was stopped goes on: Python would wait for DuckDB, or be aborted."""
    threading = sys.modules.get("threading")
    if threading and any(thread.name == "nuner-embed filter" for thread in threading.enumerate()):
        os._exit(code)


def _how_to_go_on() -> str:
    """What becomes of a job that was interrupted."""
    commands = sys.modules.get("nuner_embed.cli.commands")
    given = set(sys.argv[1:])
    if not given & getattr(commands, "JOBS", frozenset()):  # also where it was interrupted before it began
        return ""
    if {"-", "encode"} <= given:
        return " --force starts over, standard input being gone."
    again = "The same command without --force" if "--force" in given else "The same command"
    return f" {again} goes on where it was."


if __name__ == "__main__":
    main()
