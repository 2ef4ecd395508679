"""`nuner-embed tag`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.decoding import named_decode_option
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

if TYPE_CHECKING:
    from nuner_embed.heads.zero_shot import Decode


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
    "--detector", metavar="PROBE", help="A probe that finds the mentions, in place of the span head of the model."
)
@named_decode_option
@click.option("--nested", is_flag=True, help="Find mentions that lie within other mentions, too.")
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
    decode: "Decode",
    nested: bool,
    reading: dict[str, Any],
    threads: int,
    as_json: bool,
) -> None:
    """Find the mentions of named types in TEXTS (files, directories, or - for standard input).

    No training and no examples are needed: the model's span head scores all short runs of words for each type. A model
    without a span head finds mentions with its detector, and its concept encoder gives each mention one of the types.
    Without torch, name an exported directory with --model.
    """
    if detector and (nested or decode == "words"):
        raise click.UsageError(f"--detector does not go with {'--nested' if nested else '--decode words'}")
    if nested and decode == "words":
        raise click.UsageError("--nested takes a span head, and does not go with --decode words")
    require_apart(output, [*texts, model, detector])
    from nuner_embed import Corpus
    from nuner_embed.cli.tagged import conclude_tagging, tag_corpus, writer
    from nuner_embed.heads.zero_shot import named_tagger

    with (
        Corpus(texts, **reading) as corpus,
        writer(output, f"nuner-embed {Path(model).name}", as_json=as_json or output is None) as write,
    ):
        corpus.survey()  # bad records are seen before the encoders are loaded
        try:
            tagger = named_tagger(
                types,
                model=model,
                threshold=threshold,
                decode=decode,
                nested=nested,
                detector=detector,
                threads=threads,
            )
        except ValueError as error:  # a name that is none
            raise click.BadParameter(str(error), param_hint="--types") from None
        mentions = tag_corpus(corpus, tagger.tag, write)
    conclude_tagging(texts, corpus, mentions, output)
