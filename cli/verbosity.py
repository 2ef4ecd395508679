"""How much a command prints: the options -q and -v of every command, and the environment variable NUNER_EMBED_LOG."""

import logging
import os
import warnings
from typing import TextIO

import click

from nuner_embed.cli import streams
from nuner_embed.errors import NunerEmbedError

VARIABLE = "NUNER_EMBED_LOG"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_LOG = logging.getLogger("nuner_embed")


def print_log() -> None:
    """Prints the package's log, which is written for people, on standard error.

    The environment variable NUNER_EMBED_LOG names the least level, which is INFO otherwise; -q and -v override both.

    Raises:
        NunerEmbedError: the variable names no level.
    """
    handler = _ForPeople()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _LOG.addHandler(handler)
    warnings.showwarning = _show_warning
    _LOG.propagate = False  # onnxruntime.quantization sets up the root logger
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted and wanted not in _LEVELS:
        raise NunerEmbedError(f"{VARIABLE} is {wanted!r:.40}; expected one of {', '.join(_LEVELS)}")
    _LOG.setLevel(_LEVELS.get(wanted, logging.INFO))


class _ForPeople(logging.Handler):
    """Prints each record as a line on standard error, above the progress bar if one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        streams.say(self.format(record))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Prints a warning of this package as a line for people, and any other warning with its file and line."""
    if category.__module__.partition(".")[0] == "nuner_embed":
        streams.say(f"Warning: {message}")
    else:
        streams.say(f"{filename}:{lineno}: {category.__name__}: {message}")


def is_quiet() -> bool:
    """Whether only errors and results are printed."""
    return _LOG.level > logging.INFO


def with_verbosity(command: click.Command) -> click.Command:
    """Adds the options -q and -v to a command and its subcommands, unless they have these options already."""
    if not any(parameter.name == "quiet" for parameter in command.params):
        command.params += [
            _option("-q", "--quiet", "Print only results and errors, no progress and no notes.", logging.WARNING),
            _option("-v", "--verbose", "Also print details: which settings were chosen, and why.", logging.DEBUG),
        ]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_verbosity(below)
    return command


def _option(short: str, long: str, about: str, level: int) -> click.Option:
    def choose(context: click.Context, parameter: click.Parameter, chosen: bool) -> None:
        if chosen:
            _LOG.setLevel(level)

    return click.Option([short, long], is_flag=True, expose_value=False, is_eager=True, callback=choose, help=about)
