"""The pretrain job: an annotated corpus and a base model in, a text encoder and a concept encoder out."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError

from nuner_embed.arguments import Paths, Progress, StrPath, silent
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import TypedSet
from nuner_embed.files import expand, hash_of, read_json
from nuner_embed.machine import cores
from nuner_embed.models.known import DEFAULT_BASE, DEFAULT_MODEL
from nuner_embed.models.resolver import GraphModel, Model, TransformersModel, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.data import Prepared, prepare
from nuner_embed.pretraining.facts import FACTS_FILE, TRAINING_FOLDER
from nuner_embed.pretraining.folder import RESULT, held, is_placed, place, same_run
from nuner_embed.pretraining.parts import Base, Parts, PlannedProbe, Workplace, plan_quick_probe
from nuner_embed.pretraining.processes import joined
from nuner_embed.pretraining.related import BROADER_WEIGHT, RELATED_DRAWS
from nuner_embed.pretraining.settings import GOES_WITH, PretrainSettings
from nuner_embed.pretraining.span_data import AnnotatedCorpus
from nuner_embed.pretraining.span_run import SpanJob
from nuner_embed.pretraining.teacher import TEACHER_WEIGHT, Teacher
from nuner_embed.pretraining.thesaurus import Thesaurus
from nuner_embed.pretraining.trainer import Reporter, Trainer

_MAX_LENGTH = 256


def pretrain(
    data: Paths,
    output: StrPath,
    settings: PretrainSettings | None = None,
    *,
    base: str | None = None,
    probe_set: TypedSet | None = None,
    thesaurus: StrPath | None = None,
    teacher: str | None = None,
    device: str = "auto",
    threads: int = 0,
    cache: bool = True,
    force: bool = False,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
    **reading: Any,
) -> dict[str, Any]:
    """Pre-trains a text encoder, and a concept encoder with it, on an annotated corpus; or a span head on both.

    After an interruption, the same call continues the run; on one thread, the final weights are the same.

    Args:
        data: files or directories of an annotated corpus, concepts as labels of its spans.
        output: directory of the text encoder; the concept encoder is written into its folder `concept_encoder`.
        settings: all values; the preset `small` by default.
        base: the model from which both encoders start, or that gets a span head; None for minilm-l6, or nuner-mini for
            the objective spans.
        probe_set: a typed set for a quick probe at every validation.
        thesaurus: file of synonyms and broader types of the concepts, for the objectives contrastive and spans; see
            `Thesaurus`.
        teacher: a larger model of the same vocabulary, whose vectors of tokens the text encoder learns too, for the
            objective contrastive; see `Teacher`.
        device: "auto", "cpu" or "cuda".
        threads: of torch on a CPU; 0 for one a core.
        cache: keep the output of the frozen layers for every text in a file instead of computing it in every epoch.
        force: start over, even if `output` holds an earlier run or model.
        progress: is told `(what, done, total)`.
        note: is called with messages for people.
        reading: further options of `Corpus` for the data, such as `format` and `tag_names`.

    Returns:
        The contents of `pretrain.json`: base, data, settings and final measurements.

    Raises:
        PretrainingError: nothing to learn from, a bad thesaurus, an unfit teacher, settings that need one of these
            where there is none, `output` belongs to another run, or the loss is not finite.
        ModelError: the base cannot be loaded.
        CorpusError: the corpus cannot be read.
    """
    settings = settings or PretrainSettings()
    spans = settings.objective == "spans"
    name = base or (DEFAULT_MODEL if spans else DEFAULT_BASE)
    directory, model = expand(output), trainable(name)
    if spans and probe_set is not None:
        raise PretrainingError("a probe set measures a text encoder, which the objective spans does not change")
    settings = _completed(settings, thesaurus=thesaurus is not None, teacher=teacher is not None)
    further = Thesaurus.read(thesaurus) if thesaurus is not None else None
    if spans:
        corpus = AnnotatedCorpus(data, reading, further, directory / TRAINING_FOLDER)
        source = SpanJob(name, corpus, settings, device, threads)
        job = Job(name, model, source.prepare, source.put_together)
    else:
        job = _encoder_job(name, model, data, reading, settings, probe_set, further, teacher, (device, threads))
    return run_job(
        job, directory, device=device, threads=threads, cache=cache, force=force, reporter=Reporter(note, progress)
    )


def _completed(settings: PretrainSettings, *, thesaurus: bool, teacher: bool) -> PretrainSettings:
    """The settings with the defaults of those that go with a thesaurus or a teacher, and with no others of these."""
    if thesaurus and settings.objective == "token-classification":
        raise PretrainingError(
            "a thesaurus goes with the objectives contrastive and spans; token-classification learns tags, not concepts"
        )
    if teacher and settings.objective != "contrastive":
        raise PretrainingError(f"a teacher goes with the objective contrastive, not with {settings.objective}")
    given = {"thesaurus": thesaurus and settings.objective == "contrastive", "teacher": teacher}
    defaults = {"related_draws": RELATED_DRAWS, "broader_weight": BROADER_WEIGHT, "teacher_weight": TEACHER_WEIGHT}
    missing: dict[str, Any] = {}
    for name, what in GOES_WITH.items():
        if getattr(settings, name) is None:
            missing |= {name: defaults[name]} if given[what] else {}
        elif not given[what]:
            kind = "MODEL" if what == "teacher" else "FILE"
            raise PretrainingError(f"{name} goes with a {what}; give one with --{what} {kind}, or leave {name} out")
    return replace(settings, **missing)


def _encoder_job(
    base: str,
    model: TransformersModel,
    data: Paths,
    reading: dict[str, Any],
    settings: PretrainSettings,
    probe_set: TypedSet | None,
    thesaurus: Thesaurus | None,
    teacher: str | None,
    machine: tuple[str, int],
) -> "Job":
    """The job of a text encoder; `machine` is the device and the number of threads, for the teacher."""
    max_length = largest_length(base, model, settings.max_length)
    probe = plan_quick_probe(probe_set) if probe_set else None  # raises at once if no support set can be drawn

    taught_by: list[Teacher] = []

    def prepared(tokenizer: TextTokenizer, reporter: Reporter) -> tuple[Prepared, dict[str, Any]]:
        made = prepare(data, reading, tokenizer, settings, max_length, reporter.progress)
        if teacher is not None:
            taught_by.append(Teacher.open(teacher, tokenizer, *machine, settings.precision))
            taught_by[0].require_same_tokens(made.examples.labels, tokenizer, base)
        return made, {
            "data": made.facts("concepts" if settings.objective == "contrastive" else "tags"),
            "settings": settings.to_dict(),
            "probe_set": probe_set.sha256 if probe_set else None,
            # no key without one: a run of an earlier version has the same fingerprint
            **({"thesaurus": thesaurus.sha256} if thesaurus else {}),
            **({"teacher": taught_by[0].encoder.semantic_hash} if taught_by else {}),
        }

    def put_together(base: Base, prepared: Prepared, workplace: Workplace, reporter: Reporter) -> Parts:
        return Parts(base, prepared, settings, workplace, reporter, thesaurus, *taught_by)

    return Job(base, model, prepared, put_together, probe)


class RunParts(Protocol):
    """What a job trains and then writes.

    Attributes:
        workplace: folder and processes of the run.
        reporter: is told how the run goes.
    """

    workplace: Workplace
    reporter: Reporter

    def trainer(self, fingerprint: str, planned: PlannedProbe | None) -> Trainer:
        """The training loop."""
        ...

    def save(self, trainer: Trainer, made: dict[str, Any]) -> None:
        """Writes the model with the facts of the run into the folder `result`."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What is trained.

    Attributes:
        base: name of the base model.
        model: the base model.
        prepare: reads the data with the tokenizer of the base; returns them with what decides the run besides the base.
        put_together: makes the parts of the run.
        probe: a quick probe at every validation.
    """

    base: str
    model: TransformersModel
    prepare: Callable[[TextTokenizer, Reporter], tuple[Prepared, dict[str, Any]]]
    put_together: Callable[[Base, Prepared, Workplace, Reporter], RunParts]
    probe: PlannedProbe | None = None


def run_job(
    job: Job, directory: Path, *, device: str, threads: int, cache: bool, force: bool, reporter: Reporter
) -> dict[str, Any]:
    """Begins or continues a training and publishes the model; see `pretrain`."""
    with _threads(threads or cores()), joined(device) as processes:
        if not processes.is_main:
            reporter = Reporter(lambda text: None, silent)
        with held(directory, processes, force=force) as work:
            tokenizer = TextTokenizer.from_directory(job.model.directory)
            prepared, decisive = job.prepare(tokenizer, reporter)
            base = Base(job.model, tokenizer)
            made = {**_facts(job.base, base), **decisive}
            fingerprint = same_run(work, {**made, "processes": processes.number}, write=processes.is_main)
            placed = is_placed(work)
            processes.wait()
            if not placed:  # otherwise an earlier process died during the final clean-up
                parts = job.put_together(base, prepared, Workplace(work, processes, cache), reporter)
                _train(parts.trainer(fingerprint, job.probe), parts, made)
            processes.wait()
    return dict(read_json(directory / FACTS_FILE))


def trainable(base: str) -> TransformersModel:
    """The base model, which must not be an exported graph."""
    model = locate(base)
    if isinstance(model, GraphModel):
        raise PretrainingError(f"{base} is an exported graph; training needs the model it was made from")
    return model


def largest_length(base: str, model: Model, asked: int | None) -> int:
    """The longest piece of a text in tokens.

    Raises:
        PretrainingError: the settings ask for more than the base can take.
    """
    positions = model.config.positions
    max_length = min(_MAX_LENGTH, positions) if asked is None else asked
    if max_length > positions:
        raise PretrainingError(f"{base} takes at most {positions} tokens, not {max_length}")
    return max_length


def _facts(name: str, base: Base) -> dict[str, Any]:
    """The base, for the fingerprint of the run and for `pretrain.json`."""
    model, directory = base.model, expand(name)
    return {
        # of a directory only the last part of its path, since the facts may be published
        "base": directory.resolve().name if directory.is_dir() else name,
        "base_sha256": hash_of([model.weights_sha256, model.config.sha256, base.tokenizer.sha256]),
    }


def _train(trainer: Trainer, parts: RunParts, made: dict[str, Any]) -> None:
    """Trains from the present state to the end, and publishes the model."""
    work, processes, reporter = parts.workplace.folder, parts.workplace.processes, parts.reporter
    if trainer.resume():
        reporter.note(f"continuing from step {trainer.step:,} of {trainer.steps:,}")
    trainer.run()
    processes.wait()
    if processes.is_main:
        with _kept_if_it_fails(trainer, work):
            parts.save(trainer, made)
        place(work.parent, work)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _kept_if_it_fails(trainer: Trainer, work: Path) -> Iterator[None]:
    """Keeps the state if the model cannot be written, and raises an error that names the file."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        result = work / RESULT
        shutil.rmtree(result, ignore_errors=True)  # frees disk space
        with suppress(OSError, PretrainingError):
            trainer.keep()
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        where = (error.filename if isinstance(error, OSError) else None) or result
        raise PretrainingError(
            f"{where} cannot be written: {reason}; once it can be, the same command continues from what was learnt"
        ) from error
