"""The words of texts that nobody annotated: probable negatives for a probe that is to look for something rare.

Sentences that were chosen because they hold a type hold far more of it than other texts do, and a probe that learnt
from them alone finds it everywhere. Most words of any other text are of no type; the few that are of one hardly count.
How much that helps: benchmarks/background.py, results/background.md.
"""

from pathlib import Path
from typing import Final

import numpy as np

from nuner_embed.corpora.corpus import Corpus
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import ProbeError
from nuner_embed.files import expand
from nuner_embed.heads.features import FeatureCache, Progress, feature_folder, silent
from nuner_embed.heads.linear import Floats
from nuner_embed.store.layout import MANIFEST_FILE
from nuner_embed.store.reader import Store
from nuner_embed.tables import Ints

BACKGROUND_WORDS: Final = 4000


def background_words(
    source: str | Path, encoder: TextEncoder, *, seed: int = 0, cache: Path | None = None, progress: Progress = silent
) -> Floats:
    """Vectors of words of a store or of a corpus, 4,000 of them or as many as there are, drawn at random: (n, dim).

    Args:
        source: a store of words that this encoder made, or a corpus, of which up to 512 documents, evenly spread, are
            encoded; their annotations, if there are any, are not looked at.
        encoder: of the probe.
        seed: of the draw.
        cache: folder of the word embeddings; None for the user's cache folder.
        progress: is told `(what, done, total)` while texts are encoded.

    Raises:
        ProbeError: the store holds other rows than words, was made with another encoder, or there is no word.
        CorpusError, StoreError: it cannot be read.
    """
    path = expand(source)
    random = np.random.default_rng(seed)
    if (path / MANIFEST_FILE).is_file():
        store = Store.open(path)
        granularity, made_with = store.manifest["granularity"], store.manifest["semantic_hash"]
        if granularity != "word" or made_with != encoder.semantic_hash:
            raise ProbeError(
                f"{path} holds {granularity}s of {store.manifest['model']} ({made_with[:12]}), and a background holds "
                f"words of {encoder.source} ({encoder.semantic_hash[:12]}): encode with --rows word, or name the corpus"
            )
        total = sum(shard["rows"] for shard in store.manifest["shards"])
        vectors = store.vectors(_drawn(random, total)) if total else np.empty((0, encoder.dim))
    else:
        with Corpus([source]) as corpus:
            sample = corpus.survey().sample
        words = FeatureCache(cache or feature_folder(), encoder).features(sample, progress).vectors
        vectors = words[_drawn(random, len(words))]
    if not len(vectors):
        raise ProbeError(f"{source} holds no word; name other texts as a background")
    return np.asarray(vectors, np.float32)


def _drawn(random: np.random.Generator, total: int) -> Ints:
    return np.sort(random.choice(total, min(total, BACKGROUND_WORDS), replace=False))
