"""`nuner-embed concepts`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import (
    FileToWrite,
    counted,
    json_option,
    print_facts,
    print_json,
    reading_options,
    require_apart,
    threads_option,
)
from nuner_embed.cli.streams import show


@click.group()
def concepts() -> None:
    """Calibrate the concept encoder of a pre-trained model, and draw a map of concepts."""


@concepts.command(epilog="Example: nuner-embed concepts calibrate encoder typed.conll")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Measure and print the calibration, but do not change the model.")
@reading_options
@threads_option
@json_option
def calibrate(
    model: Path, data: tuple[str, ...], dry_run: bool, reading: dict[str, Any], threads: int, as_json: bool
) -> None:
    """Calibrate the similarities of mentions and types as probabilities, on annotated DATA.

    MODEL is a directory that `pretrain` or `models save` wrote. DATA should be annotated by people, and MODEL should
    not have learnt from DATA. The command writes the calibration into MODEL: the scores of `search --concept` are then
    probabilities, and --min-score is a threshold on a probability.
    """
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.corpora.corpus import read_annotated
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.encoders.loader import load_encoder
    from nuner_embed.errors import ModelError
    from nuner_embed.evaluation.calibration import compare

    if not model.is_dir():
        raise ModelError(
            f"{model} is not a directory; a calibration is written into a model directory, such as nuner-embed models "
            "save makes"
        )
    documents, _ = read_annotated(data, **reading)
    concept_encoder = ConceptEncoder.open(str(model), threads=threads)
    encoder = load_encoder(str(model), threads=threads, layers=(-1,))
    with RowProgress("documents") as progress:
        pairs = compare(encoder, concept_encoder, documents, progress=progress)
    found = pairs.fit(f"{len(pairs.holds):,} mentions of {len(pairs.types)} types in {', '.join(data)}")
    calibrated = concept_encoder.calibrated(found)
    bins = [asdict(one) for one in pairs.bins(calibrated.probabilities(pairs.cosines))]
    if not dry_run:
        calibrated.facts.write(calibrated.directory)
        conclude(
            read=f"{', '.join(data)}, {counted(len(pairs.holds), 'mention')}",
            made=f"the calibration in {calibrated.directory}",
            then="nuner-embed search INDEX --concept NAME; its scores are probabilities now",
        )
    if as_json:
        print_json({**asdict(found), "types": list(pairs.types), "bins": bins})
        return
    print_facts(asdict(found))
    show("", "probability    pairs   said   seen")
    for one in bins:
        show(f"from {one['low']:.1f}  {one['pairs']:>11,}  {one['said']:.3f}  {one['seen']:.3f}")


@concepts.command("map", epilog="Example: nuner-embed concepts map encoder annotated.jsonl -o concepts.html")
@click.argument("model")
@click.argument("data", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=FileToWrite(),
    required=True,
    help="HTML page to write; a PNG of the map is written beside the page.",
)
@click.option(
    "--most", type=click.IntRange(10), default=5000, show_default=True, help="Number of most frequent concepts to show."
)
@reading_options
@threads_option
def map_(model: str, data: tuple[str, ...], output: Path, most: int, reading: dict[str, Any], threads: int) -> None:
    """Draw a map of the concepts in annotated DATA, like Figure 6 of the paper.

    Concepts that are similar for MODEL lie near each other. The map is an HTML page to zoom and search in, which needs
    no network, and a picture.
    """
    from nuner_embed.cli.progress import conclude, note
    from nuner_embed.corpora.corpus import read_annotated
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.errors import ModelError
    from nuner_embed.evaluation.concept_map import count_concepts, lay_out, require_own
    from nuner_embed.files import atomic_write
    from nuner_embed.installation import install_command

    if output.suffix not in (".html", ".htm"):
        raise click.UsageError(f"-o names an HTML page, such as concepts.html, not {output}")
    picture_file = output.with_suffix(".png")
    require_apart([output, picture_file], [model, *data])
    require_own(output, picture_file)
    documents, _ = read_annotated(data, **reading)
    counts = count_concepts(documents)
    encoder = ConceptEncoder.open(model, threads=threads)
    note(f"laying out {min(most, len(counts)):,} of {len(counts):,} concepts; this takes a while")
    try:
        found = lay_out(encoder, counts, most)
        picture = found.picture()
    except ImportError as error:
        raise ModelError(f"a map needs {error.name}; {install_command('plots')}") from None
    except OSError as error:  # matplotlib and numba keep files of their own
        raise ModelError(f"a map cannot be drawn: {error}") from None
    for path, content in ((output, found.page()), (picture_file, picture)):
        with atomic_write(path) as stream:
            stream.write(content)
    conclude(
        read=f"{', '.join(data)}, {counted(len(counts), 'concept')}",
        made=f"{output} and {picture_file}, {counted(len(found.names), 'concept')}",
        then=f"open {output} in a browser",
    )
