"""What the commands that train have in common: an option for every setting, and packages that must be installed."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import click

from nuner_embed.limits import SEED_MOST
from nuner_embed.pretraining.settings import kind_of


def settings_options(settings: type[Any], earlier: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """An option for every setting; its default is None, so that a preset and a file can be told from a flag.

    Args:
        settings: a dataclass whose fields were made by `nuner_embed.pretraining.settings.value`.
        earlier: further names of options, by field.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for one in reversed(fields(settings)):
            choices = one.metadata["choices"]
            number = click.IntRange(0, SEED_MOST) if one.name == "seed" else kind_of(one)
            names = [one.name, *filter(None, [(earlier or {}).get(one.name)])]
            command = click.option(
                *(f"--{name.replace('_', '-')}" for name in names),
                one.name,
                type=click.Choice(choices) if choices else number,
                help=one.metadata["about"] + ("" if one.default is None else f"  [default: {one.default}]"),
            )(command)
        return command

    return decorate


def require_training(what: str) -> None:
    """Checks that what trains is installed, before anything is imported.

    Raises:
        PretrainingError: it is not; the message names what needs it.
    """
    import importlib.util

    from nuner_embed.errors import PretrainingError
    from nuner_embed.installation import install_command

    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise PretrainingError(f"{what} needs {package}; {install_command('train')}")
