"""The pretrain job: an annotated corpus and a base model in, a text encoder and a concept encoder out."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

from nuner_embed.arguments import Paths, StrPath
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import TypedSet
from nuner_embed.files import expand, hash_of, read_json, write_json
from nuner_embed.installation import install_command
from nuner_embed.machine import cores
from nuner_embed.models.companions import CONCEPT_FOLDER
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.known import DEFAULT_BASE
from nuner_embed.models.resolver import Model, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.models.weights import hash_weights, weight_files
from nuner_embed.pretraining.checkpoint import save_network, write_recipe
from nuner_embed.pretraining.data import Prepared, Progress, prepare, tokenized_names
from nuner_embed.pretraining.examples import plan_epoch, positive_share
from nuner_embed.pretraining.facts import CARD, FACTS_FILE, SCHEMA_VERSION, concept_card, hashes_of_cards, text_card
from nuner_embed.pretraining.feed import Feed, FrozenStates, Source, classifier_feed, contrastive_feed
from nuner_embed.pretraining.folder import (
    CURVE_FILE,
    METRICS_FILE,
    RESULT,
    STATE_FILE,
    finish,
    held,
    is_placed,
    place,
    same_run,
)
from nuner_embed.pretraining.halves import Halves, use_fast_dropout
from nuner_embed.pretraining.history import curve, to_csv
from nuner_embed.pretraining.objectives import BiEncoder, TokenClassifier
from nuner_embed.pretraining.quick_probe import PlannedProbe, make_quick_probe, plan_quick_probe
from nuner_embed.pretraining.settings import Settings
from nuner_embed.pretraining.trainer import Trainer
from nuner_embed.runtimes.torch import load_network

_PRIOR_BATCHES = 20
_MAX_LENGTH = 256


def pretrain(
    data: Paths,
    output: StrPath,
    settings: Settings | None = None,
    *,
    base: str = DEFAULT_BASE,
    probe_set: TypedSet | None = None,
    format: str | None = None,
    word_column: int | str | None = None,
    tag_column: int | str | None = None,
    tag_names: Sequence[str] = (),
    device: str = "auto",
    threads: int = 0,
    cache: bool = True,
    force: bool = False,
    progress: Progress = lambda what, done, total: None,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Pre-trains a text encoder, and a concept encoder with it, on an annotated corpus.

    Interrupted, the same call goes on where it was; on one thread it ends in the same weights.

    Args:
        data: files or directories of an annotated corpus, concepts as labels of its spans.
        output: directory for the text encoder; the concept encoder goes to its folder `concept_encoder`.
        settings: all values; the preset `small` by default.
        base: both encoders begin as this model.
        probe_set: a typed set for a quick probe at every validation.
        format: of the corpus, in place of the suffixes.
        word_column, tag_column: of column files, as `Corpus` takes them.
        tag_names: see `Corpus`.
        device: "auto", "cpu" or "cuda".
        threads: of torch on a CPU; 0 for one a core.
        cache: keep what the frozen layers make of every text in a file instead of computing it in every epoch.
        force: start over, whatever `output` holds of an earlier run.
        progress: is told `(what, done, total)`.
        note: is told what people should know.

    Returns:
        What `pretrain.json` holds: base, data, settings, and how it ended.

    Raises:
        PretrainingError: nothing to learn from, another run's output, or a loss that is no number.
        ModelError: the base cannot be loaded.
        CorpusError: the corpus cannot be read.
    """
    settings = settings or Settings()
    directory = expand(output)
    model = locate(base)
    if model.export:
        raise PretrainingError(f"{base} is an exported graph; training needs the model it was made from")
    max_length = min(_MAX_LENGTH, model.config.positions) if settings.max_length is None else settings.max_length
    if max_length > model.config.positions:
        raise PretrainingError(f"{base} takes at most {model.config.positions} tokens, not {max_length}")
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")  # precision is a setting of ours
    if not accelerator.is_main_process:
        progress, note = _silent, _silent
    if device == "cuda" and accelerator.device.type != "cuda":
        raise PretrainingError("asked for CUDA, but torch finds none; install a CUDA build, or say --device cpu")
    probe = plan_quick_probe(probe_set) if probe_set else None  # what cannot be drawn is said at once
    with _threads(threads or cores()), held(directory, accelerator, force=force) as work:
        tokenizer = TextTokenizer.from_directory(model.directory)
        reading = {
            "format": format, "word_column": word_column, "tag_column": tag_column, "tag_names": tag_names,
        }  # fmt: skip
        prepared = prepare(data, reading, tokenizer, settings, max_length, progress)
        made = {
            # a directory by the last part of its path: what is written may be given away
            "base": expand(base).resolve().name if expand(base).is_dir() else base,
            "base_sha256": hash_of([model.weights_sha256, model.config.sha256, tokenizer.sha256]),
            "data": prepared.facts("concepts" if settings.objective == "contrastive" else "tags"),
            "settings": settings.to_dict(),
            "probe_set": probe_set.sha256 if probe_set else None,
        }
        processes = int(accelerator.num_processes)
        fingerprint = same_run(work, {**made, "processes": processes}, write=accelerator.is_main_process)
        placed = is_placed(work)
        accelerator.wait_for_everyone()
        if not placed:  # else an earlier process died when all was done but the tidying up
            run = Parts(model, tokenizer, prepared, settings, accelerator, work, cache, progress, note)
            trainer = run.trainer(fingerprint, probe)
            if trainer.resume():
                note(f"going on from step {trainer.step:,} of {trainer.steps:,}")
            trainer.run()
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                with _kept_if_it_fails(trainer, work):
                    run.save(trainer, made)
                place(directory, work)
        accelerator.wait_for_everyone()
    return dict(read_json(directory / FACTS_FILE))


def _silent(*_: Any) -> None:
    """Tells nobody: of several processes one speaks."""


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
    """Makes an error of writing the model one that names its place, and keeps what was learnt for the next start."""
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


class Parts:
    """The parts of one run, put together."""

    def __init__(
        self,
        model: Model,
        tokenizer: TextTokenizer,
        prepared: Prepared,
        settings: Settings,
        accelerator: Accelerator,
        work: Path,
        cache: bool,
        progress: Progress,
        note: Callable[[str], None],
    ) -> None:
        self._model, self._tokenizer, self._prepared, self._settings = model, tokenizer, prepared, settings
        self._accelerator, self._work, self._cache = accelerator, work, cache
        self._progress, self._note = progress, note
        self._recipe = model.recipe.replace(layers=(-1,))
        examples = prepared.examples
        if examples.lost:
            note(f"not learnt from: {examples.lost:,} mentions without a token or across the cut of a long text")
        torch.manual_seed(settings.seed)
        self._text = self._halves(settings.frozen_layers)
        texts = self._source(self._text, examples.ids, examples.bounds, "texts")
        self._network, self._feed = self._contrastive(texts) if self._is_contrastive else self._classifier(texts)
        self._network.to(accelerator.device)

    @property
    def _is_contrastive(self) -> bool:
        return self._settings.objective == "contrastive"

    def _halves(self, frozen: int | None) -> Halves:
        on_cpu = self._accelerator.device.type == "cpu"
        # on a CPU, the plain attention is the faster one for short texts, forwards and back
        network = load_network(self._model, attention="eager" if on_cpu else None)
        cut = self._model.config.layers // 2 if frozen is None else frozen
        halves = Halves(network, cut, self._settings.dropout)
        if on_cpu:
            use_fast_dropout(halves.network)
        halves.to(self._accelerator.device)
        return halves

    def _source(self, halves: Halves, ids: Any, bounds: Any, name: str) -> Source:
        states = None
        if halves.cut and self._cache:
            states = FrozenStates(self._work / f"{name}.npy", ids, bounds)
            if self._accelerator.is_main_process:
                states.fill(
                    halves,
                    self._model.weights_sha256,
                    self._model.config.pad_id,
                    self._accelerator.device,
                    lambda done, total: self._progress(f"frozen layers, {name}", done, total),
                )
            self._accelerator.wait_for_everyone()
            states.open()
        specials = self._prepared.examples.specials
        return Source(halves, ids, bounds, specials, states, self._model.config.pad_id, self._accelerator.device)

    def _contrastive(self, texts: Source) -> tuple[nn.Module, Feed]:
        prepared, settings = self._prepared, self._settings
        ids, bounds, cut = tokenized_names(prepared.examples.labels, self._tokenizer)
        if cut:
            self._note(f"{len(cut):,} concept names are cut, the first of them {cut[0][:60]!r}...")
        self._concept = self._halves(settings.frozen_concept_layers)
        concepts = self._source(self._concept, ids, bounds, "concepts")
        lengths, seed = prepared.examples.lengths, [settings.seed, 1, 0]
        first = plan_epoch(lengths, prepared.train, settings.batch_size, seed, by_length=False)
        prior = positive_share(prepared.examples, first[:_PRIOR_BATCHES])
        return BiEncoder(self._text, self._concept, settings, prior), contrastive_feed(texts, concepts)

    def _classifier(self, texts: Source) -> tuple[nn.Module, Feed]:
        return TokenClassifier(self._text, len(self._prepared.examples.labels)), classifier_feed(texts)

    def trainer(self, fingerprint: str, planned: PlannedProbe | None) -> Trainer:
        """The loop over these parts."""
        device = self._accelerator.device
        probe = None
        if planned:
            probe = make_quick_probe(planned, self._text, self._model, self._tokenizer, self._recipe, device)
        return Trainer(
            self._network,
            self._prepared.examples,
            self._prepared.train,
            self._prepared.held_out,
            self._feed,
            self._settings,
            self._accelerator,
            self._work / STATE_FILE,
            fingerprint,
            probe,
            self._note,
            self._progress,
        )

    def save(self, trainer: Trainer, made: dict[str, Any]) -> None:
        """Writes both encoders with the facts of the run, all of it or nothing; see `placing` for what comes then."""
        made_here = self._work / RESULT
        shutil.rmtree(made_here, ignore_errors=True)
        last = trainer.rows[-1]  # of the last step, which is always measured
        facts = {
            "schema_version": SCHEMA_VERSION,
            **made,
            "layers": self._model.config.layers,
            "frozen_layers": self._text.cut,
            "similarity": self._network.facts(),
            "steps": trainer.steps,
            "validation_loss": last.validation_loss,
            "validation_top1": last.validation_top1,
            "probe_f1": last.probe_f1,
        }
        save_network(self._model, self._text.network, made_here)
        write_recipe(made_here, self._recipe)
        (made_here / CARD).write_text(text_card(facts), encoding="utf-8")
        if self._is_contrastive:
            facts["frozen_concept_layers"] = self._concept.cut
            save_network(self._model, self._concept.network, made_here / CONCEPT_FOLDER)
            write_recipe(made_here / CONCEPT_FOLDER, self._recipe)
            (made_here / CONCEPT_FOLDER / CARD).write_text(concept_card(facts), encoding="utf-8")
            weights = hash_weights(weight_files("the text encoder", made_here))
            similarity = self._network.facts()
            ConceptFacts(weights, self._settings.concept_pooling, similarity).write(made_here / CONCEPT_FOLDER)
        (made_here / METRICS_FILE).write_bytes(to_csv(trainer.rows))
        try:
            drawn = curve(trainer.rows)
        except ImportError:
            self._note(f"no {CURVE_FILE}: {install_command('plots')}; {METRICS_FILE} has the numbers")
        except OSError as error:  # matplotlib finds no place for its own files: the model is what matters
            self._note(f"no {CURVE_FILE}: {error}; {METRICS_FILE} has the numbers")
        else:
            (made_here / CURVE_FILE).write_bytes(drawn)
        write_json(made_here / FACTS_FILE, {**facts, "cards": hashes_of_cards(made_here)})
        finish(self._work)
