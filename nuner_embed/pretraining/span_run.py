"""Pre-training of a span head: an annotated corpus and a bi-encoder in, the same bi-encoder with a span head out.

The encoders stay as they are; the words of the corpus and the names of its concepts are embedded once.
"""

import shutil
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.encoders.loader import load_encoder
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import PretrainingError
from nuner_embed.heads.span_scorer import Floats
from nuner_embed.heads.spans import SpanFacts, SpanHead
from nuner_embed.models.directories import SPAN_FOLDER
from nuner_embed.models.resolver import Model
from nuner_embed.models.snapshot import copy_model
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.models.weights import weight_files
from nuner_embed.pretraining.data import Prepared
from nuner_embed.pretraining.examples import make_batch, plan_epoch
from nuner_embed.pretraining.facts import CARD, SCHEMA_VERSION, span_card
from nuner_embed.pretraining.folder import RESULT, STATE_FILE
from nuner_embed.pretraining.parts import Base, PlannedProbe, Workplace, publish
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.span_data import AnnotatedCorpus, Concepts, SpanSource
from nuner_embed.pretraining.span_network import SpanNetwork
from nuner_embed.pretraining.trainer import Curriculum, Reporter, StateFile, Trainer

_DROPOUT: Final = 0.1
_USUAL: Final = 2000  # mentions with which types are compared


class SpanJob:
    """What is read and embedded for a span head; `prepare` and `put_together` are those of a `Job`.

    Args:
        base: name of the bi-encoder.
        corpus: the annotated texts.
        settings: all values.
        device: "auto", "cpu" or "cuda".
        threads: 0 for one a core.

    Raises:
        ModelError: the base has no concept encoder that is calibrated.
        PretrainingError: the base reads other layers than the last.
    """

    def __init__(
        self, base: str, corpus: AnnotatedCorpus, settings: PretrainSettings, device: str, threads: int
    ) -> None:
        self._base, self._corpus, self._settings = base, corpus, settings
        self._concepts = ConceptEncoder.open(base, device=device, threads=threads)
        self._concepts.calibration  # noqa: B018  # raises where there is none
        # not bf16 where that is faster: the same data give the same weights on every run, whatever was measured
        self._encoder = load_encoder(base, device=device, threads=threads, precision="f32")
        if self._encoder.recipe.layers != (-1,):
            raise PretrainingError(
                f"concepts agree with the last layer alone; {base} reads {list(self._encoder.recipe.layers)}"
            )
        self._words: Floats | None = None

    def prepare(self, tokenizer: TextTokenizer, reporter: Reporter) -> tuple[Prepared, dict[str, Any]]:
        """Reads the corpus, and embeds its words."""
        prepared, self._words = self._corpus.prepare(self._encoder, self._concepts, self._settings, reporter.progress)
        thesaurus = self._corpus.thesaurus
        return prepared, {
            "data": prepared.facts("concepts"),
            "settings": self._settings.to_dict(),
            "probe_set": None,
            "thesaurus": thesaurus.sha256 if thesaurus else None,
        }

    def put_together(self, base: Base, prepared: Prepared, workplace: Workplace, reporter: Reporter) -> "SpanParts":
        """Embeds the concepts, and makes the parts of the run."""
        assert self._words is not None
        labels, thesaurus = prepared.examples.labels, self._corpus.thesaurus
        if thesaurus:
            reporter.note(thesaurus.coverage(labels))
        concepts = Concepts.of(labels, thesaurus, self._concepts, reporter.progress)
        source = SpanSource(prepared.examples, self._words, concepts, workplace.processes.device)
        bases = SpanBase(self._base, base.model, self._encoder, self._concepts)
        return SpanParts(bases, prepared, source, self._settings, workplace, reporter)


@dataclass(frozen=True, slots=True)
class SpanBase:
    """The bi-encoder that gets a span head.

    Attributes:
        name: of the model.
        model: its files.
        encoder: of the words.
        concepts: its concept encoder.
    """

    name: str
    model: Model
    encoder: TextEncoder
    concepts: ConceptEncoder


class SpanParts:
    """The parts of a run that trains a span head.

    Args:
        base: the bi-encoder.
        prepared: the data of the run.
        source: makes its batches.
        settings: all values.
        workplace: folder and processes of the run.
        reporter: is told how the run goes.
    """

    def __init__(
        self,
        base: SpanBase,
        prepared: Prepared,
        source: SpanSource,
        settings: PretrainSettings,
        workplace: Workplace,
        reporter: Reporter,
    ) -> None:
        self.workplace, self.reporter = workplace, reporter
        self._base, self._prepared, self._source, self._settings = base, prepared, source, settings
        if prepared.examples.lost:
            reporter.note(
                f"not learnt from: {prepared.examples.lost:,} mentions without a word, too long, or with a label that "
                "is no name"
            )
        calibration, metric = base.concepts.calibration, base.concepts.metric
        dropout = _DROPOUT if settings.dropout is None else settings.dropout
        torch.manual_seed(settings.seed)
        dim = source.words.shape[1]
        self._network = SpanNetwork(dim, calibration.slope, calibration.intercept, metric, dropout)
        self._network.to(workplace.processes.device)

    def trainer(self, fingerprint: str, planned: PlannedProbe | None) -> Trainer:
        """The training loop over these parts; the encoder does not change, so that nothing probes it."""
        prepared = self._prepared
        return Trainer(
            self._network,
            Curriculum(prepared.examples, prepared.train, prepared.held_out, self._source.feed),
            self._settings,
            self.workplace.processes,
            StateFile(self.workplace.folder / STATE_FILE, fingerprint),
            self.reporter,
        )

    def save(self, trainer: Trainer, made: dict[str, Any]) -> None:
        """Writes the bi-encoder with its span head into the folder `result`; see `folder` for what follows."""
        made_here = self.workplace.folder / RESULT
        shutil.rmtree(made_here, ignore_errors=True)
        made_here.mkdir()
        model, row = self._base.model, trainer.best_row()
        copy_model(model, weight_files(self._base.name, model.directory), made_here)
        shutil.rmtree(made_here / SPAN_FOLDER, ignore_errors=True)  # that of the base
        self._head().save(made_here / SPAN_FOLDER)
        facts = {
            "schema_version": SCHEMA_VERSION,
            **made,
            "layers": model.config.layers,
            "frozen_layers": model.config.layers,
            "similarity": self._network.facts(),
            "steps": trainer.step,
            "validation_loss": row.validation_loss,
            "validation_top1": row.validation_top1,
            "probe_f1": None,
        }
        (made_here / CARD).write_text(span_card(facts), encoding="utf-8")
        publish(self.workplace.folder, trainer.rows, facts, self.reporter)

    def _head(self) -> SpanHead:
        """The trained head.

        Raises:
            PretrainingError: its numbers are too large for 16 bits.
        """
        encoder, usual = self._base.encoder, self._usual()
        try:
            scorer = self._network.scorer()
            facts = SpanFacts(
                semantic_hash=encoder.semantic_hash,
                model=self._base.name,
                recipe=encoder.recipe.to_dict(),
                types=(),
                agreement=scorer.agreement,
                intercept=scorer.intercept,
                metric=scorer.metric,
            )
            return SpanHead(scorer, usual, np.empty((0, usual.shape[1]), np.float32), facts)
        except ValueError as error:
            raise PretrainingError(
                f"the span head cannot be written in 16 bits ({error}); start again with a smaller --learning-rate and "
                "--force"
            ) from None

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _usual(self) -> Floats:
        """The vectors of some mentions of the training texts, (u, dim), rounded to 16 bits, in which they are saved."""
        examples, settings = self._prepared.examples, self._settings
        self._network.set_training(False)
        found: list[Floats] = []
        for pieces in plan_epoch(examples.lengths, self._prepared.train, settings.batch_size, [settings.seed, 2]):
            batch = make_batch(examples, pieces)
            if len(batch.token):
                (spans,) = self._source.feed(batch)
                with np.errstate(over="ignore"):  # the head refuses numbers that are not finite
                    found.append(self._network.score(spans)[1].cpu().numpy().astype(np.float16).astype(np.float32))
            if sum(map(len, found)) >= _USUAL:
                break
        return np.concatenate(found)[:_USUAL]
