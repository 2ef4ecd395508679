"""All commands, and the one line that each of their errors becomes."""

import difflib
import errno
import importlib
import os
import sys
import traceback

import click

from nuner_embed import __version__
from nuner_embed.cli.streams import say
from nuner_embed.cli.verbosity import print_log, with_verbosity
from nuner_embed.errors import NunerEmbedError
from nuner_embed.printable import printable

# name -> (module, line for the overview); a command's module is imported only when the command is called
_COMMANDS = {
    "demo": ("nuner_embed.cli.demo", "Run export, verify, encode, index, search and probe on a small bundled corpus."),
    "tag": ("nuner_embed.cli.tag", "Find the mentions of types in texts, given only the names of the types."),
    "annotate": ("nuner_embed.cli.annotate", "Let an LLM annotate sentences with concepts of its own choice."),
    "pretrain": ("nuner_embed.cli.pretrain", "Pre-train a text and a concept encoder on an annotated corpus."),
    "finetune": ("nuner_embed.cli.finetune", "Train an encoder and a head for your own types on annotated sentences."),
    "export": (
        "nuner_embed.cli.export",
        "Export a text encoder as an ONNX graph, and check the graph against its source.",
    ),
    "verify": ("nuner_embed.cli.export", "Compare an exported model with its source in every installed runtime."),
    "encode": (
        "nuner_embed.cli.encode",
        "Encode a corpus into a store; the same command continues an interrupted job.",
    ),
    "index": ("nuner_embed.cli.index", "Build, change and check an index over the rows of stores."),
    "search": (
        "nuner_embed.cli.search",
        "Search an index for mentions like a query or examples, or for mentions of a named type.",
    ),
    "probe": ("nuner_embed.cli.probe", "Few-shot NER: train and use a linear layer on frozen features."),
    "evaluate": ("nuner_embed.cli.evaluate", "Compare models by few-shot NER with the protocol of the paper."),
    "concepts": ("nuner_embed.cli.concepts", "Calibrate the concept encoder of a model, and draw a map of concepts."),
    "serve": ("nuner_embed.cli.serve", "Answer requests over HTTP: embeddings, search, and typed mentions."),
    "store": ("nuner_embed.cli.store", "Show what a store holds, and check its files."),
    "models": ("nuner_embed.cli.models", "List, fetch, save and push models."),
    "doctor": ("nuner_embed.cli.doctor", "Show what is installed and what runs, and report problems."),
}
# whose versions --version shows; the wheels of a line ship one module
_PACKAGES = (
    ("numpy",),
    ("torch",),
    ("transformers",),
    ("onnxruntime", "onnxruntime-gpu"),
    ("openvino",),
    ("faiss-cpu", "faiss-gpu"),
)
_LINE = 1000  # longest error in characters: a path may have 4,096, and what matters stands at the two ends
# commands that can be interrupted and continued
JOBS = frozenset({"annotate", "pretrain", "finetune", "encode", "evaluate"})


class LazyGroup(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the work."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        if cmd_name not in _COMMANDS:
            return None
        return with_verbosity(getattr(importlib.import_module(_COMMANDS[cmd_name][0]), cmd_name))

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


def _print_versions(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """Prints the versions without importing a package: importing torch alone takes seconds."""
    if not wanted or context.resilient_parsing:
        return
    import importlib.metadata
    import platform

    from nuner_embed.cli.streams import show

    lines = [f"nuner-embed, version {__version__}", f"python {platform.python_version()}"]
    for names in _PACKAGES:
        found = []
        for name in names:
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                continue
        lines.append(", ".join(found) or f"{names[0]} is not installed")
    show(*lines)
    context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Example: nuner-embed encode corpus.jsonl -o store",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of nuner-embed and of the packages that matter, and exit.",
)
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
def cli(debug: bool) -> None:
    """Use a NuNER text encoder on your own corpora: export, encode, index, search, probe."""


with_verbosity(cli)


def run() -> int:
    """Runs the command line; every error becomes one line on standard error.

    Returns:
        The exit code.

    Raises:
        KeyboardInterrupt: the command was interrupted.
        BrokenPipeError: the reader of the results has closed the pipe.
        Exception: any error, where --debug is given.
    """
    debug = "--debug" in sys.argv[1:]
    try:
        print_log()
        code = _run()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except NunerEmbedError as error:
        if debug:
            raise
        say(f"Error: {_in_short(str(error))}")
    except Exception as error:
        if debug:
            raise
        from nuner_embed.cli.commands import line_for

        say(f"Error: {_in_short(line_for(error))}")
    return 1


def _in_short(line: str) -> str:
    """The line, escaped; the middle of a line of over 1,000 characters is left out."""
    line = printable(line)
    return line if len(line) <= _LINE else f"{line[: _LINE * 3 // 4]} ... {line[-_LINE // 4 :]}"


def _run() -> int:
    """Runs the command line and returns the exit code; usage errors are printed here."""
    try:
        if "_NUNER_EMBED_COMPLETE" in os.environ:  # a shell asks for completions
            cli.main(prog_name="nuner-embed")
        # cli.main would report a closed pipe as an error
        with cli.make_context("nuner-embed", sys.argv[1:]) as context:
            cli.invoke(context)
        return 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # the message may quote a file or its name
        error.show()
        return error.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


_DEBUG = "--debug shows where"
_OUT_OF_MEMORY = (
    "there is not enough memory; smaller batches, fewer threads or workers, or a larger limit (ulimit -v) help"
)
_TOO_MANY_FILES = "too many files are open at once; ulimit -n shows the limit, and raises it"
# Errors of these packages are about files, values or the machine, not faults of this program.
_LIBRARIES = frozenset(
    {"duckdb", "faiss", "onnxruntime", "openvino", "pyarrow", "safetensors", "safetensors_rust", "tokenizers", "torch"}
)
_NO_MEMORY_SIGNS = (
    "bad_alloc",
    "cannot allocate memory",
    "out of memory",
    "failed to allocate",
    "failed to map segment",
)


def line_for(error: Exception) -> str:
    """One line about an error: what happened, what the user can do, and that --debug shows the traceback.

    Args:
        error: any exception except those of `nuner_embed.errors`, whose messages are printed as they are.
    """
    if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
        return _of_system(error)
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NO_MEMORY_SIGNS):
        return f"{_OUT_OF_MEMORY}; {_DEBUG} it ran out"
    if isinstance(error, RecursionError):
        return f"something is nested too deeply, in a file or in a filter; {_DEBUG}"
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    library = _library(error)
    if library:
        return f"{library}: {said or type(error).__name__}; {_DEBUG}"
    name = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"this is a fault of nuner-embed itself: {name}; {_DEBUG}"


def _of_system(error: OSError) -> str:
    what = error.strerror or (os.strerror(error.errno) if error.errno else type(error).__name__)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        what = _TOO_MANY_FILES
    elif error.errno == errno.ENOMEM:
        what = _OUT_OF_MEMORY
    if error.filename is None:
        return f"{what}; {_DEBUG}"
    return f"{os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: {what}"


def _library(error: Exception) -> str | None:
    """The known package that defines the error's class, or whose code raised the error; None for any other."""
    places = [type(error).__module__]
    places += [frame.f_globals.get("__name__", "") for frame, _ in list(traceback.walk_tb(error.__traceback__))[-1:]]
    return next((root for place in places if (root := place.partition(".")[0]) in _LIBRARIES), None)
