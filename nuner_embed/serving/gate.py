"""What every request passes before it is read: the key, the state of the server, the bounds; and what is counted."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nuner_embed.limits import MIB, SERVED_BODY_SECONDS, SERVED_REFUSED_MIB
from nuner_embed.printable import printable
from nuner_embed.serving.contracts import Bounds
from nuner_embed.serving.counters import Counters
from nuner_embed.serving.failures import Refused, failure

_LOG = logging.getLogger("nuner_embed.serving")
# answered without a key and while the model is loading: nothing in them depends on what is served
OPEN: Final = frozenset({"/", "/health", "/docs", "/docs/oauth2-redirect", "/openapi.json"})
METRICS: Final = "/metrics"
_RETRY_BUSY: Final = "1"  # seconds


@dataclass(slots=True)
class Gate:
    """ASGI middleware around the whole application.

    Attributes:
        app: the application.
        bounds: of requests.
        key: that clients must send; None for none.
        counters: count every request.
        ready: raises `Refused` while the server is not ready.
        under_way: requests that are answered or wait.
    """

    app: ASGIApp
    bounds: Bounds
    key: str | None
    counters: Counters
    ready: Callable[[], object]
    under_way: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets the application answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._pass(scope, receive, counted)
        except Refused as error:
            await failure(error)(scope, receive, counted)
        except ClientDisconnect:  # nobody reads an answer; counted as 499
            pass
        except asyncio.CancelledError:  # the server ends, and the time for requests under way is over
            if not status:
                await failure(Refused(503, "the server ended before the answer was there"))(scope, receive, counted)
        except Exception as error:
            # one line, without what the client sent; the traceback with -v
            _LOG.error("%s: this is a fault of nuner-embed itself: %s", printable(scope["path"]), type(error).__name__)
            _LOG.debug("where it happened", exc_info=error)
            if not status:
                fault = Refused(500, f"a fault of nuner-embed itself: {type(error).__name__}; see the server's log")
                await failure(fault)(scope, receive, counted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.counters.answered(route, status or 499, time.perf_counter() - begin)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        try:
            self._require_key(scope)
            if scope["path"] == METRICS:
                await self.app(scope, receive, send)
                return
            self.ready()
            if self.under_way >= self.bounds.requests:
                busy = f"the server answers {self.under_way:,} requests already; send the request again later"
                raise Refused(429, busy, {"Retry-After": _RETRY_BUSY})
        except Refused:
            await _discard(receive)
            raise
        self._count(1)
        try:
            await self.app(scope, await self._with_body(scope, receive), send)
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        self.under_way += more
        self.counters.in_flight.set(self.under_way)

    def _require_key(self, scope: Scope) -> None:
        if self.key is None:
            return
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, key = given.partition(b" ")
        # in constant time, whatever was sent
        same = hmac.compare_digest(key.strip(), self.key.encode())
        if kind.lower() != b"bearer" or not same:
            raise Refused(
                401,
                "the server wants its key: send the header Authorization: Bearer KEY",
                {"WWW-Authenticate": "Bearer"},
            )

    async def _with_body(self, scope: Scope, receive: Receive) -> Receive:
        """Reads the whole body; returns what gives the body to the application.

        Raises:
            Refused: the body is too large, or takes too long.
            ClientDisconnect: the connection ended before the body did.
        """
        most = self.bounds.body_bytes
        large = Refused(413, f"the body has more than {most:,} bytes; send fewer or shorter texts in a request")
        said = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if said.isdigit() and int(said) > most:
            await _discard(receive)
            raise large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(SERVED_BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":  # what came may be a whole request by chance
                        raise ClientDisconnect
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if size > most:
                        await _discard(receive, more=more)
                        raise large
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {SERVED_BODY_SECONDS:g} seconds") from None
        return _replay(b"".join(parts), receive)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read already, then whatever comes after."""
    given = False

    async def replayed() -> dict[str, Any]:
        nonlocal given
        if given:
            return dict(await receive())
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _discard(receive: Receive, *, more: bool = True) -> None:
    """Reads what remains of a body: a client that still writes would not see the answer."""
    size = 0
    try:
        async with asyncio.timeout(SERVED_BODY_SECONDS):
            while more and size < SERVED_REFUSED_MIB * MIB:
                message = await receive()
                size += len(message.get("body", b""))
                more = message["type"] == "http.request" and message.get("more_body", False)
    except TimeoutError:
        pass
