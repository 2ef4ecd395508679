"""The application: routes behind a gate, and the thread that loads the model."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from fastapi import FastAPI

from nuner_embed import __version__
from nuner_embed.serving.contracts import Bounds, Served
from nuner_embed.serving.counters import Counters
from nuner_embed.serving.failures import Refused, add_handlers
from nuner_embed.serving.gate import Gate
from nuner_embed.serving.routes import router
from nuner_embed.serving.shared_runtime import ABANDONED

THREAD: Final = "nuner-embed loader"
_RETRY: Final = {"Retry-After": "5"}  # seconds
_SUMMARY: Final = (
    "Embeddings of texts, mentions, words and tokens by a NuNER text encoder; search; mentions of types that are named "
    "or learnt. Offsets are code points of the original text."
)


class Loader:
    """Loads in a thread what the server answers with.

    Args:
        load: loads everything.
        on_end: is called in the thread once everything is loaded, or cannot be.

    Attributes:
        error: what `load` raised; None while it runs, and if it succeeded.
    """

    def __init__(self, load: Callable[[], Served], on_end: Callable[["Loader"], None] = lambda loader: None) -> None:
        self._load = load
        self._on_end = on_end
        self._served: Served | None = None
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def abandon(self) -> None:
        """Gives up what is still being loaded."""
        if self._thread.is_alive():
            self._thread.name = ABANDONED

    def served(self) -> Served:
        """What was loaded.

        Raises:
            Refused: it is not loaded yet.
        """
        if self._served is None:
            state = "cannot be loaded; see the server's log" if self.error else "is still loading; ask again later"
            raise Refused(503, f"the model {state}", dict(_RETRY))
        return self._served

    def _run(self) -> None:
        try:
            self._served = self._load()
        except Exception as error:
            self.error = error
        self._on_end(self)


def create_app(
    loader: Loader, *, bounds: Bounds | None = None, key: str | None = None, counters: Counters | None = None
) -> FastAPI:
    """The application of a server.

    Args:
        loader: of what the server answers with; started when the application starts.
        bounds: of requests; None for the defaults.
        key: that clients must send; None for none.
        counters: of requests; the ones that observe the thread that computes.
    """
    bounds, counters = bounds or Bounds(), counters or Counters()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.threads = anyio.CapacityLimiter(bounds.requests)
        loader.start()
        yield

    app = FastAPI(title="nuner-embed", description=_SUMMARY, version=__version__, lifespan=lifespan, redoc_url=None)
    app.state.loader, app.state.bounds, app.state.counters = loader, bounds, counters
    add_handlers(app)
    app.include_router(router)
    options: dict[str, Any] = {"bounds": bounds, "key": key, "counters": counters, "ready": loader.served}
    app.add_middleware(Gate, **options)
    return app
