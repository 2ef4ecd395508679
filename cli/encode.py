"""`nuner-embed encode`."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli.options import (
    PROBABILITY,
    counted,
    device_option,
    how_to_read_parquet,
    json_option,
    layers_option,
    model_option,
    output_folder_option,
    print_json,
    reading_options,
    require_apart,
    size,
)
from nuner_embed.runtimes.registry import CHOICES

if TYPE_CHECKING:
    from nuner_embed.corpora.corpus import Corpus
    from nuner_embed.heads.detector import ProbeDetector


@click.command(epilog="Example: nuner-embed encode corpus.jsonl more/ -o store --model model --rows mention")
@click.argument("corpus", nargs=-1, required=True)
@output_folder_option(
    "Directory to write the store to; or a .parquet file to write the rows and their vectors to.", "store"
)
@model_option
@click.option(
    "--rows",
    type=click.Choice(["token", "word", "mention"]),
    default="word",
    show_default=True,
    help="Unit of text that gets an embedding.",
)
@click.option(
    "--mentions",
    type=click.Choice(["auto", "given", "detect"]),
    default="auto",
    show_default=True,
    help="Which mentions --rows mention encodes. given: the spans of the corpus; detect: the mentions that a detector "
    "finds; auto: the spans, if there are any and neither --detector nor --threshold is given.",
)
@click.option(
    "--detector", metavar="PROBE", help="A probe that finds the mentions.  [default: the detector of the model]"
)
@click.option(
    "--threshold",
    type=PROBABILITY,
    help="Minimum probability that a word is part of a mention.  [default: 0.5]",
)
@reading_options
@click.option(
    "--pooling",
    type=click.Choice(["first", "last", "mean"]),
    help="Which word pieces represent a word; a mention is the mean of its tokens.  [default: the model's recipe]",
)
@layers_option
@click.option(
    "--max-length", type=click.IntRange(3), help="Maximum length of a window in tokens.  [default: the model's recipe]"
)
@click.option(
    "--stride",
    type=click.IntRange(0),
    help="Number of tokens that neighbouring windows share.  [default: the model's recipe]",
)
@click.option(
    "--normalize/--no-normalize",
    default=None,
    help="Whether vectors are scaled to unit length.  [default: the model's recipe, usually off]",
)
@click.option(
    "--overflow",
    type=click.Choice(["window", "truncate", "error"]),
    default="window",
    show_default=True,
    help="Whether a text longer than a window is split into windows, truncated, or an error.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Data type of the stored vectors.",
)
@click.option(
    "--runtime",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="Runtime of the model. auto: for an exported directory the fastest runtime that passes its gate, for any "
    "other model torch.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "f32", "bf16", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Precision of the arithmetic. auto: the fastest that passes its gate (bf16 where the processor has it); "
    "f32 in torch on CUDA. int8: with OpenVINO, an exported model in fp32 and a processor with VNNI.",
)
@device_option
@click.option(
    "--batch-tokens",
    default="auto",
    show_default=True,
    metavar="N|auto",
    callback=lambda _, __, v: _count(v),
    help="Maximum number of tokens per batch, including padding; auto: the fastest number on this machine.",
)
@click.option(
    "--threads",
    type=click.IntRange(0, 1024),
    default=0,
    help="Number of threads of the runtime.  [default: one per core, shared among the workers]",
)
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Number of processes that encode."
)
@click.option(
    "--shard-rows",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Number of rows per shard, or of words where mentions are detected; bounds the memory of the command.",
)
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What to do with a bad record. fail: stop; skip: list the record in rejects.jsonl and go on.",
)
@click.option("--force", is_flag=True, help="Start over, even if the store holds an earlier job.")
@json_option
def encode(
    corpus: tuple[str, ...],
    store: Path,
    reading: dict[str, Any],
    mentions: str,
    detector: str | None,
    threshold: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Encode CORPUS (files, directories, or - for standard input) into a store.

    The command may be interrupted at any time; the same command continues the job. For a .parquet file, the command
    keeps a hidden store beside the file until the file is complete.
    """
    import nuner_embed
    from nuner_embed.cli.progress import JobReporter, note
    from nuner_embed.jobs.options import JobOptions
    from nuner_embed.store.parquet_file import store_beside

    if options["rows"] != "mention" and (mentions != "auto" or detector or threshold):
        raise click.UsageError("--mentions, --detector and --threshold go with --rows mention")
    if mentions == "given" and (detector or threshold):
        raise click.UsageError("--detector and --threshold find mentions; they do not go with --mentions given")
    require_apart(store, [*corpus, options["model"], detector], folder=store.suffix != ".parquet")
    file = store if store.suffix == ".parquet" else None
    if "-" in corpus:  # said before standard input is read to its end
        note("standard input cannot be read twice: if this job is interrupted, it must start over")
    with contextlib.ExitStack() as stack:
        if file is not None:
            store = stack.enter_context(store_beside(file, force=options["force"]))
        reading |= {"on_error": options.pop("on_error"), "exclude": [store, file or store]}
        source = nuner_embed.Corpus(list(corpus), **reading)
        with source, JobReporter(None if file else store) as reporter:
            if options["rows"] == "mention" and mentions != "given":
                explicit = bool(detector or threshold)
                options["detector"] = _detector(source, mentions, explicit, detector or options["model"], threshold)
            job = JobOptions.of(also_file=file is not None, **options)
            made = nuner_embed.encode(source, store, job, reporter=reporter)
        if file is not None:
            nuner_embed.write_parquet(made, file)
    if file is not None:
        note(f"made: {file}, {counted(len(made), 'row')}, {size(file.stat().st_size)}")
    note(_what_next(file, store))
    if as_json and reporter.summary:
        print_json(asdict(reporter.summary))


def _detector(
    source: "Corpus", mentions: str, explicit: bool, name: str, threshold: float | None
) -> "ProbeDetector | None":
    """What finds the mentions; None where the corpus gives them, and nobody asked for what would find them."""
    from nuner_embed.cli.progress import note
    from nuner_embed.heads.detector import DEFAULT_THRESHOLD, load_detector

    if mentions == "auto" and not explicit and source.survey().spans:
        return None
    found = load_detector(name, threshold or DEFAULT_THRESHOLD)
    note(f"mentions: found by the detector of {name}, with the threshold {found.threshold:g}")
    return found


def _what_next(file: Path | None, store: Path) -> str:
    if file is None:
        return f"next: nuner-embed index build {store} -o index"
    return f"next: {how_to_read_parquet(file)}"


def _count(value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither auto nor a number of tokens")
    return int(value)
