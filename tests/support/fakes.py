"""Small fakes that behave: a deterministic runtime, tokenizers made in memory, tiny transformers."""

import functools
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.errors import OutOfMemory
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Precision
from nuner_embed.runtimes.padding import PaddedRuntime

SHARED_DATA = Path(os.environ.get("NUNER_EMBED_DATA", Path(__file__).parents[3] / "shared" / "data"))

# Vocabularies are written out rather than trained: training breaks ties by chance, and processes must agree.
_CHARACTERS = sorted(
    {
        *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?-_()[]{}<>/'\"",
        *"üïçéßø😀👩🚀שלוםسلامनमस्तेसวัดี東京",
    }
)
_WORDS = ["the", "ferry", "left", "at", "seven", "Zürich", "naïve", "pres", "cribed", "Vol", "kova", "er", "in", "an"]


@functools.cache
def wordpiece() -> TextTokenizer:
    """A BERT tokenizer, uncased."""
    pieces = [word.lower() for word in _WORDS] + [c for c in _CHARACTERS if c == c.lower()]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys([*pieces, *(f"##{piece}" for piece in pieces)])]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(vocabulary[:4])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return _finish(tokenizer)


@functools.cache
def byte_level_bpe(add_prefix_space: bool = False) -> TextTokenizer:
    """A RoBERTa tokenizer."""
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [
        ("t", "h"),
        ("th", "e"),
        ("e", "r"),
        ("Ġ", "t"),
        ("Ġ", "f"),
        ("a", "n"),
        ("i", "n"),
        ("Ã", "¼"),
        ("Ġ", "a"),
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*specials, *alphabet, *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(vocabulary)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=add_prefix_space
    )
    return _finish(tokenizer)


@functools.cache
def unigram(split_first: bool = True) -> TextTokenizer:
    """An XLM-R tokenizer, which splits at white space first, or one without that step."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = dict.fromkeys(["▁", *(f"▁{word}" for word in _WORDS), *_WORDS, *_CHARACTERS])
    vocabulary = [(special, 0.0) for special in specials] + [(piece, -5.0 - len(piece) / 9) for piece in pieces]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    metaspace = pre_tokenizers.Metaspace()
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if split_first else metaspace
    )
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _finish(tokenizer)


def _finish(tokenizer: Tokenizer) -> TextTokenizer:
    return TextTokenizer.from_definition(json.loads(tokenizer.to_str()))


TOKENIZERS = {
    "wordpiece": wordpiece,
    "bpe": byte_level_bpe,
    "bpe_prefix": lambda: byte_level_bpe(add_prefix_space=True),
    "unigram": unigram,
    "unigram_unsplit": lambda: unigram(split_first=False),
}


class HashRuntime(PaddedRuntime):
    """Vectors that depend on the token ids alone: same token, same vector, wherever it stands.

    Args:
        dim: width of the vectors.
        memory: padded tokens that fit; a larger batch raises OutOfMemory.
        seconds: that every batch takes.
        positional: add the position to the first number, so that windows can be told apart.
        streams: batches it runs at a time.
    """

    name = "hash"
    device = "cpu"
    precision: Precision = "f32"
    batch_tokens = 512

    def __init__(
        self,
        dim: int = 8,
        memory: int | None = None,
        seconds: float = 0.0,
        positional: bool = False,
        streams: int = 1,
    ) -> None:
        self.streams = streams
        self.dim = dim
        self.memory = memory
        self.seconds = seconds
        self.positional = positional
        self.batches: list[tuple[int, ...]] = []
        self.description = "hash"
        self.numerics = {"runtime": "hash", "threads": 4, "precision": "f32", "dim": dim}

    def states(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        if self.memory is not None and input_ids.size > self.memory:
            raise OutOfMemory(f"{input_ids.size} tokens")
        time.sleep(self.seconds)
        self.batches.append(input_ids.shape)
        states = np.sin(input_ids[:, :, None] * np.arange(1, self.dim + 1)).astype(np.float32)
        if self.positional:
            states[:, :, 0] = np.arange(input_ids.shape[1])
        return states


def hash_encoder(
    tokenizer: TextTokenizer | None = None, runtime: HashRuntime | None = None, batch_tokens: int = 512, **recipe: Any
) -> TextEncoder:
    """A text encoder over a `HashRuntime`."""
    return TextEncoder(
        tokenizer=tokenizer or wordpiece(),
        runtime=runtime or HashRuntime(),
        recipe=Recipe(**{"max_length": 32, "stride": 8, **recipe}),
        weights_sha256="0" * 64,
        batch_tokens=batch_tokens,
    )


@dataclass(frozen=True)
class HashSpec:
    """Loads a hash encoder, in any process."""

    dim: int = 8
    memory: int | None = None
    seconds: float = 0.0
    batch_tokens: int | None = None
    max_length: int = 32
    threads: int = 0
    layers: tuple[int, ...] = (-1,)

    def load(self, workers: int = 1) -> TextEncoder:
        runtime = HashRuntime(self.dim, self.memory, self.seconds)
        runtime.numerics["threads"] = self.threads or 4 // workers
        return hash_encoder(
            runtime=runtime, batch_tokens=self.batch_tokens or 512, max_length=self.max_length, layers=self.layers
        )

    def pinned(self, numerics: dict[str, Any]) -> Self:
        return replace(
            self,
            threads=self.threads or numerics["threads"],
            batch_tokens=self.batch_tokens or numerics["batch_tokens"],
        )


def tiny_model(family: str, directory: Path, *, safe: bool = True, seed: int = 0) -> Path:
    """A randomly initialised two-layer transformer as a Hugging Face directory; needs torch and transformers."""
    import torch
    import transformers

    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if family == "bert":
        tokenizer = wordpiece()
        config = transformers.BertConfig(vocab_size=320, max_position_embeddings=40, pad_token_id=0, **shape)
    elif family == "distilbert":
        tokenizer = wordpiece()
        config = transformers.DistilBertConfig(
            vocab_size=320, max_position_embeddings=40, dim=16, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=0
        )
    elif family in ("roberta", "roberta_prefix"):
        tokenizer = byte_level_bpe(add_prefix_space=family == "roberta_prefix")
        config = transformers.RobertaConfig(vocab_size=420, max_position_embeddings=42, pad_token_id=1, **shape)
    elif family == "xlm-roberta":
        tokenizer = unigram()
        config = transformers.XLMRobertaConfig(vocab_size=320, max_position_embeddings=42, pad_token_id=1, **shape)
    elif family == "deberta-v2":
        tokenizer = unigram()
        config = transformers.DebertaV2Config(
            vocab_size=320, max_position_embeddings=40, pad_token_id=1, relative_attention=True,
            pos_att_type=["p2c", "c2p"], position_buckets=16, **shape,
        )  # fmt: skip
    elif family == "mpnet":
        tokenizer = wordpiece()
        config = transformers.MPNetConfig(vocab_size=320, max_position_embeddings=42, pad_token_id=1, **shape)
    elif family == "modernbert":
        tokenizer = byte_level_bpe()
        config = transformers.ModernBertConfig(
            vocab_size=420, max_position_embeddings=40, pad_token_id=1, bos_token_id=0, eos_token_id=2,
            cls_token_id=0, sep_token_id=2, local_attention=8, **shape,
        )  # fmt: skip
    else:
        raise ValueError(family)
    config.output_hidden_states = True  # as NuNER's checkpoints have it
    network = transformers.AutoModel.from_config(config)
    network.save_pretrained(directory, safe_serialization=safe)
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer.definition), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # which has no settings of its own but this one
        "add_prefix_space": bool((tokenizer.definition["pre_tokenizer"] or {}).get("add_prefix_space")),
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


FAMILIES = ("bert", "distilbert", "roberta", "roberta_prefix", "xlm-roberta")
UNFUSED_FAMILIES = ("deberta-v2", "modernbert", "mpnet")

# Two labelled sentences in CoNLL's format.
TRAIN = "the O\nferry B-boat\nleft O\nKiel B-city\n\nan O\nold O\nraft B-boat\nin O\nOslo B-city\n\n"
