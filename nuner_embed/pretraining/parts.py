"""The parts of one run: two encoders, their feeds and a quick probe; and the writing of both encoders at the end."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import PretrainingError
from nuner_embed.evaluation.fewshot import Draws, FewShotProtocol, TypedSet, measure, needed, plan
from nuner_embed.files import write_json
from nuner_embed.heads.features import embed_words
from nuner_embed.installation import install_command
from nuner_embed.models.concept_facts import ConceptFacts
from nuner_embed.models.directories import CONCEPT_FOLDER
from nuner_embed.models.onnx_export import RECIPE_FILE
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import Model
from nuner_embed.models.snapshot import copy_tokenizer
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.models.weights import hash_weights, weight_files
from nuner_embed.pretraining.data import Prepared, tokenized_names
from nuner_embed.pretraining.examples import make_batch, plan_epoch, positive_share
from nuner_embed.pretraining.facts import CARD, FACTS_FILE, SCHEMA_VERSION, concept_card, hashes_of_cards, text_card
from nuner_embed.pretraining.feed import Feed, Source, classifier_feed, contrastive_feed
from nuner_embed.pretraining.folder import (
    CURVE_FILE,
    METRICS_FILE,
    RESULT,
    STATE_FILE,
    finish,
)
from nuner_embed.pretraining.halves import Halves, use_fast_dropout
from nuner_embed.pretraining.objectives import BiEncoder, TokenClassifier
from nuner_embed.pretraining.processes import Processes
from nuner_embed.pretraining.related import Related
from nuner_embed.pretraining.run_state import Row, curve, to_csv
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.states import BottomStates, FrozenStates
from nuner_embed.pretraining.teacher import TaughtStates, Teacher
from nuner_embed.pretraining.thesaurus import Thesaurus
from nuner_embed.pretraining.trainer import Curriculum, Reporter, StateFile, Trainer
from nuner_embed.runtimes.base import Precision
from nuner_embed.runtimes.network_config import network_config
from nuner_embed.runtimes.padding import PaddedRuntime
from nuner_embed.runtimes.torch import load_network, quiet_transformers

_PRIOR_BATCHES = 20
_K, _DRAWS, _TEST_SENTENCES = 4, 4, 300


class _Unfinished(PaddedRuntime):
    """A network in training as a `Runtime`."""

    name = "torch"
    precision: Precision = "f32"
    batch_tokens = 1024

    def __init__(self, halves: Halves, device: torch.device, pad_id: int) -> None:
        self._halves, self._device = halves, device
        self.device = device.type
        self.dim = int(halves.network.config.hidden_size)
        self.description = "a network in training"
        self.numerics = {}
        self.pad_id = pad_id

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def states(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `PaddedRuntime.states`."""
        ids, mask = (torch.from_numpy(one).to(self._device) for one in (input_ids, attention_mask))
        given = self._halves.bottom(ids, mask) if self._halves.cut else ids
        states: NDArray[np.float32] = self._halves(given, mask).float().cpu().numpy()
        return states


@dataclass(frozen=True)
class PlannedProbe:
    """A typed set with the support sets of a quick probe.

    Attributes:
        typed: the set, the first 300 sentences of its test part.
        protocol: k = 4, four draws.
        draws: the support sets.
    """

    typed: TypedSet
    protocol: FewShotProtocol
    draws: list[Draws]


def plan_quick_probe(typed: TypedSet) -> PlannedProbe:
    """Draws the support sets.

    Raises:
        PretrainingError: there are no such support sets.
    """
    protocol = FewShotProtocol(k=(_K,), draws=_DRAWS, short_types="keep")
    draws = plan(typed, protocol)
    if draws[0].blank:
        raise PretrainingError(f"no probe on {typed.name}: {draws[0].blank}")
    return PlannedProbe(replace(typed, test=typed.test[:_TEST_SENTENCES]), protocol, draws)


def make_quick_probe(
    planned: PlannedProbe, halves: Halves, model: Model, tokenizer: TextTokenizer, recipe: Recipe, device: torch.device
) -> Callable[[], float]:
    """A function that measures the network: token macro-F1 with None left out, the mean of four draws with k = 4.

    It uses the first 300 sentences of the test part, and shows progress; the figure is not one to report.
    """
    typed, draws = planned.typed, planned.draws
    chosen = needed(draws)
    runtime = _Unfinished(halves, device, model.config.pad_id)
    encoder = TextEncoder(
        tokenizer=tokenizer,
        runtime=runtime,
        recipe=recipe,
        weights_sha256="",
        batch_tokens=runtime.batch_tokens,
    )

    def probe() -> float:
        halves.set_training(False)
        train = embed_words(encoder, [typed.train[i] for i in chosen])
        test = embed_words(encoder, typed.test)
        (cell,) = measure("", typed, draws, planned.protocol, train, test)
        return float(cell.mean or 0.0)

    return probe


def save_network(base: Model, network: Any, directory: Path) -> None:
    """Writes a copy of the base with the weights of the network; whatever loads the base can load the copy.

    Weights that the network does not hold, such as a pooler, are those of the base.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        config, architecture = network_config(base)
        whole, report = architecture.from_pretrained(
            base.directory,
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
        )
        if report["missing_keys"]:  # the base has no pooler; a random one is not written
            whole = type(whole)(whole.config, add_pooling_layer=False)
        found = whole.load_state_dict({name: value.cpu() for name, value in network.state_dict().items()}, strict=False)
        assert not found.unexpected_keys
        whole.save_pretrained(directory, safe_serialization=True)
    # the base's configuration replaces the one that transformers writes: it is part of the semantic hash
    (directory / "config.json").write_bytes((base.directory / "config.json").read_bytes())
    copy_tokenizer(base, directory)


def publish(work: Path, rows: Sequence[Row], facts: dict[str, Any], reporter: Reporter) -> None:
    """Writes the measurements and the facts beside a finished model in the folder `result`, and marks it as complete.

    Args:
        work: the folder of the run.
        rows: the measurements.
        facts: of the model, the hashes of its cards left out.
        reporter: is told where no curve can be drawn.
    """
    made_here = work / RESULT
    (made_here / METRICS_FILE).write_bytes(to_csv(rows))
    try:
        drawn = curve(rows)
    except ImportError:
        reporter.note(f"no {CURVE_FILE}: {install_command('plots')}; {METRICS_FILE} has the numbers")
    except OSError as error:  # matplotlib finds no place for its own files: the model is what matters
        reporter.note(f"no {CURVE_FILE}: {error}; {METRICS_FILE} has the numbers")
    else:
        (made_here / CURVE_FILE).write_bytes(drawn)
    write_json(made_here / FACTS_FILE, {**facts, "cards": hashes_of_cards(made_here)})
    finish(work)


def write_recipe(directory: Path, recipe: Recipe) -> None:
    """Writes the recipe of a model into its directory."""
    write_json(directory / RECIPE_FILE, recipe.to_dict())


@dataclass(frozen=True, slots=True)
class Base:
    """The model from which both encoders start.

    Attributes:
        model: the model's files.
        tokenizer: the model's tokenizer.
    """

    model: Model
    tokenizer: TextTokenizer


@dataclass(frozen=True, slots=True)
class Workplace:
    """The folder and the processes of a run.

    Attributes:
        folder: the working folder of the run.
        processes: the processes that train together.
        cache: whether the states below the cut are kept in files.
    """

    folder: Path
    processes: Processes
    cache: bool


class Parts:
    """The parts of one run, put together.

    Args:
        base: the model from which both encoders start.
        prepared: the data of the run.
        settings: all values.
        workplace: folder and processes of the run.
        reporter: is told how the run goes.
        thesaurus: further names of the concepts, for the objective contrastive; the settings then have no None for it.
        teacher: whose vectors the text encoder learns too, for the objective contrastive.
    """

    def __init__(
        self,
        base: Base,
        prepared: Prepared,
        settings: PretrainSettings,
        workplace: Workplace,
        reporter: Reporter,
        thesaurus: Thesaurus | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.workplace, self.reporter = workplace, reporter
        self._model, self._tokenizer, self._prepared, self._settings = base.model, base.tokenizer, prepared, settings
        self._device = workplace.processes.device
        self._recipe = self._recipe_of(base.model.recipe)
        examples = prepared.examples
        if examples.lost:
            what = "mentions" if self._is_contrastive else "words"
            reporter.note(f"not learnt from: {examples.lost:,} {what} without a token or across the cut of a long text")
        self._related = self._relate(thesaurus) if thesaurus else None
        self._teacher = teacher
        torch.manual_seed(settings.seed)
        self._text = self._halves(settings.frozen_layers)
        texts = self._source(self._text, examples.ids, examples.bounds, "texts")
        self._network, self._feed = self._contrastive(texts) if self._is_contrastive else self._classifier(texts)
        self._network.to(self._device)

    @property
    def _is_contrastive(self) -> bool:
        return self._settings.objective == "contrastive"

    def _halves(self, frozen: int | None) -> Halves:
        on_cpu = self._device.type == "cpu"
        # on a CPU, eager attention is faster for short texts, in both passes
        network = load_network(self._model, attention="eager" if on_cpu else None)
        cut = self._model.config.layers // 2 if frozen is None else frozen
        halves = Halves(network, cut, self._settings.dropout)
        if on_cpu:
            use_fast_dropout(halves.network)
        halves.to(self._device)
        return halves

    def _source(self, halves: Halves, ids: Any, bounds: Any, name: str) -> Source:
        states = None
        if halves.cut and self.workplace.cache:
            states = FrozenStates(self.workplace.folder / f"{name}.npy", ids, bounds)
            if self.workplace.processes.is_main:
                bottom = BottomStates(halves, self._model.weights_sha256, self._model.config.pad_id, self._device)
                states.fill(bottom, self._told(f"frozen layers, {name}"))
            self.workplace.processes.wait()
            states.open()
        specials = self._prepared.examples.specials
        return Source(halves, ids, bounds, specials, states, self._model.config.pad_id, self._device)

    def _told(self, what: str) -> Callable[[int, int], None]:
        """Reports the progress of something."""
        return lambda done, total: self.reporter.progress(what, done, total)

    def _relate(self, thesaurus: Thesaurus) -> Related:
        labels, settings = self._prepared.examples.labels, self._settings
        assert settings.related_draws is not None
        assert settings.broader_weight is not None
        related = Related.of(labels, thesaurus, self._tokenizer, settings.related_draws, settings.broader_weight)
        added = len(related.names) - len(labels)
        self.reporter.note(f"{thesaurus.coverage(labels)} and adds {added:,} names")
        return related

    def _contrastive(self, texts: Source) -> tuple[nn.Module, Feed]:
        prepared, settings, related = self._prepared, self._settings, self._related
        names = related.names if related else prepared.examples.labels
        ids, bounds, cut = tokenized_names(names, self._tokenizer)
        if cut:
            self.reporter.note(f"{len(cut):,} concept names are too long and were cut, first {cut[0][:60]!r}...")
        self._concept = self._halves(settings.frozen_concept_layers)
        concepts = self._source(self._concept, ids, bounds, "concepts")
        lengths, seed = prepared.examples.lengths, [settings.seed, 1, 0]
        first = plan_epoch(lengths, prepared.train, settings.batch_size, seed, by_length=False)
        batches = [make_batch(prepared.examples, pieces) for pieces in first[:_PRIOR_BATCHES]]
        if related:
            random = np.random.default_rng([settings.seed, 3])
            batches = [related.extended(batch, random) for batch in batches]
        prior = positive_share(batches)
        teacher = self._teacher
        network = BiEncoder(self._text, self._concept, settings, prior, teacher.dim if teacher else None)
        return network, contrastive_feed(texts, concepts, self._learn(teacher) if teacher else None)

    def _learn(self, teacher: Teacher) -> TaughtStates:
        """The teacher's states, which one of the processes computes."""
        processes, path = self.workplace.processes, self.workplace.folder / "teacher.npy"
        taught = teacher.learnt_from(self._prepared.examples, path, self.reporter.progress, fill=processes.is_main)
        processes.wait()
        taught.states.open()
        return taught

    def _classifier(self, texts: Source) -> tuple[nn.Module, Feed]:
        return TokenClassifier(self._text, len(self._prepared.examples.labels)), classifier_feed(texts)

    @property
    def _patience(self) -> int | None:
        return None

    @staticmethod
    def _recipe_of(base: Recipe) -> Recipe:
        """The recipe of the trained encoder."""
        return base.replace(layers=(-1,))

    def trainer(self, fingerprint: str, planned: PlannedProbe | None) -> Trainer:
        """The training loop over these parts."""
        probe = None
        if planned:
            probe = make_quick_probe(planned, self._text, self._model, self._tokenizer, self._recipe, self._device)
        prepared = self._prepared
        return Trainer(
            self._network,
            Curriculum(
                prepared.examples,
                prepared.train,
                prepared.held_out,
                self._feed,
                probe,
                self._related.extended if self._related else None,
            ),
            self._settings,
            self.workplace.processes,
            StateFile(self.workplace.folder / STATE_FILE, fingerprint),
            self.reporter,
            self._patience,
        )

    def save(self, trainer: Trainer, made: dict[str, Any]) -> None:
        """Writes the model with the facts of the run into the folder `result`; see `folder` for what follows."""
        made_here = self.workplace.folder / RESULT
        shutil.rmtree(made_here, ignore_errors=True)
        row = trainer.best_row()
        facts = {
            "schema_version": SCHEMA_VERSION,
            **made,
            "layers": self._model.config.layers,
            "frozen_layers": self._text.cut,
            "similarity": self._network.facts(),
            "steps": trainer.step,
            "validation_loss": row.validation_loss,
            "validation_top1": row.validation_top1,
            "probe_f1": row.probe_f1,
        }
        save_network(self._model, self._text.network, made_here)
        write_recipe(made_here, self._recipe)
        self._save_rest(made_here, facts, trainer)
        publish(self.workplace.folder, trainer.rows, facts, self.reporter)

    def _save_rest(self, made_here: Path, facts: dict[str, Any], trainer: Trainer) -> None:
        """Writes the card and the concept encoder, and adds to the facts what they say."""
        (made_here / CARD).write_text(text_card(facts), encoding="utf-8")
        if not self._is_contrastive:
            return
        facts["frozen_concept_layers"] = self._concept.cut
        save_network(self._model, self._concept.network, made_here / CONCEPT_FOLDER)
        write_recipe(made_here / CONCEPT_FOLDER, self._recipe)
        (made_here / CONCEPT_FOLDER / CARD).write_text(concept_card(facts), encoding="utf-8")
        weights = hash_weights(weight_files("the text encoder", made_here))
        ConceptFacts(weights, self._settings.concept_pooling, self._network.facts()).write(made_here / CONCEPT_FOLDER)
