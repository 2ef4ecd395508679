"""`nuner-embed probe train|predict|evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from nuner_embed.cli.decoding import Decode, decode_option, decoded_by, detector_for
from nuner_embed.cli.options import (
    PROBABILITY,
    c_option,
    class_weight_option,
    counted,
    json_option,
    model_option,
    output_folder_option,
    print_facts,
    print_json,
    reading_options,
    require_apart,
    tagged_output_option,
    threads_option,
)
from nuner_embed.cli.streams import show
from nuner_embed.cli.type_names import (
    describe_option,
    given_names,
    k_option,
    named_types,
    short_types_option,
    type_names_option,
    types_option,
)
from nuner_embed.heads import AUTO_CLASS_WEIGHT, EVEN_THRESHOLD, NAMED_THRESHOLD
from nuner_embed.limits import SEED_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuner_embed.documents import Document
    from nuner_embed.heads.base import Head
    from nuner_embed.heads.linear import Training
    from nuner_embed.heads.tagger import Tagger

_DENSE = 0.05  # running text holds fewer words of a few types than that


@click.group()
def probe() -> None:
    """Few-shot NER: train and use a linear layer on frozen features."""


@probe.command(epilog="Example: nuner-embed probe train train.conll -o probe --k 8 --seed 0")
@click.argument("data", nargs=-1)
@output_folder_option("Directory to write the probe to.")
@model_option
@type_names_option
@describe_option
@click.option(
    "--no-names",
    is_flag=True,
    help="Learn from the examples alone, as in the paper, and make no names from the labels of DATA.",
)
@click.option(
    "--threshold",
    type=PROBABILITY,
    help=f"Without DATA: minimum probability of a type for a word to get the type.  [default: {NAMED_THRESHOLD}]",
)
@k_option
@click.option(
    "--seed", type=click.IntRange(0, SEED_MOST), default=0, show_default=True, help="Random seed of the draw."
)
@types_option("Types to learn, instead of all types of DATA; words of other types count as words of no type.")
@short_types_option
@click.option(
    "--background",
    metavar="STORE|CORPUS",
    help="A store or corpus whose words are added as words of no type. Useful if the types are rare in the texts to "
    "label. The default of --class-weight is then balanced.",
)
@c_option
@class_weight_option
@decode_option
@reading_options
@threads_option
@click.option("--force", is_flag=True, help="Replace a probe in the directory.")
@json_option
def train(
    data: tuple[str, ...],
    output: Path,
    model: str,
    concepts: dict[str, tuple[str, ...]],
    describe: dict[str, tuple[str, ...]],
    no_names: bool,
    threshold: float | None,
    k: int | None,
    seed: int,
    types: tuple[str, ...] | None,
    short_types: Any,
    background: str | None,
    c: float,
    class_weight: str | None,
    decode: Decode,
    reading: dict[str, Any],
    threads: int,
    force: bool,
    as_json: bool,
) -> None:
    """Train a probe on DATA, a corpus with spans or BIO tags, on the names of types, or on both.

    Names help most where examples are few. Where a label of DATA reads as a name (city, cell_type), that name is used.

    In a .txt file, a mention stands in double brackets, with its label after a bar: The ferry to [[Oslo|city]].

    The probe gives each word one type or none; adjacent words of one type form one mention, unless --decode says
    otherwise.
    """
    from dataclasses import asdict

    from nuner_embed.artifacts import require_replaceable
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.corpora.corpus import read_annotated
    from nuner_embed.encoders.loader import load_encoder
    from nuner_embed.heads.io import PROBE
    from nuner_embed.heads.support_set import choose_support

    given = given_names(concepts, describe)
    _require_agreement(data, given, no_names, threshold)
    require_apart(output, [*data, background, model], folder=True)
    require_replaceable(output, PROBE, force=force)  # said before anything is read
    if not data:
        _require_default(
            "k", "seed", "types", "short_types", "background", "c", "class_weight", "format_",
            "text_column", "id_column", "word_column", "tag_column", "tag_names", "max_line_mib",
        )  # fmt: skip
        named_only = _of_concepts(given, model, threads, threshold, decode)
        named_only.save(output, force=force)
        _show_named(given, asdict(named_only.head.facts), output, as_json)
        return
    documents, _ = read_annotated(data, **reading)
    support_set = choose_support(  # what cannot be learnt is said before the encoder is loaded
        documents, types=types, k=k, seed=seed, short=short_types, what=", ".join(data)
    )
    from nuner_embed.heads.probe import fit_probe, require_among  # slow to import

    require_among(given, support_set)
    named = None if no_names else named_types(support_set.types, given, model, threads)
    fitting: dict[str, Any] = {"C": c if _is_given("c") else None, "background": background, "named": named}
    fitting["class_weight"] = class_weight if _is_given("class_weight") else AUTO_CLASS_WEIGHT
    detector = detector_for(decode, model)
    with RowProgress("characters") as progress:
        encoder = load_encoder(model, threads=threads)
        tagger = fit_probe(support_set, encoder, progress=progress, **fitting)
    training = tagger.head.facts.training
    decoded = tagger if detector is None else decoded_by(tagger, support_set.documents, decode, detector)
    decoded.save(output, force=force)
    _note_training(training, background, rises=decoded is tagger)
    if as_json:
        print_json(asdict(decoded.head.facts))
    else:
        show("mentions in the support set:")
        print_facts(dict(training.mentions))
    conclude(
        read=f"{', '.join(data)}, {counted(training.sentences, 'sentence')}",
        made=f"{output}, a probe for {counted(len(training.mentions), 'type')}",
        then=f"nuner-embed probe predict {output} CORPUS",
    )


def _require_agreement(
    data: tuple[str, ...], given: dict[str, tuple[str, ...]], no_names: bool, threshold: float | None
) -> None:
    """Refuses options that do not go together."""
    if not data and not given:
        raise click.UsageError("give DATA to learn from, or --concepts, or both")
    if data and threshold:
        raise click.UsageError("--threshold goes with names alone; probe predict takes one too")
    if no_names and given:
        raise click.UsageError("--no-names goes with neither --concepts nor --describe")


def _show_named(concepts: dict[str, tuple[str, ...]], facts: dict[str, Any], output: Path, as_json: bool) -> None:
    """Says what was made of the names of types, without examples."""
    from nuner_embed.cli.progress import conclude

    conclude(read=counted(len(concepts), "name"), made=f"{output}", then=f"nuner-embed probe predict {output} CORPUS")
    if as_json:
        print_json(facts)
    else:
        print_facts({label: " / ".join(several) for label, several in sorted(concepts.items())})


def _note_training(training: "Training", background: str | None, *, rises: bool) -> None:
    """Says what the probe was trained on, and what of the data it could not learn from.

    Args:
        training: of the probe.
        background: as on the command line.
        rises: whether the threshold of the head rises where mentions are rare.
    """
    from nuner_embed.cli.progress import note
    from nuner_embed.heads.labelled_words import shortened

    note(
        f"{counted(training.sentences, 'sentence')}, {counted(training.words, 'word')}; gradient norm "
        f"{training.gradient_norm:.0e} after {counted(training.iterations, 'step')}"
    )
    if background:
        note(f"background: {counted(training.background_words, 'word')} of {background}, taken for words of no type")
    elif training.mention_words >= _DENSE * training.words:
        note(
            f"{training.mention_words / training.words:.0%} of these words are in mentions; where texts hold far "
            "fewer, name some of them with --background; without it, probe predict "
            + ("only raises its threshold there" if rises else "finds too much there")
        )
    if training.left_out:
        left_out = [f"{name} ({count})" for name, count in training.left_out.items()]
        note(f"left out: {shortened(left_out, 20)}")
    if training.lost:
        note(f"not learnt from: {counted(training.lost, 'mention')}, overlapping an earlier one or holding no word")


def _is_given(name: str | None) -> bool:
    """Whether an option of this command stands on the command line."""
    source = click.get_current_context().get_parameter_source(name or "")
    return source == ParameterSource.COMMANDLINE


def _require_default(*names: str) -> None:
    """Refuses options of this command that would be ignored."""
    for parameter in click.get_current_context().command.params:
        if parameter.name in names and _is_given(parameter.name):
            raise click.UsageError(f"{parameter.opts[0]} goes with DATA, not with --concepts")


def _of_concepts(
    types: dict[str, tuple[str, ...]], model: str, threads: int, threshold: float | None, decode: Decode
) -> "Tagger[Head]":
    from nuner_embed.heads.zero_shot import named_tagger

    try:
        return named_tagger(types, model=model, threshold=threshold or NAMED_THRESHOLD, decode=decode, threads=threads)
    except ValueError as error:  # a name that is none
        raise click.BadParameter(str(error), param_hint="--concepts") from None


_threshold_option = click.option(
    "--threshold",
    type=PROBABILITY,
    help="Minimum probability of a type for a word to get the type; a lower threshold finds more mentions, a higher "
    "one makes fewer errors.  [default: 0.5, and up to 0.9 where mentions are much rarer than in the training data; "
    "for a probe made with --concepts, the threshold given to probe train]",
)


@probe.command(epilog="Example: nuner-embed probe predict probe texts.txt -o found.jsonl")
@click.argument("probe_", metavar="PROBE", type=click.Path(path_type=Path))
@click.argument("corpus", nargs=-1, required=True)
@tagged_output_option("highlights on the terminal")
@_threshold_option
@click.option("--model", help="The encoder of the probe.  [default: the path or name given when the probe was trained]")
@reading_options
@threads_option
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSONL on standard output, with spans and the probability of every type for each span.",
)
def predict(
    probe_: Path,
    corpus: tuple[str, ...],
    output: Path | None,
    threshold: float | None,
    model: str | None,
    reading: dict[str, Any],
    threads: int,
    as_json: bool,
) -> None:
    """Find the mentions in CORPUS with PROBE."""
    from nuner_embed import Corpus
    from nuner_embed.cli.tagged import conclude_tagging, tag_corpus, writer
    from nuner_embed.heads.tagger import Tagger

    if output is not None and as_json:
        raise click.UsageError("-o names a file; leave it out for --json")
    require_apart(output, [probe_, *corpus, model])
    with Corpus(corpus, **reading) as opened, writer(output, f"nuner-embed {probe_.name}", as_json=as_json) as write:
        opened.survey()  # bad records are seen before the encoder is loaded
        tagger = Tagger.open(probe_, model=model, threads=threads)
        asked = threshold or _threshold_for(tagger, opened.survey().sample)
        mentions = tag_corpus(opened, lambda documents: tagger.tag(documents, asked, scores=as_json), write)
    conclude_tagging(corpus, opened, mentions, output)


def _threshold_for(tagger: "Tagger[Head]", documents: "Sequence[Document]") -> float | None:
    """The threshold where none is asked for: None for the head's own; or what rare mentions need, which is said."""
    from nuner_embed.cli.progress import RowProgress, note
    from nuner_embed.heads.linear import LinearHead

    with RowProgress("documents") as progress:
        threshold = tagger.threshold_for(documents, progress)
    if not isinstance(tagger.head, LinearHead) or threshold == tagger.head.threshold:
        return None
    training = tagger.head.facts.training
    note(
        f"threshold {threshold:.2f}: mentions are far rarer here than in what the probe learnt from, "
        f"{training.mention_words / training.words:.0%} of the words; --threshold {EVEN_THRESHOLD} finds more and is "
        "less often right; a probe trained with --background may be better than either"
    )
    return threshold


@probe.command(epilog="Example: nuner-embed probe evaluate probe test.conll")
@click.argument("probe_", metavar="PROBE", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, required=True)
@click.option("--model", help="The encoder of the probe.  [default: the path or name given when the probe was trained]")
@_threshold_option
@types_option("Types to evaluate, instead of all types of the probe; words of other types count as words of no type.")
@click.option("--confusion", is_flag=True, help="Also show a confusion matrix of the types.")
@reading_options
@threads_option
@json_option
def evaluate(
    probe_: Path,
    data: tuple[str, ...],
    model: str | None,
    threshold: float | None,
    types: tuple[str, ...] | None,
    confusion: bool,
    reading: dict[str, Any],
    threads: int,
    as_json: bool,
) -> None:
    """Compare the mentions that PROBE finds in DATA with the annotations of DATA."""
    from nuner_embed.cli.progress import RowProgress, conclude
    from nuner_embed.cli.tables import show_scores
    from nuner_embed.corpora.corpus import read_annotated
    from nuner_embed.evaluation.metrics import comparable_types, score_tagger
    from nuner_embed.heads.io import open_head
    from nuner_embed.heads.tagger import Tagger

    documents, _ = read_annotated(data, **reading)
    what = ", ".join(data)
    comparable_types(open_head(probe_), documents, types, what)  # before the encoder is loaded
    tagger = Tagger.open(probe_, model=model, threads=threads)
    asked = threshold or _threshold_for(tagger, documents)
    with RowProgress("characters") as progress:
        scores = score_tagger(tagger, documents, types=types, threshold=asked, what=what, progress=progress)
    if as_json:
        print_json(scores.to_dict(confusion=confusion))
    else:
        show_scores(scores, confusion=confusion)
    conclude(
        read=f"{what}, {counted(scores.documents, 'sentence')}",
        made=f"scores of {counted(len(scores.types), 'type')}, on standard output",
        then=f"nuner-embed probe predict {probe_} CORPUS",
    )
