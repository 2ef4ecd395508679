"""From an annotated corpus to the pieces that are trained on and those that are held out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nuner_embed.arguments import Paths, as_paths
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document
from nuner_embed.errors import PretrainingError
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.pretraining.examples import Examples, concepts_of, make_examples, tags_of
from nuner_embed.pretraining.selection import draw_texts, hold_out, keep_top_concepts, merge_labels
from nuner_embed.pretraining.settings import Settings
from nuner_embed.tables import Ints

# Longest concept name; the longest of the 34,470 in our data has 16 tokens.
_CONCEPT_TOKENS = 64
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What a run learns from.

    Attributes:
        examples: all pieces.
        train, held_out: their numbers in either part.
        files: names of the corpus's files.
        sha256: of the corpus's contents.
    """

    examples: Examples
    train: Ints
    held_out: Ints
    files: tuple[str, ...]
    sha256: str

    def facts(self, kind: str) -> dict[str, Any]:
        """For people, as JSON values; `kind` says what the labels are."""
        return {
            "files": list(self.files),
            "sha256": self.sha256,
            "texts": self.examples.documents,
            "pieces": len(self.examples),
            "mentions": len(self.examples.label),
            "mentions_lost": self.examples.lost,
            "labels": len(self.examples.labels),
            "kind": kind,
            "held_out": len(self.held_out),
        }


def prepare(
    data: Paths,
    reading: Mapping[str, Any],
    tokenizer: TextTokenizer,
    settings: Settings,
    max_length: int,
    progress: Progress,
) -> Prepared:
    """Reads an annotated corpus, as the options of `Corpus` in `reading` say, and tokenizes it.

    Raises:
        CorpusError: it cannot be read.
        PretrainingError: it holds nothing to learn from.
    """
    tags = settings.objective == "token-classification"
    with Corpus(data, **reading) as corpus:
        survey = corpus.survey()
        what = ", ".join(map(str, as_paths(data)))
        if not survey.spans:
            raise PretrainingError(
                f"{what} holds no annotated mention; nuner-embed annotate makes such a corpus, or give one with spans"
            )
        documents: Iterator[Document] = (item for item in corpus if isinstance(item, Document))
        examples = make_examples(
            documents,
            tokenizer,
            max_length,
            tags_of if tags else concepts_of,
            first_token_only=tags,
            progress=lambda done: progress("tokenizing", done, survey.documents),
        )
        files = tuple(file.name for file in corpus.files)
    if not tags:
        seen = [tuple(ids.tolist()) for ids, _ in tokenizer.encode(list(examples.labels))]
        examples = merge_labels(examples, seen)
    if settings.sample is not None:
        examples = draw_texts(examples, settings.sample, settings.seed)
    if settings.top_concepts is not None:
        examples = keep_top_concepts(examples, settings.top_concepts)
    train, held_out = hold_out(examples, settings.validation, settings.seed)
    if not np.isin(examples.piece, train).any():
        raise PretrainingError(
            f"{what} holds no mention with a concept in its training part; there is nothing to learn"
        )
    return Prepared(examples, train, held_out, files, survey.sha256)


def tokenized_names(names: Sequence[str], tokenizer: TextTokenizer) -> tuple[NDArray[np.int32], Ints, list[str]]:
    """Token ids of concept names one after the other, (n,), their bounds, (c + 1,), and names too long to be whole."""
    room = _CONCEPT_TOKENS - tokenizer.specials
    encoded = [ids for ids, _ in tokenizer.encode(list(names))]
    cut = [name for name, ids in zip(names, encoded, strict=True) if len(ids) > room]
    whole = [np.concatenate([tokenizer.prefix, ids[:room], tokenizer.suffix]).astype(np.int32) for ids in encoded]
    return np.concatenate(whole), np.cumsum([0, *map(len, whole)], dtype=np.int64), cut
