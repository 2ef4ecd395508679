"""Fine-tuning: a few annotated sentences and a base model in, a text encoder with a head of its own out.

The head is one linear layer over the first token of each word, and is saved as any other linear head: what was trained
is what `probe predict`, `export --head` and `probe evaluate` read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nuner_embed.arguments import Paths, Progress, StrPath, as_names, as_paths, silent
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.documents import Document, split_words
from nuner_embed.encoders.mentions import WordFeatures
from nuner_embed.encoders.tokens import make_rows, tokenize
from nuner_embed.errors import PretrainingError
from nuner_embed.files import expand
from nuner_embed.heads.labelled_words import WordLabels, count_mentions, shortened, type_of
from nuner_embed.heads.linear import LinearHead, ProbeFacts, ProbeWeights, Training
from nuner_embed.heads.support_set import ShortTypes, SupportSet, choose_support
from nuner_embed.limits import PROBE_TYPES
from nuner_embed.models.directories import HEAD_FOLDER
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.models.recipe import Recipe, semantic_hash
from nuner_embed.models.resolver import locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.data import Prepared, hold_out
from nuner_embed.pretraining.examples import make_batch, make_examples, plan_epoch
from nuner_embed.pretraining.facts import CARD, finetuned_card
from nuner_embed.pretraining.feed import Feed, Source, classifier_feed
from nuner_embed.pretraining.finetune_settings import FinetuneSettings
from nuner_embed.pretraining.folder import require_free
from nuner_embed.pretraining.objectives import TokenClassifier
from nuner_embed.pretraining.parts import Base, Parts, Workplace
from nuner_embed.pretraining.run import Job, largest_length, run_job, trainable
from nuner_embed.pretraining.trainer import Reporter, Trainer
from nuner_embed.tags import OUTSIDE, spans_to_tags


@dataclass(frozen=True, slots=True)
class Learnable:
    """A support set as a network learns it.

    Attributes:
        support: the sentences and types.
        types: those of its types that have a word to learn from, sorted.
        prepared: the pieces, and which are held out; the labels are the types, and "O" for none.
        training: the facts for the head; what the training itself tells is missing.
    """

    support: SupportSet = field(repr=False)
    types: tuple[str, ...]
    prepared: Prepared
    training: Training


def finetune(
    data: Paths,
    output: StrPath,
    settings: FinetuneSettings | None = None,
    *,
    base: str = DEFAULT_MODEL,
    types: str | list[str] | tuple[str, ...] | None = None,
    k: int | None = None,
    short_types: ShortTypes = "fail",
    device: str = "auto",
    threads: int = 0,
    force: bool = False,
    progress: Progress = silent,
    note: Callable[[str], None] = lambda text: None,
    **reading: Any,
) -> dict[str, Any]:
    """Trains all layers of an encoder, and a linear head on top, on annotated sentences.

    After an interruption, the same call continues the run; on one thread, the final weights are the same.

    Args:
        data: files or directories of a corpus with spans or tags.
        output: directory of the model; its head is written into the folder `head`.
        settings: all values; `settings.seed` is also the seed of the draw.
        base: the model whose text encoder is trained further.
        types: to tell apart, or one; words of other types count as words of none. None for all types of the data.
        k: draw a support set with between k and 2k mentions of each type, as `train_probe` does; None takes all.
        short_types: what becomes of types with fewer than k mentions.
        device: "auto", "cpu" or "cuda".
        threads: of torch on a CPU; 0 for one a core.
        force: start over, even if `output` holds an earlier run or model.
        progress: is told `(what, done, total)`.
        note: is called with messages for people.
        reading: further options of `Corpus` for the data, such as `format` and `tag_names`.

    Returns:
        The contents of `pretrain.json`: base, data, settings and final measurements.

    Raises:
        ProbeError: no support set can be chosen, such as where a type does not occur.
        PretrainingError: nothing to learn from, `output` belongs to another run, or the loss is not finite.
        ModelError: the base cannot be loaded.
        CorpusError: the corpus cannot be read.
    """
    settings = settings or FinetuneSettings()
    require_free(expand(output), force=force)  # before anything is read
    documents, sha256 = read_annotated(data, **reading)
    what = ", ".join(map(str, as_paths(data)))
    wanted = None if types is None else as_names(types)
    support = choose_support(documents, types=wanted, k=k, seed=settings.seed, short=short_types, what=what)
    files = tuple("-" if str(path) == "-" else expand(path).resolve().name for path in as_paths(data))
    model = trainable(base)
    max_length = largest_length(base, model, settings.max_length)
    learnt = learnable(support, TextTokenizer.from_directory(model.directory), settings, max_length, files, sha256)
    facts = _facts(learnt, settings, short_types)

    def put_together(base: Base, prepared: Prepared, workplace: Workplace, reporter: Reporter) -> Parts:
        return FinetunedParts(base, learnt, settings, workplace, reporter)

    return run_job(
        Job(base, model, lambda tokenizer, reporter: (learnt.prepared, facts), put_together),
        expand(output),
        device=device,
        threads=threads,
        cache=False,
        force=force,
        reporter=Reporter(note, progress),
    )


def learnable(
    support: SupportSet,
    tokenizer: TextTokenizer,
    settings: FinetuneSettings,
    max_length: int,
    files: tuple[str, ...] = (),
    sha256: str = "",
) -> Learnable:
    """Tokenizes a support set, labels the first token of each word, and holds out a share of the sentences.

    Raises:
        PretrainingError: all words are of one class, or a type has no word in the training part.
    """
    examples = make_examples(
        support.documents, tokenizer, max_length, lambda document: _typed_words(document, support.types),
        first_token_only=True,
    )  # fmt: skip
    types = tuple(name for name in support.types if name in examples.labels)
    if len(examples.labels) < 2:
        raise PretrainingError(
            f"{support.what} holds words of one class only; a head needs words of a type and of none"
        )
    if len(types) > PROBE_TYPES:
        raise PretrainingError(f"a head has at most {PROBE_TYPES:,} types, not {len(types):,}; name some with --types")
    train, held_out = hold_out(examples, settings.validation, settings.seed)
    seen = set(np.unique(examples.label[np.isin(examples.piece, train)]).tolist())
    lacking = sorted(name for number, name in enumerate(examples.labels) if number not in seen)
    if lacking:
        raise PretrainingError(
            f"{support.what}: all words of {shortened(lacking)} are in held-out sentences; hold out none "
            "(--validation 0), take another --seed, or give more examples"
        )
    prepared = Prepared(examples, train, held_out, files, sha256)
    return Learnable(support, types, prepared, _training(support, types, tokenizer))


def _typed_words(document: Document, types: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """The words of a document with their types, "O" for none."""
    words = document.words if document.words is not None else split_words(document.text)
    tags = spans_to_tags([span for span in document.spans if type_of(span.label) in types], words)
    return [(start, end, tag if tag == OUTSIDE else tag[2:]) for (start, end), tag in zip(words, tags, strict=True)]


def _training(support: SupportSet, types: tuple[str, ...], tokenizer: TextTokenizer) -> Training:
    """The facts of a support set, counted as `train_probe` counts them."""
    rows = make_rows(tokenize(support.documents, tokenizer, "word"), "word", "first")
    bounds = np.searchsorted(rows.document, np.arange(len(support.documents) + 1))
    labels = WordLabels.of(
        support.documents, WordFeatures(bounds, rows.start, rows.end, np.empty((len(rows.start), 0))), types
    )
    mentions = np.bincount(labels.mentions.code, minlength=len(types) + 1)[1:].tolist()
    counts = count_mentions(support.documents)
    unlearnt = {name: counts[name] for name in support.types if name not in types}
    return Training(
        sentences=len(support.documents),
        words=len(labels.codes),
        mention_words=int(np.count_nonzero(labels.codes)),
        mentions=dict(zip(types, mentions, strict=True)),
        k=support.k,
        seed=support.seed,
        left_out=dict(sorted((support.left_out | unlearnt).items())),
        lost=labels.lost,
        gradient_norm=0.0,
        iterations=0,
    )


def _facts(learnt: Learnable, settings: FinetuneSettings, short_types: ShortTypes) -> dict[str, Any]:
    """What decides the run besides its base."""
    support, training = learnt.support, learnt.training
    counts = {"mentions": sum(training.mentions.values()), "mentions_lost": training.lost, "labels": len(learnt.types)}
    return {
        "data": {**learnt.prepared.facts("types"), **counts},
        "settings": settings.to_dict(),
        "probe_set": None,
        "support": {
            "types": list(learnt.types),
            "k": support.k,
            "short_types": None if support.k is None else short_types,
        },
    }


class FinetunedParts(Parts):
    """The parts of fine-tuning: a text encoder with nothing frozen, and the linear layer that becomes its head.

    Args:
        base: the model whose text encoder is trained further.
        learnt: the sentences.
        settings: all values.
        workplace: folder and processes of the run.
        reporter: is told how the run goes.
    """

    def __init__(
        self, base: Base, learnt: Learnable, settings: FinetuneSettings, workplace: Workplace, reporter: Reporter
    ) -> None:
        self._learnt, self._finetuning = learnt, settings
        super().__init__(base, learnt.prepared, settings.of_training(), workplace, reporter)

    @staticmethod
    def _recipe_of(base: Recipe) -> Recipe:
        """The recipe of the vectors that the linear layer is trained on."""
        return base.replace(layers=(-1,), pooling="first", normalize=False)

    @property
    def _patience(self) -> int | None:
        examples, held_out = self._learnt.prepared.examples, self._learnt.prepared.held_out
        return self._finetuning.patience if np.isin(examples.piece, held_out).any() else None

    def _classifier(self, texts: Source) -> tuple[nn.Module, Feed]:
        self._texts_feed = classifier_feed(texts)
        classifier = TokenClassifier(self._text, len(self._prepared.examples.labels), self._finetuning.dropout)
        return classifier, self._texts_feed

    def _save_rest(self, made_here: Path, facts: dict[str, Any], trainer: Trainer) -> None:
        """Writes the head and the card."""
        facts["best_step"] = trainer.best_row().step
        found, tokenizer = locate(str(made_here)), TextTokenizer.from_directory(made_here)
        recipe, types = self._recipe.to_dict(), self._learnt.types
        codes = {OUTSIDE: 0, **{name: 1 + place for place, name in enumerate(types)}}
        classes = np.array([codes[name] for name in self._prepared.examples.labels], np.int64)
        order = np.argsort(classes)
        layer = self._network.head
        weights = ProbeWeights(
            classes[order],
            layer.weight.detach().float().cpu().numpy()[order],
            layer.bias.detach().float().cpu().numpy()[order],
        )
        head_facts = ProbeFacts(
            semantic_hash=semantic_hash(found.weights_sha256, found.config.sha256, tokenizer.sha256, recipe),
            model=str(self.workplace.folder.parent.resolve()),
            recipe=recipe,
            types=types,
            parameters={"fine_tuned": self._finetuning.to_dict()},
            training=replace(
                self._learnt.training, gradient_norm=self._gradient_norm(), iterations=trainer.best_row().step
            ),
        )
        LinearHead(weights, head_facts).save(made_here / HEAD_FOLDER)
        (made_here / CARD).write_text(finetuned_card(facts), encoding="utf-8")

    def _gradient_norm(self) -> float:
        """Largest entry of the gradient of the mean loss over all training words with respect to the linear layer."""
        examples, layer = self._prepared.examples, self._network.head
        self._network.set_training(False)
        layer.zero_grad()
        words = 0
        for pieces in plan_epoch(examples.lengths, self._prepared.train, self._settings.batch_size, [0]):
            batch = make_batch(examples, pieces)
            if not len(batch.token):
                continue
            texts, token, label = self._texts_feed(batch)
            with torch.no_grad():
                vectors = self._text.tokens(texts).index_select(0, token).float()  # type: ignore[arg-type]
            F.cross_entropy(layer(vectors), label, reduction="sum").backward()
            words += len(batch.token)
        largest = max(float(one.grad.abs().max()) for one in layer.parameters())
        layer.zero_grad()
        return largest / max(1, words)
