"""`nuner-embed` and `python -m nuner_embed.cli`.

Ctrl-C is heeded before anything else is imported, so that nobody who presses it early sees a traceback.
"""

import os
import sys

from nuner_embed.cli import streams
from nuner_embed.cli.signals import Signals


def main() -> None:
    """Runs the command line and ends the process: 0, 1 for an error, 2 for a wrong use, 130 or 143 when interrupted."""
    signals = Signals()
    signals.heed()
    streams.make_ready()
    try:
        from nuner_embed.cli.commands import run

        code = run()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the results has gone
        streams.drop(sys.stdout)
        code = 141
    except BaseException:
        if signals.arrived is None:
            raise
        streams.say(f"Interrupted.{_how_to_go_on()}")
        code = 128 + signals.arrived
    signals.leave()
    streams.leave()
    _leave_threads(code)
    sys.exit(code)


def _leave_threads(code: int) -> None:
    """Ends the process at once where a filter that was stopped goes on: Python would wait for DuckDB, or be aborted."""
    threading = sys.modules.get("threading")
    if threading and any(thread.name == "nuner-embed filter" for thread in threading.enumerate()):
        os._exit(code)


def _how_to_go_on() -> str:
    """What becomes of a job that was interrupted."""
    from nuner_embed.cli.commands import JOBS

    given = set(sys.argv[1:])
    if not given & JOBS:
        return ""
    if {"-", "encode"} <= given:
        return " --force starts over, standard input being gone."
    again = "The same command without --force" if "--force" in given else "The same command"
    return f" {again} goes on where it was."


if __name__ == "__main__":
    main()
