"""Options and values that several commands share."""

import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.probing.defaults import DEFAULT_C, DEFAULT_CLASS_WEIGHT

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


class CommaSeparated(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Reads "city,river"."""
        names = value if isinstance(value, tuple) else tuple(name.strip() for name in value.split(","))
        if not all(names) or len(set(names)) != len(names):
            self.fail(f"{value!r} is not a list of different names such as city,river", param, ctx)
        return names


class NamedTypes(click.ParamType[dict[str, str]]):
    """Names of types with commas between them, each perhaps behind the label that it is to be called by."""

    name = "types"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Reads "city,person" or "LOC=location,PER=person"; gives the label and the name of each type."""
        if isinstance(value, dict):
            return value
        parts = [tuple(part.strip() for part in one.split("=", 1)) for one in value.split(",")]
        types = {part[0]: part[-1] for part in parts}
        if not all(map(all, parts)) or len(types) < len(parts):
            self.fail(f"{value!r} names a type twice, or not at all; expected city,person or LOC=location", param, ctx)
        return types


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
        return tuple(int(part) for part in value.split(","))


layers_option = click.option(
    "--layers", type=Layers(), metavar="N[,N]", help="Hidden states to concatenate.  [default: the model's recipe]"
)
model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A Hugging Face directory, an exported directory or graph, a known name, or a hub name.",
)
threads_option = click.option("--threads", type=click.IntRange(0, 1024), default=0, help="[default: one a core]")
format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["txt", "jsonl", "conll", "parquet"]),
    help="Of the corpus.  [default: by suffix; standard input is txt]",
)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number that could be meant")
    return value


c_option = click.option(
    "--C",
    "c",
    type=click.FloatRange(0, min_open=True),
    callback=lambda _, __, value: _finite(value),
    default=DEFAULT_C,
    show_default=True,
    help="Inverse strength of the probe's penalty.",
)
class_weight_option = click.option(
    "--class-weight",
    type=click.Choice(["none", "sqrt", "balanced"]),
    default=DEFAULT_CLASS_WEIGHT,
    show_default=True,
    callback=lambda _, __, value: None if value == "none" else value,
    help="How much rare classes count beyond their share; sqrt: half-way to balanced.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def types_option(text: str) -> Callable[[Command], Command]:
    """The option --types of a command, for which it means what `text` says."""
    return click.option("--types", type=CommaSeparated(), metavar="TYPE[,TYPE]", help=text)


def print_json(value: Any) -> None:
    """A result on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_facts(facts: dict[str, Any]) -> None:
    """Names and values in two columns on standard output."""
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {value}")


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(number: int, noun: str, several: str = "") -> str:
    """A number of things for people: 1 shard, 2 shards."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"
