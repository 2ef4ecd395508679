"""The addresses of the server. Each computes in a thread, in which it may wait for the thread that computes."""

from collections.abc import Callable
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from nuner_embed.serving import endpoints, responses
from nuner_embed.serving.contracts import Bounds, Served
from nuner_embed.serving.counters import CONTENT_TYPE
from nuner_embed.serving.requests import EmbedAllRequest, EmbeddingsRequest, PredictRequest, SearchRequest

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": responses.ErrorAnswer} for status in (400, 401, 404, 408, 409, 413, 422, 429, 500, 503)
}
router = APIRouter()


async def _answer(request: Request, compute: Callable[[Served, Any, Bounds], bytes], asked: Any) -> Response:
    state = request.app.state
    served: Served = state.loader.served()
    # a client that waits no longer, when the server ends, is not waited for
    body = await anyio.to_thread.run_sync(
        compute, served, asked, state.bounds, abandon_on_cancel=True, limiter=state.threads
    )
    return Response(body, media_type="application/json")


@router.get("/", include_in_schema=False)
async def root() -> dict[str, str]:
    """Says where the documentation is."""
    return {"name": "nuner-embed", "docs": "/docs"}


@router.get("/health", response_model=responses.Health, responses={503: {"model": responses.ErrorAnswer}})
async def health(request: Request) -> dict[str, str]:
    """Whether the server answers requests; 503 while the model is loading."""
    request.app.state.loader.served()
    return {"status": "ok"}


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """What the server counts, in Prometheus' text format."""
    return Response(request.app.state.counters.text(), media_type=CONTENT_TYPE)


@router.get("/v1/models", response_model=responses.ModelsAnswer, responses=_ERRORS)
async def models(request: Request) -> Response:
    """The model of the server, with the names of its heads and indexes."""
    return Response(endpoints.models(request.app.state.loader.served()), media_type="application/json")


@router.post("/v1/embeddings", response_model=responses.EmbeddingsAnswer, responses=_ERRORS)
async def embeddings(asked: EmbeddingsRequest, request: Request) -> Response:
    """Embed texts or mentions, for clients of OpenAI's embeddings API."""
    return await _answer(request, endpoints.embeddings, asked)


@router.post("/embed_all", response_model=list[responses.RowsAnswer], responses=_ERRORS)
async def embed_all(asked: EmbedAllRequest, request: Request) -> Response:
    """Embed all tokens or words of texts, with their character offsets."""
    return await _answer(request, endpoints.embed_all, asked)


@router.post("/search", response_model=responses.HitsAnswer, responses=_ERRORS)
async def search(asked: SearchRequest, request: Request) -> Response:
    """Search an index by a mention, by examples or by the names of types."""
    return await _answer(request, endpoints.search, asked)


@router.post("/predict", response_model=list[responses.SpansAnswer], responses=_ERRORS)
async def predict(asked: PredictRequest, request: Request) -> Response:
    """Find mentions in texts, by a head or by the names of types."""
    return await _answer(request, endpoints.predict, asked)
