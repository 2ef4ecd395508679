"""Run a NuNER text encoder over your own corpora.

    import nuner_embed
    nuner_embed.export_onnx("nuner-mini", "model")
    store = nuner_embed.encode("corpus.jsonl", "store", model="model", rows="mention")

The public names below load on first use; importing the package loads nothing heavy.
"""

from __future__ import annotations

# Nothing is imported here, not even `typing`: the command line heeds signals only once this has run.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nuner_embed.annotation.instruction import Instruction
    from nuner_embed.annotation.job import annotate
    from nuner_embed.annotation.replies import convert_replies
    from nuner_embed.annotation.server import LLMServer
    from nuner_embed.corpora.corpus import Corpus
    from nuner_embed.documents import Document, Span
    from nuner_embed.encoders.base import Encoder
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.encoders.loader import load_encoder
    from nuner_embed.encoders.text import TextEncoder
    from nuner_embed.errors import NunerEmbedError
    from nuner_embed.evaluation.fewshot import FewShotProtocol
    from nuner_embed.evaluation.fewshot_run import evaluate_fewshot, read_set
    from nuner_embed.evaluation.metrics import score_tagger
    from nuner_embed.export import export_onnx, verify
    from nuner_embed.heads.classifier import LinearProbe
    from nuner_embed.heads.decoding import by_mentions
    from nuner_embed.heads.detector import load_detector
    from nuner_embed.heads.io import open_head
    from nuner_embed.heads.names import NamedTypes
    from nuner_embed.heads.probe import train_probe
    from nuner_embed.heads.tagger import Tagger
    from nuner_embed.heads.zero_shot import extract, named_tagger
    from nuner_embed.indexes import Index, embed_mentions, examples_of, find, find_concepts, marked_document
    from nuner_embed.integrations.scikit_learn import MentionVectorizer, TextVectorizer
    from nuner_embed.jobs.encoding import encode
    from nuner_embed.models.recipe import Recipe
    from nuner_embed.models.resolver import fetch_model
    from nuner_embed.models.snapshot import save_model
    from nuner_embed.pretraining.finetune_settings import FinetuneSettings
    from nuner_embed.pretraining.finetuning import finetune
    from nuner_embed.pretraining.run import pretrain
    from nuner_embed.pretraining.settings import PretrainSettings
    from nuner_embed.store.parquet_file import write_parquet
    from nuner_embed.store.reader import Store
    from nuner_embed.tables import TokenEmbeddings

__version__ = "0.1.0"

_HOMES = {
    "ConceptEncoder": "nuner_embed.encoders.concepts",
    "Corpus": "nuner_embed.corpora.corpus",
    "Document": "nuner_embed.documents",
    "Encoder": "nuner_embed.encoders.base",
    "FewShotProtocol": "nuner_embed.evaluation.fewshot",
    "FinetuneSettings": "nuner_embed.pretraining.finetune_settings",
    "Index": "nuner_embed.indexes",
    "Instruction": "nuner_embed.annotation.instruction",
    "LLMServer": "nuner_embed.annotation.server",
    "LinearProbe": "nuner_embed.heads.classifier",
    "MentionVectorizer": "nuner_embed.integrations.scikit_learn",
    "NamedTypes": "nuner_embed.heads.names",
    "NunerEmbedError": "nuner_embed.errors",
    "PretrainSettings": "nuner_embed.pretraining.settings",
    "Recipe": "nuner_embed.models.recipe",
    "Span": "nuner_embed.documents",
    "Store": "nuner_embed.store.reader",
    "Tagger": "nuner_embed.heads.tagger",
    "TextEncoder": "nuner_embed.encoders.text",
    "TextVectorizer": "nuner_embed.integrations.scikit_learn",
    "TokenEmbeddings": "nuner_embed.tables",
    "annotate": "nuner_embed.annotation.job",
    "convert_replies": "nuner_embed.annotation.replies",
    "embed_mentions": "nuner_embed.indexes",
    "by_mentions": "nuner_embed.heads.decoding",
    "encode": "nuner_embed.jobs.encoding",
    "evaluate_fewshot": "nuner_embed.evaluation.fewshot_run",
    "examples_of": "nuner_embed.indexes",
    "export_onnx": "nuner_embed.export",
    "extract": "nuner_embed.heads.zero_shot",
    "fetch_model": "nuner_embed.models.resolver",
    "find": "nuner_embed.indexes",
    "find_concepts": "nuner_embed.indexes",
    "finetune": "nuner_embed.pretraining.finetuning",
    "load_detector": "nuner_embed.heads.detector",
    "load_encoder": "nuner_embed.encoders.loader",
    "marked_document": "nuner_embed.indexes",
    "named_tagger": "nuner_embed.heads.zero_shot",
    "open_head": "nuner_embed.heads.io",
    "pretrain": "nuner_embed.pretraining.run",
    "read_set": "nuner_embed.evaluation.fewshot_run",
    "save_model": "nuner_embed.models.snapshot",
    "score_tagger": "nuner_embed.evaluation.metrics",
    "train_probe": "nuner_embed.heads.probe",
    "verify": "nuner_embed.export",
    "write_parquet": "nuner_embed.store.parquet_file",
}

__all__ = [
    "ConceptEncoder",
    "Corpus",
    "Document",
    "Encoder",
    "FewShotProtocol",
    "FinetuneSettings",
    "Index",
    "Instruction",
    "LLMServer",
    "LinearProbe",
    "MentionVectorizer",
    "NamedTypes",
    "NunerEmbedError",
    "PretrainSettings",
    "Recipe",
    "Span",
    "Store",
    "Tagger",
    "TextEncoder",
    "TextVectorizer",
    "TokenEmbeddings",
    "annotate",
    "by_mentions",
    "convert_replies",
    "embed_mentions",
    "encode",
    "evaluate_fewshot",
    "examples_of",
    "export_onnx",
    "extract",
    "fetch_model",
    "find",
    "find_concepts",
    "finetune",
    "load_detector",
    "load_encoder",
    "marked_document",
    "named_tagger",
    "open_head",
    "pretrain",
    "read_set",
    "save_model",
    "score_tagger",
    "train_probe",
    "verify",
    "write_parquet",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
