"""The engines by name: the shards of a job are encoded in this process or in several."""

from collections.abc import Callable
from typing import Final

from nuner_embed.encoders.text import TextEncoder
from nuner_embed.jobs.engines.base import Engine
from nuner_embed.jobs.engines.local import LocalEngine
from nuner_embed.jobs.engines.process_pool import ProcessEngine
from nuner_embed.jobs.options import JobOptions
from nuner_embed.jobs.reporter import Reporter

ENGINES: Final[dict[str, Callable[[TextEncoder, Reporter], Engine]]] = {
    "local": LocalEngine,
    "processes": lambda encoder, reporter: ProcessEngine(reporter),
}


def engine_of(options: JobOptions, encoder: TextEncoder, reporter: Reporter) -> Engine:
    """The engine for a job: processes for several workers, else this process.

    Args:
        options: of the job.
        encoder: as loaded in this process.
        reporter: is told of the tokens that were encoded.
    """
    return ENGINES["processes" if options.workers > 1 else "local"](encoder, reporter)
