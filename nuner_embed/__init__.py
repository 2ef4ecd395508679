"""Run a NuNER text encoder over your own corpora.

    import nuner_embed
    nuner_embed.export_onnx("minilm-l6", "model")
    store = nuner_embed.encode("corpus.jsonl", "store", model="model", rows="mention")

The public names below load on first use; importing the package loads nothing heavy.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuner_embed.corpora import Corpus
    from nuner_embed.documents import Document, Span
    from nuner_embed.encoding.encode import encode
    from nuner_embed.encoding.encoder import Encoder, TextEncoder, TokenEmbeddings
    from nuner_embed.encoding.load import load_encoder
    from nuner_embed.encoding.store import Store
    from nuner_embed.errors import NunerEmbedError
    from nuner_embed.export import export_onnx, verify
    from nuner_embed.indexes import Index, embed_mentions, examples_of, find, marked_document
    from nuner_embed.models import Recipe

__version__ = "0.1.0"

_HOMES = {
    "Corpus": "nuner_embed.corpora",
    "Document": "nuner_embed.documents",
    "Encoder": "nuner_embed.encoding.encoder",
    "Index": "nuner_embed.indexes",
    "NunerEmbedError": "nuner_embed.errors",
    "Recipe": "nuner_embed.models",
    "Span": "nuner_embed.documents",
    "Store": "nuner_embed.encoding.store",
    "TextEncoder": "nuner_embed.encoding.encoder",
    "TokenEmbeddings": "nuner_embed.encoding.encoder",
    "embed_mentions": "nuner_embed.indexes",
    "encode": "nuner_embed.encoding.encode",
    "examples_of": "nuner_embed.indexes",
    "export_onnx": "nuner_embed.export",
    "find": "nuner_embed.indexes",
    "load_encoder": "nuner_embed.encoding.load",
    "marked_document": "nuner_embed.indexes",
    "verify": "nuner_embed.export",
}

__all__ = [
    "Corpus",
    "Document",
    "Encoder",
    "Index",
    "NunerEmbedError",
    "Recipe",
    "Span",
    "Store",
    "TextEncoder",
    "TokenEmbeddings",
    "embed_mentions",
    "encode",
    "examples_of",
    "export_onnx",
    "find",
    "load_encoder",
    "marked_document",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
