"""The process: listens, answers, and ends when a signal comes and the requests under way are answered."""

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import uvicorn

from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.serving.app import Loader, create_app
from nuner_embed.serving.contracts import Bounds, Served
from nuner_embed.serving.counters import Counters
from nuner_embed.serving.shared_runtime import ComputeThread

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_CLOSING_SECONDS: Final = 1.0  # for what is computed for requests that nobody waits for any more
# a supervisor may signal a process and its group, so that the process gets one signal twice
_ONE_SIGNAL_SECONDS: Final = 1.0
_BACKLOG: Final = 2048  # connections that the system accepts before the server does


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens.

    Attributes:
        host: a name or an address.
        port: 0 for any that is free.
    """

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def is_loopback(self) -> bool:
        """Whether other machines cannot reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def listen(self) -> socket.socket:
        """A socket that listens.

        Raises:
            RuntimeUnavailable: the address is taken, or does not belong to this machine.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            reason = str(error.strerror or error).partition(" (")[0]  # Python adds the address to the system's words
            raise RuntimeUnavailable(
                f"cannot listen on {self.host}:{self.port}: {reason}; name another address with --host and --port "
                "(port 0 takes any free one)"
            ) from None


@dataclass(slots=True)
class HttpServer:
    """A server process.

    Attributes:
        load: loads what the server answers with, given the thread that computes.
        bounds: of requests.
        key: that clients must send; None for none.
        drain_seconds: how long requests that are under way may take once a signal has come.
    """

    load: Callable[[ComputeThread], Served]
    bounds: Bounds = field(default_factory=Bounds)
    key: str | None = None
    drain_seconds: float = 30.0

    def run(self, listening: socket.socket, on_ready: Callable[[Served], None] = lambda served: None) -> None:
        """Answers requests until SIGTERM, SIGINT or SIGHUP comes.

        The first signal closes the socket: new connections are refused, and requests that are under way, those that
        wait included, are answered. At the end of `drain_seconds` those that are left are refused. Another signal, more
        than a second later, ends the process at once.

        Args:
            listening: see `Address.listen`; closed at the end.
            on_ready: is called, in a thread, once the model is loaded.

        Raises:
            Exception: whatever `load` raised; requests are answered with 503 until then.
        """
        counters = Counters()
        compute = ComputeThread(counters)

        def loaded(loader: Loader) -> None:
            if loader.error is None:
                on_ready(loader.served())
            else:
                server.should_exit = True

        loader = Loader(lambda: self.load(compute), loaded)
        app = create_app(loader, bounds=self.bounds, key=self.key, counters=counters)
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(self.drain_seconds)),
        )
        server = _Server(config)
        try:
            with listening:
                asyncio.run(server.serve(sockets=[listening]))
        finally:
            loader.abandon()
            compute.close(_CLOSING_SECONDS)
        if loader.error is not None:
            raise loader.error


class _Server(uvicorn.Server):
    """Ends as if nothing had happened once a signal came; uvicorn's own class sends the signal again at the end."""

    _since: float | None = None  # when the first signal came

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles the signals that this process does not ignore."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._end) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since, self.should_exit = now, True
        elif now - self._since > _ONE_SIGNAL_SECONDS:
            os._exit(128 + number)
