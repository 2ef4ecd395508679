"""What the server counts, for Prometheus."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from nuner_embed.serving.shared_runtime import Run

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_REQUESTS: Final = (1, 2, 4, 8, 16, 32, 64, 128)


class Counters:
    """Counters of one server, in a registry of their own; also the observer of its `ComputeThread`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        prefix, registry = "nuner_embed", self._registry
        self._answers = Counter(f"{prefix}_requests", "Answered requests.", ["route", "status"], registry=registry)
        self._seconds = Histogram(
            f"{prefix}_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight = Gauge(
            f"{prefix}_requests_in_flight", "Requests that are being answered or wait.", registry=registry
        )
        self._tokens = Counter(
            f"{prefix}_tokens", "Tokens that were computed, special tokens included.", registry=registry
        )
        self._padding = Counter(f"{prefix}_padding_tokens", "Padding tokens that were computed.", registry=registry)
        self._computing = Counter(f"{prefix}_compute_seconds", "Seconds of computing.", registry=registry)
        self._together = Histogram(
            f"{prefix}_run_requests", "Batches of requests that ran together.", buckets=_REQUESTS, registry=registry
        )

    def ran(self, run: Run) -> None:
        """See `RunObserver`."""
        self._tokens.inc(run.tokens)
        self._padding.inc(run.padding)
        self._computing.inc(run.seconds)
        self._together.observe(run.requests)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request.

        Args:
            route: as it is declared; never what a client typed.
            status: of the answer.
            seconds: that the answer took.
        """
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self._registry)
