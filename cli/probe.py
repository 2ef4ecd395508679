"""`nuner-embed probe train|predict|evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nuner_embed.cli.options import (
    CommaSeparated,
    c_option,
    class_weight_option,
    counted,
    format_option,
    json_option,
    model_option,
    print_facts,
    print_json,
    threads_option,
    types_option,
)
from nuner_embed.probing.defaults import NAMED_THRESHOLD

if TYPE_CHECKING:
    from nuner_embed.probing.tagger import Tagger

_AT_ONCE = 512


@click.group()
def probe() -> None:
    """Few-shot NER: a linear layer on frozen features, trained in seconds."""


@probe.command(epilog="Example: nuner-embed probe train train.conll -o probe --k 8 --seed 0")
@click.argument("data", nargs=-1)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory of the probe.")
@model_option
@click.option(
    "--concepts",
    type=CommaSeparated(),
    metavar="NAME[,NAME]",
    help="Without DATA: make the probe of these names of types, through the model's concept encoder. LABEL=NAME where "
    "the type is to be called something else.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help=f"With --concepts: how probable a type must be for a word to be of it.  [default: {NAMED_THRESHOLD}]",
)
@click.option(
    "--k", type=click.IntRange(1), help="Draw between K and 2K mentions of each type.  [default: all the data]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the draw.")
@types_option("Types to tell apart; words of others count as none.  [default: all]")
@click.option(
    "--short-types",
    type=click.Choice(["fail", "drop", "keep"]),
    default="fail",
    show_default=True,
    help="What becomes of types with fewer than K mentions.",
)
@c_option
@class_weight_option
@format_option
@threads_option
@click.option("--force", is_flag=True, help="Replace a probe that is there.")
@json_option
def train(
    data: tuple[str, ...],
    output: Path,
    model: str,
    concepts: tuple[str, ...] | None,
    threshold: float | None,
    k: int | None,
    seed: int,
    types: tuple[str, ...] | None,
    short_types: Any,
    c: float,
    class_weight: str | None,
    format_: str | None,
    threads: int,
    force: bool,
    as_json: bool,
) -> None:
    """Train a probe on DATA, a corpus with spans or BIO tags, or make one of the names of types.

    Each word gets one type or none; adjacent words of one type are one mention.
    """
    from dataclasses import asdict

    from nuner_embed.cli.hits import plain
    from nuner_embed.cli.progress import RowProgress, conclude, note
    from nuner_embed.encoding.load import load_encoder
    from nuner_embed.errors import ProbeError
    from nuner_embed.probing.bundle import PROBE_FILE
    from nuner_embed.probing.reading import read_annotated
    from nuner_embed.probing.support import choose_support

    if bool(data) == bool(concepts):
        raise click.UsageError("give DATA to learn from, or --concepts; one of them")
    if threshold and not concepts:
        raise click.UsageError("--threshold goes with --concepts")
    if output.exists() and not output.is_dir():
        raise ProbeError(f"{output} is a file; name a directory for the probe")
    if (output / PROBE_FILE).exists() and not force:
        raise ProbeError(f"{output} holds a probe; name another directory, or replace it with --force")
    if concepts:
        _require_default("k", "seed", "types", "short_types", "c", "class_weight", "format_")
        tagger = _of_concepts(concepts, model, threads, threshold)
        tagger.save(output)
        conclude(
            read=counted(len(concepts), "name"), made=f"{output}", then=f"nuner-embed probe predict {output} CORPUS"
        )
        if as_json:
            print_json(asdict(tagger.facts))
        else:
            print_facts({plain(label): plain(name) for label, name in tagger.facts.parameters["concepts"].items()})
        return
    documents, _ = read_annotated(data, format_)
    support = choose_support(  # what cannot be learnt is said before the encoder is loaded
        documents, types=types, k=k, seed=seed, short=short_types, what=", ".join(data)
    )
    from nuner_embed.probing.training import fit_probe  # slow to import

    with RowProgress("characters") as progress:
        encoder = load_encoder(model, threads=threads)
        tagger = fit_probe(support, encoder, C=c, class_weight=class_weight, progress=progress)
    tagger.save(output)
    training = tagger.facts.training
    note(
        f"{counted(training.sentences, 'sentence')}, {counted(training.words, 'word')}; gradient norm "
        f"{training.gradient_norm:.0e} after {counted(training.iterations, 'step')}"
    )
    if training.left_out:
        note(f"left out: {', '.join(f'{plain(name)} ({count})' for name, count in training.left_out.items())}")
    if training.lost:
        note(f"not learnt from: {counted(training.lost, 'mention')}, overlapping an earlier one or holding no word")
    if as_json:
        print_json(asdict(tagger.facts))
    else:
        click.echo("mentions in the support set:")
        print_facts({plain(name): count for name, count in training.mentions.items()})
    conclude(
        read=f"{', '.join(data)}, {counted(training.sentences, 'sentence')}",
        made=f"{output}, a probe for {counted(len(training.mentions), 'type')}",
        then=f"nuner-embed probe predict {output} CORPUS",
    )


def _require_default(*names: str) -> None:
    """Refuses options of this command that would be ignored."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} goes with DATA, not with --concepts")


def _of_concepts(concepts: tuple[str, ...], model: str, threads: int, threshold: float | None) -> "Tagger":
    from nuner_embed.encoding.concepts import ConceptEncoder
    from nuner_embed.encoding.load import load_encoder
    from nuner_embed.probing.zero_shot import zero_shot_tagger

    parts = [tuple(part.strip() for part in one.split("=", 1)) for one in concepts]
    types = {part[0]: part[-1] for part in parts}
    if not all(map(all, parts)) or len(types) < len(parts):
        raise click.BadParameter(f"{', '.join(concepts)} names a type twice, or not at all", param_hint="--concepts")
    concept_encoder = ConceptEncoder.open(model, threads=threads)
    encoder = load_encoder(model, threads=threads, layers=(-1,), normalize=concept_encoder.metric == "cosine")
    try:
        return zero_shot_tagger(types, encoder, concept_encoder, threshold or NAMED_THRESHOLD)
    except ValueError as error:  # a name that is none
        raise click.BadParameter(str(error), param_hint="--concepts") from None


@probe.command(epilog="Example: nuner-embed probe predict probe texts.txt -o found.jsonl")
@click.argument("probe_", metavar="PROBE", type=click.Path(path_type=Path))
@click.argument("corpus", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A .jsonl file with spans, or a .conll file with BIO tags.  [default: highlights on the terminal]",
)
@click.option("--model", help="The encoder.  [default: where it was when the probe was trained]")
@format_option
@threads_option
@click.option("--json", "as_json", is_flag=True, help="Print JSONL with spans.")
def predict(
    probe_: Path,
    corpus: tuple[str, ...],
    output: Path | None,
    model: str | None,
    format_: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Find mentions in CORPUS with PROBE."""
    from nuner_embed import Corpus
    from nuner_embed.cli.progress import RowProgress, note
    from nuner_embed.cli.tagged import writer
    from nuner_embed.documents import Document
    from nuner_embed.probing.tagger import Tagger

    if output is not None and as_json:
        raise click.UsageError("-o names a file; leave it out for --json")
    with Corpus(corpus, format=format_) as opened:
        total = opened.survey().documents  # bad records are seen before the encoder is loaded
        tagger = Tagger.open(probe_, model=model, threads=threads)
        mentions = done = 0
        with writer(output, as_json=as_json) as write, RowProgress("documents") as progress:
            group: list[Document] = []
            for item in opened:
                if isinstance(item, Document):
                    group.append(item)
                if len(group) == _AT_ONCE or done + len(group) == total:
                    found = tagger.tag(group)
                    write(found)
                    mentions += sum(len(document.spans) for document in found)
                    done += len(group)
                    progress("tagging", done, total)
                    group = []
    note(f"{counted(mentions, 'mention')} in {counted(total, 'document')}" + (f": {output}" if output else ""))


@probe.command(epilog="Example: nuner-embed probe evaluate probe test.conll")
@click.argument("probe_", metavar="PROBE", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--model", help="The encoder.  [default: where it was when the probe was trained]")
@types_option("Types to look at; words of others count as none.  [default: all that the probe knows]")
@click.option("--confusion", is_flag=True, help="Also show which type was taken for which.")
@format_option
@threads_option
@json_option
def evaluate(
    probe_: Path,
    data: tuple[str, ...],
    model: str | None,
    types: tuple[str, ...] | None,
    confusion: bool,
    format_: str | None,
    threads: int,
    as_json: bool,
) -> None:
    """Compare what PROBE finds with what is annotated in DATA."""
    from nuner_embed.cli.progress import RowProgress
    from nuner_embed.cli.scores import show_scores
    from nuner_embed.evaluation.tagging import comparable_types, score_tagger
    from nuner_embed.probing.bundle import read_probe
    from nuner_embed.probing.reading import read_annotated
    from nuner_embed.probing.tagger import Tagger

    documents, _ = read_annotated(data, format_)
    what = ", ".join(data)
    comparable_types(read_probe(probe_)[1], documents, types, what)  # before the encoder is loaded
    tagger = Tagger.open(probe_, model=model, threads=threads)
    with RowProgress("characters") as progress:
        scores = score_tagger(tagger, documents, types=types, what=what, progress=progress)
    if as_json:
        print_json(scores.to_dict(confusion=confusion))
    else:
        show_scores(scores, confusion=confusion)
