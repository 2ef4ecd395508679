"""Options and values that several commands share, and the check that no command overwrites what the command reads."""

import functools
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from nuner_embed.cli import streams
from nuner_embed.corpora.base import FORMATS, WRITERS
from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import expand, same_file
from nuner_embed.heads import DEFAULT_C, DEFAULT_CLASS_WEIGHT
from nuner_embed.limits import FILTER_SECONDS, LINE_MIB, SHOTS_MOST
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.printable import json_text, printable

_READ = "nuner_embed.read"  # key in a command's `meta`: the files that values of its options were read from


def note_read(context: click.Context, path: Path) -> None:
    """Remembers for `require_apart` a file from which the value of an option was read."""
    context.meta.setdefault(_READ, []).append(path)


def require_apart(outputs: Path | Iterable[Path] | None, inputs: Iterable[Any], *, folder: bool = False) -> None:
    """Refuses an output that is also an input, under any name, symbolic link or hard link. Call it before writing.

    An output file may not lie in a directory that is read, and no input may lie in a directory that is written.

    Args:
        outputs: files or directories that the command writes.
        inputs: what the command reads: files, directories, "-" for standard input, names of models; None is skipped.
        folder: the output is a directory; it may lie in a directory that is read.

    Raises:
        NunerEmbedError: an output is an input; the message names both.
    """
    written = [outputs] if isinstance(outputs, Path) else list(outputs or ())
    context = click.get_current_context(silent=True)
    read = list(_existing([*inputs, *(context.meta.get(_READ, ()) if context else ())]))
    for output in map(expand, written):
        for given, path in read:
            if same_file(output, path):
                raise NunerEmbedError(
                    f"{output} is also an input, as {given}; name another output"
                    if str(output) != given
                    else f"{output} is also an input; name another output"
                )
            if not folder and path.is_dir() and _lies_in(output, path):
                raise NunerEmbedError(
                    f"{output} would lie in {given}, which is read; name an output outside of that directory"
                )
            if folder and _lies_in(path, output):
                raise NunerEmbedError(
                    f"{given} is read, and lies in {output}, which would be written; name another output"
                )


def _existing(inputs: Iterable[Any]) -> Iterator[tuple[str, Path]]:
    for given in inputs:
        if given is None:
            continue
        path = Path("/dev/stdin") if str(given) == "-" else expand(given)
        try:
            path.stat()
        except (OSError, ValueError):  # the name of a model, or a path that the command itself will refuse
            continue
        yield str(given), path


def _lies_in(path: Path, directory: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(directory))


Command = TypeVar("Command", bound=Callable[..., Any])


class Layers(click.ParamType[tuple[int, ...]]):
    """Comma-separated layer numbers."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Reads "-1" or "-1,-7"."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"-?\d+(,-?\d+)*", value):
            self.fail(f"{value!r} is not a list of layer numbers such as -1 or -1,-7", param, ctx)
        return tuple(int(part) for part in value.split(","))


class FileToWrite(click.Path):
    """The path of a file, which need not exist, in a folder that exists."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Reads a path."""
        path = super().convert(value, param, ctx)
        if isinstance(path, Path) and not path.parent.is_dir():
            self.fail(f"there is no folder {path.parent} to write {path.name} into", param, ctx)
        return path


def tagged_output_option(default: str) -> Callable[[Command], Command]:
    """The option -o of a command that finds mentions; `default` says what the command does without -o."""
    formats = dict.fromkeys(WRITERS.values())
    written = [f"a {one.suffixes[0]} file {one.written}" for one in formats]
    *others, last = ["a .csv file with one row per mention", *written]
    text = f"File to write the mentions to: {', '.join(others)}, or {last}.  [default: {default}]"
    return click.option("-o", "--output", type=FileToWrite(), help=text)


def output_folder_option(text: str, name: str = "output") -> Callable[[Command], Command]:
    """The option -o of a command that writes a directory, which `text` describes; `name` is the command's argument."""
    return click.option("-o", "--output", name, required=True, type=click.Path(path_type=Path), help=text)


def split_names(value: str) -> tuple[str, ...]:
    """Splits at commas; a comma after a backslash belongs to a name."""
    return tuple(name.replace("\\,", ",").strip() for name in re.split(r"(?<!\\),", value))


class Sizes(click.ParamType[tuple[int, ...]]):
    """Whole numbers above 0 with commas between them."""

    name = "sizes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Reads "1,2,4"."""
        if isinstance(value, tuple):
            return value
        if (
            not re.fullmatch(r"[1-9]\d{0,6}(,[1-9]\d{0,6})*", value)
            or len(set(value.split(","))) != value.count(",") + 1
        ):
            self.fail(f"{value!r} is not a list of different numbers such as 1,2,4", param, ctx)
        sizes = tuple(int(part) for part in value.split(","))
        if max(sizes) > SHOTS_MOST:
            self.fail(f"{max(sizes):,} is more than {SHOTS_MOST:,}", param, ctx)
        return sizes


class Within(click.FloatRange):
    """Numbers within a range; "nan", which compares with no bound, is none of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads "0.5"."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


PROBABILITY = Within(0, 1, min_open=True, max_open=True)
layers_option = click.option(
    "--layers",
    type=Layers(),
    metavar="N[,N]",
    help="Layers whose hidden states are concatenated.  [default: the model's recipe]",
)
model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="The model: a Hugging Face directory, an exported directory or graph, a known name, or a hub name.",
)
filter_seconds_option = click.option(
    "--filter-seconds",
    type=Within(0, min_open=True),
    default=FILTER_SECONDS,
    show_default=True,
    help="Time limit for --filter in seconds.",
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Device that the model runs on.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(0, 1024), default=0, help="Number of threads.  [default: one per core]"
)


class Column(click.ParamType[int | str]):
    """A field of a line, by number or by name."""

    name = "column"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Reads "2" or "ner"."""
        if isinstance(value, int):
            return value
        if not value.strip():
            self.fail("give the number or the name of a field", param, ctx)
        return int(value) if value.isdecimal() else str(value)


def _names_or_file(context: click.Context, value: str | None) -> tuple[str, ...]:
    """Comma-separated names, or the lines of a file whose name holds no comma."""
    if value is None:
        return ()
    try:
        names = list(split_names(value))
        if len(names) == 1 and expand(value).is_file():
            names = [name.strip() for name in expand(value).read_text(encoding="utf-8").splitlines()]
            note_read(context, expand(value))
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{value} cannot be read: {error}") from None
    while names and not names[-1]:
        names.pop()
    if not names or not all(names) or len(set(names)) != len(names):
        raise click.BadParameter(
            f"{value!r} is neither a list of different names such as O,B-city,I-city nor a file with one name per line"
        )
    return tuple(names)


def reading_options(command: Command) -> Command:
    """Adds the options that say how a corpus is read; the command gets them as `reading`, keywords of `Corpus`."""

    @functools.wraps(command)
    def with_reading(*arguments: Any, format_: str | None, **options: Any) -> Any:
        reading = {name: options.pop(name) for name in ("word_column", "tag_column", "tag_names")}
        for name in ("text_column", "id_column", "max_line_mib"):
            if (value := options.pop(name)) is not None:
                reading[name] = value
        return command(*arguments, reading={"format": format_, **reading}, **options)

    for option in (
        click.option(
            "--max-line-mib",
            type=click.IntRange(1, 2048),
            metavar="MIB",
            help="Maximum size in MiB of a line, sentence or task, uncompressed; a longer one is a bad record.  "
            f"[default: {LINE_MIB}]",
        ),
        click.option(
            "--tag-names",
            metavar="NAME,NAME...|FILE",
            callback=lambda context, _, value: _names_or_file(context, value),
            help="Names of the tags or labels that the corpus gives as numbers, in order from 0; a file holds one name "
            "per line.",
        ),
        click.option(
            "--id-column",
            metavar="NAME",
            help="Column of Parquet files, or key in the data of Label Studio, that holds the id.  [default: id, if "
            "present]",
        ),
        click.option(
            "--text-column",
            metavar="NAME",
            help="Column of Parquet files, or key in the data of Label Studio, that holds the text.  [default: text]",
        ),
        click.option(
            "--tag-column",
            type=Column(),
            metavar="N|NAME|none",
            help="Field of a line that holds the tag, as for --word-column; none: read words without tags.  [default: "
            "detected]",
        ),
        click.option(
            "--word-column",
            type=Column(),
            metavar="N|NAME",
            help="Field of a line that holds the word in CoNLL and TSV files: its number from 1, or its name in the "
            "first line.  [default: detected]",
        ),
        click.option(
            "--format",
            "format_",
            type=click.Choice(list(FORMATS)),
            help="Format of the corpus.  [default: by suffix; txt for standard input]",
        ),
    ):
        with_reading = option(with_reading)
    return with_reading  # type: ignore[return-value]


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number")
    return value


c_option = click.option(
    "--C",
    "c",
    type=Within(0, min_open=True),
    callback=lambda _, __, value: _finite(value),
    default=DEFAULT_C,
    show_default=True,
    help="Inverse of the regularization strength of the probe.",
)
class_weight_option = click.option(
    "--class-weight",
    type=click.Choice(["none", "sqrt", "balanced"]),
    default=DEFAULT_CLASS_WEIGHT,
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="Weights of the classes. balanced: inversely proportional to their frequency; sqrt: the square roots of these "
    "weights; none: equal.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def print_json(value: Any) -> None:
    """Prints a result as JSON on standard output."""
    streams.write(json_text(value, indent=2) + "\n")


def print_facts(facts: dict[str, Any]) -> None:
    """Prints names and values in two columns on standard output."""
    names = [printable(name) for name in facts]
    width = max(map(len, names))
    streams.show(*(f"{name:<{width}}  {value}" for name, value in zip(names, facts.values(), strict=True)))


def size(count: float) -> str:
    """A number of bytes for people, such as 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def how_to_read_parquet(file: Path) -> str:
    """How a user can read a Parquet file."""
    return f"any reader of Parquet, such as pandas.read_parquet({str(file)!r})"


def counted(number: int, noun: str, several: str = "") -> str:
    """A count with its noun, such as "1 shard" or "2 shards"; `several` is the plural, where it is not noun + s."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"
