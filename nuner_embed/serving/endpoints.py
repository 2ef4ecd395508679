"""What the server computes for a request, as the bytes of the answer. Everything here runs in a request's thread."""

import base64
import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nuner_embed.documents import Document
from nuner_embed.serving.contracts import Bounds, Served
from nuner_embed.serving.failures import Refused
from nuner_embed.serving.inputs import (
    as_list,
    mention_document,
    plain_document,
    require_few_numbers,
    require_few_tokens,
    require_tokens,
    searched_documents,
)
from nuner_embed.serving.requests import EmbedAllRequest, EmbeddingsRequest, PredictRequest, SearchRequest
from nuner_embed.serving.vectors_of_texts import embed_mentions_alone, embed_texts
from nuner_embed.tables import TokenTable


def models(served: Served) -> bytes:
    """The one model of the server, as OpenAI lists models, with the names of the heads and indexes."""
    facts = {
        "id": served.model,
        "object": "model",
        "created": 0,
        "owned_by": "nuner-embed",
        "dim": served.encoder.dim,
        "heads": {name: list(tagger.types) for name, tagger in served.heads.items()},
        "indexes": list(served.indexes),
    }
    return msgspec.json.encode({"object": "list", "data": [facts]})


def embeddings(served: Served, asked: EmbeddingsRequest, bounds: Bounds) -> bytes:
    """The answer of /v1/embeddings."""
    encoder = served.encoder
    if asked.model != served.model:
        raise Refused(404, f"model: this server has the model {served.model!r}, not {asked.model[:100]!r}")
    if asked.dimensions not in (None, encoder.dim):
        raise Refused(422, f"dimensions: the vectors of {served.model} have {encoder.dim} numbers; leave the field out")
    if asked.normalize is not None:
        encoder = replace(encoder, recipe=encoder.recipe.replace(normalize=asked.normalize))
    given = as_list(asked.input, "input", bounds)
    if asked.rows == "mention":
        documents = [mention_document(one, number, "input") for number, one in enumerate(given)]
        embedded = embed_mentions_alone(encoder, documents, bounds)
    else:
        documents = [_text(one, number) for number, one in enumerate(given)]
        embedded = embed_texts(encoder, documents, bounds)
    as_base64 = asked.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": number, "embedding": _numbers(vector, as_base64=as_base64)}
        for number, vector in enumerate(embedded.vectors)
    ]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": served.model, "usage": usage})


def _text(given: Any, number: int) -> Document:
    if not isinstance(given, str):
        raise Refused(422, f"input, text {number}: an object with start and end goes with rows = mention")
    return plain_document(given, number, "input")


def embed_all(served: Served, asked: EmbedAllRequest, bounds: Bounds) -> bytes:
    """The answer of /embed_all."""
    encoder = served.encoder
    documents = _plain(asked.inputs, bounds)
    table: TokenTable = encoder.tokenize(documents, asked.rows)
    require_few_tokens(table, bounds)
    require_few_numbers(len(table.ids), encoder.dim)
    embedded = encoder.encode_rows(table, asked.rows, "truncate" if asked.truncate else "window")
    rows = embedded.rows
    cuts = np.searchsorted(rows.document, np.arange(len(documents) + 1))
    offsets = np.stack([rows.start, rows.end], axis=1)
    as_base64 = asked.encoding_format == "base64"
    return msgspec.json.encode(
        [
            {"offsets": offsets[a:b].tolist(), "embeddings": _numbers(embedded.vectors[a:b], as_base64=as_base64)}
            for a, b in itertools.pairwise(cuts)
        ]
    )


def predict(served: Served, asked: PredictRequest, bounds: Bounds) -> bytes:
    """The answer of /predict."""
    tagger = None if asked.types is not None else _chosen("head", asked.head, served.heads)
    documents = _plain(asked.inputs, bounds)
    require_tokens(served.encoder, documents, bounds)
    found = _by_names(served, asked, documents) if tagger is None else tagger.tag(documents, asked.threshold)
    return msgspec.json.encode(
        [
            {
                "spans": [
                    {
                        "start": span.start,
                        "end": span.end,
                        "text": document.text[span.start : span.end],
                        "label": span.label,
                        "score": span.score,
                    }
                    for span in document.spans
                ]
            }
            for document in found
        ]
    )


def _by_names(served: Served, asked: PredictRequest, documents: Sequence[Document]) -> list[Document]:
    assert asked.types is not None
    if isinstance(served.names, str):
        raise Refused(422, f"types: {served.names}")
    try:
        return served.names.tag(documents, asked.types, asked.threshold, nested=asked.nested)
    except ValueError as error:  # a name that is none
        raise Refused(422, f"types: {error}") from None


def search(served: Served, asked: SearchRequest, bounds: Bounds) -> bytes:
    """The answer of /search."""
    index = _chosen("index", asked.index, served.indexes)
    documents = searched_documents(asked, bounds)
    require_tokens(served.encoder, documents, bounds)
    return msgspec.json.encode({"hits": index.search(asked, documents)})


def _plain(texts: str | list[str], bounds: Bounds) -> list[Document]:
    given = as_list(texts, "inputs", bounds)
    return [plain_document(str(text), number, "inputs") for number, text in enumerate(given)]


def _chosen(what: str, name: str | None, there: Any) -> Any:
    """The head or index of a name; without a name, the only one."""
    if name is None and len(there) == 1:
        return next(iter(there.values()))
    known = ", ".join(there) or f"none; start the server with --{what}"
    if name is None:
        raise Refused(422, f"{what}: name one, of: {known}")
    if name not in there:
        raise Refused(404, f"{what}: there is no {name[:100]!r} here, only: {known}")
    return there[name]


def _numbers(vectors: NDArray[Any], *, as_base64: bool) -> Any:
    """Numbers as nested lists, or as base64 of little-endian float32."""
    if not as_base64:
        return vectors.tolist()
    return base64.b64encode(np.ascontiguousarray(vectors, "<f4").tobytes()).decode("ascii")
