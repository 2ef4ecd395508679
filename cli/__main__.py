"""`nuner-embed` and `python -m nuner_embed.cli`."""

import difflib
import importlib
import logging
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from nuner_embed import __version__
from nuner_embed.errors import NunerEmbedError

# name -> (module, line for the overview); a command's module is imported only when the command is called
_COMMANDS = {
    "demo": ("nuner_embed.cli.demo", "The whole main job on a small bundled corpus."),
    "tag": ("nuner_embed.cli.tag", "Find the mentions of named types in texts, without an example."),
    "annotate": ("nuner_embed.cli.annotate", "Let an LLM label sentences with concepts of its own choice."),
    "pretrain": ("nuner_embed.cli.pretrain", "Pre-train a text and a concept encoder on an annotated corpus."),
    "export": ("nuner_embed.cli.export", "Write a text encoder as an ONNX graph that passes its gate."),
    "verify": ("nuner_embed.cli.export", "Compare an exported model with its source in every runtime here."),
    "encode": ("nuner_embed.cli.encode", "Encode a corpus into a store; the same command resumes it."),
    "index": ("nuner_embed.cli.index", "Build, change and check an index over stores."),
    "search": (
        "nuner_embed.cli.search",
        "Find mentions used like one in its context, like examples, or of a named type.",
    ),
    "probe": ("nuner_embed.cli.probe", "Few-shot NER: a linear layer on frozen features."),
    "evaluate": ("nuner_embed.cli.evaluate", "Measure models as the paper does: few-shot, repeatedly drawn."),
    "concepts": ("nuner_embed.cli.concepts", "What a model's similarities to concepts mean, and a map of concepts."),
    "store": ("nuner_embed.cli.store", "What is in a store, and whether it is what was written."),
    "models": ("nuner_embed.cli.models", "The models that are known by name."),
    "doctor": ("nuner_embed.cli.doctor", "What is installed here, what really runs, what clashes."),
}


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command, or says which one may be meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"{error.message}{hint}", ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: nuner-embed encode corpus.jsonl -o store",
)
@click.version_option(__version__, prog_name="nuner-embed")
@click.option("--debug", is_flag=True, help="Show a traceback where something goes wrong.")
def cli(debug: bool) -> None:
    """Run a NuNER text encoder over your own corpora: export, encode, index, search, probe."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


class _ForPeople(logging.Handler):
    """A line each on standard error, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


def _print_log() -> None:
    """What the package logs is meant for people."""
    handler = _ForPeople()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("nuner_embed")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # onnxruntime.quantization sets up the root logger


def main() -> None:
    """Runs the command line; every error that a user can mend becomes one line and exit code 1."""
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in sys.argv[1:]
    _print_log()
    try:
        code = cli.main(standalone_mode=False, prog_name="nuner-embed")
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except NunerEmbedError as error:
        if debug:
            raise
        click.echo(f"Error: {error}", err=True)
        code = 1
    except click.exceptions.Abort as abort:
        terminated = isinstance(abort.__cause__, Terminated) or isinstance(abort.__context__, Terminated)
        again = "the same command without --force" if "--force" in sys.argv else "the same command"
        on = (
            "--force starts over, standard input being gone"
            if {"-", "encode"} <= set(sys.argv)
            else f"{again} goes on where it was"
        )
        click.echo(f"\nInterrupted. If this was a job (annotate, pretrain, encode, evaluate), {on}.", err=True)
        code = 143 if terminated else 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; Python would complain once more at exit
        code = 141
    except OSError as error:
        if debug or not error.filename:
            raise
        click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
        code = 1
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
