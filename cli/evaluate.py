"""`nuner-embed evaluate fewshot`."""

from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import (
    Sizes,
    c_option,
    class_weight_option,
    json_option,
    output_folder_option,
    print_json,
    reading_options,
    require_apart,
    threads_option,
)
from nuner_embed.cli.streams import show
from nuner_embed.limits import DRAWS_MOST, SEED_MOST


@click.group()
def evaluate() -> None:
    """Compare models with the protocol of the paper."""


@evaluate.command(
    epilog="Example: nuner-embed evaluate fewshot --model base=minilm-l6 --model nuner=nuner-mini --set movie "
    "train.conll test.conll -o results"
)
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="[NAME=]MODEL",
    help="A model to measure, and the name that the tables show. May be repeated: the other models are compared with "
    "the first.",
)
@click.option(
    "--set",
    "sets",
    nargs=3,
    multiple=True,
    required=True,
    metavar="NAME TRAIN TEST",
    help="A name, an annotated corpus to train on and one to test on. May be repeated.",
)
@click.option(
    "--k",
    type=Sizes(),
    default="1,2,4,8,16,32,64",
    show_default=True,
    help="Sizes of the support sets, separated by commas.",
)
@click.option(
    "--draws",
    type=click.IntRange(1, DRAWS_MOST),
    default=10,
    show_default=True,
    help="Number of support sets per size.",
)
@click.option(
    "--seed", type=click.IntRange(0, SEED_MOST), default=0, show_default=True, help="Random seed of the draws."
)
@click.option(
    "--unit",
    type=click.Choice(["mentions", "words"]),
    default="mentions",
    show_default=True,
    help="What k counts. mentions: a support set has k to 2k mentions of each type; words: exactly k words of each "
    "type (section 6 of the paper).",
)
@click.option(
    "--short-types",
    type=click.Choice(["blank", "drop", "keep"]),
    default="blank",
    show_default=True,
    help="What to do if a type has fewer than k mentions or words: leave the cell blank, leave the type out, or use "
    "what there is.",
)
@c_option
@class_weight_option
@reading_options
@output_folder_option("Directory to write the results to.")
@threads_option
@json_option
def fewshot(
    models: tuple[str, ...],
    sets: tuple[tuple[str, str, str], ...],
    c: float,
    reading: dict[str, Any],
    output: Path,
    threads: int,
    as_json: bool,
    **protocol: Any,
) -> None:
    """Measure probes that learn from k examples per type, for every model, set and k.

    All models learn from the same support sets, and each probe is measured on a whole test corpus. The command writes
    results.json, table.md and figure.png. The same command continues an interrupted run; with a further model or set,
    the command measures only what is missing.
    """
    pairs = [_named(model) for model in models]
    require_apart(output, [*(place for _, place in pairs), *(part for one in sets for part in one[1:])], folder=True)
    from nuner_embed.cli.progress import RowProgress, conclude, note
    from nuner_embed.evaluation.fewshot import FewShotProtocol
    from nuner_embed.evaluation.fewshot_run import evaluate_fewshot, read_set, wrong_names
    from nuner_embed.evaluation.results_folder import TABLE_FILE, require_free
    from nuner_embed.files import expand

    for what, names in (("model", [name for name, _ in pairs]), ("set", [name for name, _, _ in sets])):
        problem = wrong_names(what, names)
        if problem:
            raise click.UsageError(problem)
    require_free(expand(output))  # said before anything is read
    typed = [read_set(*one, **reading) for one in sets]
    with RowProgress("") as progress:
        found = evaluate_fewshot(
            dict(pairs), typed, output, FewShotProtocol(C=c, **protocol), threads=threads, progress=progress, note=note
        )
    if as_json:
        print_json(found)
    else:
        show(*(expand(output) / TABLE_FILE).read_text(encoding="utf-8").split("\n"))
    conclude(
        read=", ".join(one.name for one in typed),
        made=f"{output}, results.json, table.md and figure.png",
        then=f"look at {output / TABLE_FILE}",
    )


def _named(model: str) -> tuple[str, str]:
    """NAME=MODEL, or a model that goes by its own name."""
    name, equals, place = model.partition("=")
    return (name, place) if equals and name and place and not Path(model).exists() else (model, model)
