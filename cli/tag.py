"""`nuner-embed tag`."""

from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import (
    PROBABILITY,
    model_option,
    reading_options,
    require_apart,
    tagged_output_option,
    threads_option,
)
from nuner_embed.cli.type_names import named_types_option
from nuner_embed.heads import NAMED_THRESHOLD


@click.command(epilog="Example: nuner-embed tag notes.txt --types city,person -o spans.jsonl")
@click.argument("texts", nargs=-1, required=True)
@named_types_option("--types", "Names of the types in plain words.", required=True)
@tagged_output_option("JSONL on standard output")
@click.option(
    "--threshold",
    type=PROBABILITY,
    default=NAMED_THRESHOLD,
    show_default=True,
    help="Minimum probability of a type for a mention to get the type; a higher threshold finds fewer mentions, with "
    "fewer errors.",
)
@model_option
@click.option(
    "--detector", metavar="PROBE", help="A probe that finds the mentions.  [default: the detector of the model]"
)
@reading_options
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print JSONL, as the command does without -o anyway.")
def tag(
    texts: tuple[str, ...],
    types: dict[str, str],
    output: Path | None,
    threshold: float,
    model: str,
    detector: str | None,
    reading: dict[str, Any],
    threads: int,
    as_json: bool,
) -> None:
    """Find the mentions of named types in TEXTS (files, directories, or - for standard input).

    No training and no examples are needed: the model's detector finds mentions, and its concept encoder gives each
    mention one of the types. Without torch, name an exported directory with --model.
    """
    require_apart(output, [*texts, model, detector])
    from nuner_embed import Corpus
    from nuner_embed.cli.tagged import conclude_tagging, tag_corpus, writer
    from nuner_embed.heads.named import named_tagger

    with (
        Corpus(texts, **reading) as corpus,
        writer(output, f"nuner-embed {Path(model).name}", as_json=as_json or output is None) as write,
    ):
        corpus.survey()  # bad records are seen before the encoders are loaded
        try:
            tagger = named_tagger(types, model=model, threshold=threshold, detector=detector, threads=threads)
        except ValueError as error:  # a name that is none
            raise click.BadParameter(str(error), param_hint="--types") from None
        mentions = tag_corpus(corpus, tagger.tag, write)
    conclude_tagging(texts, corpus, mentions, output)
