"""The pretrain job: an annotated corpus and a base model in, a text encoder and a concept encoder out."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from nuner_embed.arguments import Paths, Progress, StrPath, silent
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import TypedSet
from nuner_embed.files import expand, hash_of, read_json
from nuner_embed.machine import cores
from nuner_embed.models.known import DEFAULT_BASE
from nuner_embed.models.resolver import GraphModel, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.data import prepare
from nuner_embed.pretraining.facts import FACTS_FILE
from nuner_embed.pretraining.folder import RESULT, held, is_placed, place, same_run
from nuner_embed.pretraining.parts import Base, Parts, Workplace, plan_quick_probe
from nuner_embed.pretraining.processes import joined
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.trainer import Reporter, Trainer

_MAX_LENGTH = 256


def pretrain(
    data: Paths,
    output: StrPath,
    settings: PretrainSettings | None = None,
    *,
    base: str = DEFAULT_BASE,
    probe_set: TypedSet | None = None,
    device: str = "auto",
    threads: int = 0,
    cache: bool = True,
    force: bool = False,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
    **reading: Any,
) -> dict[str, Any]:
    """Pre-trains a text encoder, and a concept encoder with it, on an annotated corpus.

    Interrupted, the same call goes on where it was; on one thread it ends in the same weights.

    Args:
        data: files or directories of an annotated corpus, concepts as labels of its spans.
        output: directory for the text encoder; the concept encoder goes to its folder `concept_encoder`.
        settings: all values; the preset `small` by default.
        base: both encoders begin as this model.
        probe_set: a typed set for a quick probe at every validation.
        device: "auto", "cpu" or "cuda".
        threads: of torch on a CPU; 0 for one a core.
        cache: keep what the frozen layers make of every text in a file instead of computing it in every epoch.
        force: start over, whatever `output` holds of an earlier run.
        progress: is told `(what, done, total)`.
        note: is told what people should know.
        reading: further options of `Corpus` for the data, such as `format` and `tag_names`.

    Returns:
        What `pretrain.json` holds: base, data, settings, and how it ended.

    Raises:
        PretrainingError: nothing to learn from, another run's output, or a loss that is no number.
        ModelError: the base cannot be loaded.
        CorpusError: the corpus cannot be read.
    """
    settings = settings or PretrainSettings()
    directory = expand(output)
    model = locate(base)
    if isinstance(model, GraphModel):
        raise PretrainingError(f"{base} is an exported graph; training needs the model it was made from")
    max_length = min(_MAX_LENGTH, model.config.positions) if settings.max_length is None else settings.max_length
    if max_length > model.config.positions:
        raise PretrainingError(f"{base} takes at most {model.config.positions} tokens, not {max_length}")
    probe = plan_quick_probe(probe_set) if probe_set else None  # what cannot be drawn is said at once
    with _threads(threads or cores()), joined(device) as processes:
        reporter = Reporter(note, progress) if processes.is_main else Reporter(lambda text: None, silent)
        with held(directory, processes, force=force) as work:
            tokenizer = TextTokenizer.from_directory(model.directory)
            prepared = prepare(data, reading, tokenizer, settings, max_length, reporter.progress)
            made = {
                # a directory by the last part of its path: what is written may be given away
                "base": expand(base).resolve().name if expand(base).is_dir() else base,
                "base_sha256": hash_of([model.weights_sha256, model.config.sha256, tokenizer.sha256]),
                "data": prepared.facts("concepts" if settings.objective == "contrastive" else "tags"),
                "settings": settings.to_dict(),
                "probe_set": probe_set.sha256 if probe_set else None,
            }
            fingerprint = same_run(work, {**made, "processes": processes.number}, write=processes.is_main)
            placed = is_placed(work)
            processes.wait()
            if not placed:  # else an earlier process died when all was done but the tidying up
                parts = Parts(Base(model, tokenizer), prepared, settings, Workplace(work, processes, cache), reporter)
                _train(parts.trainer(fingerprint, probe), parts, made)
            processes.wait()
    return dict(read_json(directory / FACTS_FILE))


def _train(trainer: Trainer, parts: Parts, made: dict[str, Any]) -> None:
    """Trains to the end, from wherever the run is, and puts the model in its place."""
    work, processes, reporter = parts.workplace.folder, parts.workplace.processes, parts.reporter
    if trainer.resume():
        reporter.note(f"going on from step {trainer.step:,} of {trainer.steps:,}")
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
    """Turns an error of writing the model into one that names the file, and keeps the state for the next start."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        result = work / RESULT
        shutil.rmtree(result, ignore_errors=True)  # which makes room
        with suppress(OSError, PretrainingError):
            trainer.keep()
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        where = (error.filename if isinstance(error, OSError) else None) or result
        raise PretrainingError(
            f"{where} cannot be written: {reason}; once it can be, the same command goes on from what was learnt"
        ) from error
