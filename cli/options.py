"""Options and values that several commands share."""

import json
import re
from typing import Any

import click

from nuner_embed.models.known import DEFAULT_MODEL


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


layers_option = click.option(
    "--layers", type=Layers(), metavar="N[,N]", help="Hidden states to concatenate.  [default: the model's recipe]"
)
model_option = click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A Hugging Face or exported directory, a known name, or a hub name.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


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
