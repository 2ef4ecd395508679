"""Options that say which types are meant and how many examples of each, and what the commands make of names."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import Command, split_names
from nuner_embed.limits import SHOTS_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuner_embed.heads.names import NamedTypes


class CommaSeparated(click.ParamType[tuple[str, ...]]):
    """Names with commas between them."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Reads "city,river"."""
        names = value if isinstance(value, tuple) else split_names(value)
        if not all(names) or len(set(names)) != len(names):
            self.fail(f"{value!r} is not a list of different names such as city,river", param, ctx)
        return names


def _together(context: click.Context, option: click.Parameter, given: tuple[tuple[str, ...], ...]) -> Any:
    """The values of all occurrences of a repeatable option, joined; None where the option is not given."""
    return option.type.convert(tuple(name for names in given for name in names), option, context) if given else None


def names_option(flag: str, metavar: str, text: str) -> Callable[[Command], Command]:
    """An option that takes names with commas between them, once or several times; `text` says what it means."""
    text += r" May be repeated; a comma within a name is written \,."
    return click.option(flag, type=CommaSeparated(), multiple=True, callback=_together, metavar=metavar, help=text)


def _labelled(context: click.Context, option: click.Parameter, given: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """The labels and names of types that were given as "city" or as "LOC=location"."""
    parts = [tuple(part.strip() for part in one.split("=", 1)) for one in _together(context, option, given) or ()]
    types = {part[0]: part[-1] for part in parts}
    if not all(map(all, parts)) or len(types) < len(parts):
        found = ", ".join("=".join(part) for part in parts)
        raise click.BadParameter(
            f"{found!r} names a type twice, or has an empty name; expected city,person or LOC=location"
        )
    return types


def _described(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The labels and descriptions of types that were given as "LOC=a place on a map"."""
    parts = [one.partition("=") for one in given]
    types: dict[str, tuple[str, ...]] = {label.strip(): (text.strip(),) for label, _, text in parts}
    if len(types) < len(parts) or not all(label and text for label, (text, *_) in types.items()):
        raise click.BadParameter(f"{', '.join(given)!r} describes a type twice, or not at all; expected LABEL=TEXT")
    return types


def _several(
    context: click.Context, option: click.Parameter, given: tuple[tuple[str, ...], ...]
) -> dict[str, tuple[str, ...]]:
    """The labels and names of types; a label that stands several times has several names."""
    types: dict[str, tuple[str, ...]] = {}
    for one in _together(context, option, given) or ():
        label, _, name = one.partition("=") if "=" in one else (one, "", one)
        label, name = label.strip(), name.strip()
        if not (label and name) or name in types.get(label, ()):
            raise click.BadParameter(f"{one!r} names a type twice, or not at all; expected city,person or LOC=location")
        types[label] = (*types.get(label, ()), name)
    return types


type_names_option = click.option(
    "--concepts",
    type=CommaSeparated(),
    multiple=True,
    callback=_several,
    metavar="NAME[,NAME]",
    help="Names of the types, or LABEL=NAME where the label is not a name. A label that is given twice has two names, "
    "whose vectors are averaged. Without DATA, the probe is made from the names alone; with DATA, from names and "
    "examples.  [default: the labels of DATA that read as names]",
)
describe_option = click.option(
    "--describe",
    multiple=True,
    callback=_described,
    metavar="LABEL=TEXT",
    help="A description of a type, in place of its name. May be repeated.",
)


def named_types_option(flag: str, text: str, *, required: bool = False) -> Callable[[Command], Command]:
    """An option that takes names of types, each perhaps behind its label, as `{label: name}`; see `names_option`."""
    text += r" LABEL=NAME gives the type another label. May be repeated; a comma within a name is written \,."
    return click.option(
        flag,
        type=CommaSeparated(),
        multiple=True,
        required=required,
        callback=_labelled,
        metavar="NAME[,NAME]",
        help=text,
    )


def types_option(text: str) -> Callable[[Command], Command]:
    """The option --types of a command; `text` says what the option means there."""
    return names_option("--types", "TYPE[,TYPE]", text)


def given_names(
    concepts: dict[str, tuple[str, ...]], describe: dict[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Names and descriptions by label."""
    from nuner_embed.heads.names import require_different

    both = sorted(set(concepts) & set(describe))
    if both:
        raise click.UsageError(f"{both[0]} is named by --concepts and described by --describe; give one of them")
    given = {**concepts, **describe}
    try:
        require_different(given)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--concepts") from None
    return given


def named_types(
    types: "Sequence[str]", given: dict[str, tuple[str, ...]], model: str, threads: int
) -> "NamedTypes | None":
    """The names beside the examples, which are shown; None where there are none and none were given."""
    from nuner_embed.cli.progress import note
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.errors import ModelError
    from nuner_embed.heads.labelled_words import shortened
    from nuner_embed.heads.names import NamedTypes, names_of

    names = names_of(types, given)
    if not names:
        note("names: none, since no label reads as one; --concepts LABEL=NAME helps where examples are few")
        return None
    try:
        concepts = ConceptEncoder.open(model, threads=threads)
        usable = {label: several for label, several in names.items() if label in given or concepts.takes(*several)}
        named = NamedTypes(usable, concepts)
    except ModelError as error:
        if given:
            raise
        note(f"names: not used, since {error}")
        return None
    except ValueError as error:  # a name that is none
        raise click.BadParameter(str(error), param_hint="--concepts") from None
    shown = [f"{label} = {' / '.join(several)}" for label, several in usable.items()]
    note(f"names: {shortened(shown)}; --concepts LABEL=NAME for others, --no-names for none")
    return named


k_option = click.option(
    "--k",
    type=click.IntRange(1, SHOTS_MOST),
    help="Draw between K and 2K mentions of each type from DATA.  [default: use all of DATA]",
)
short_types_option = click.option(
    "--short-types",
    type=click.Choice(["fail", "drop", "keep"]),
    default="fail",
    show_default=True,
    help="What to do with types that have fewer than K mentions: stop, leave the type out, or use the mentions there "
    "are.",
)
