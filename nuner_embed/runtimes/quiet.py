"""Transformers without its own words: what matters of them is raised as an error here."""

import contextlib
import logging
from collections.abc import Iterator

from transformers.utils import logging as transformers_logging


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps warnings and progress bars of transformers off stderr, and leaves both as they were found."""
    log = logging.getLogger("transformers")
    level = log.level
    bars = transformers_logging.is_progress_bar_enabled()
    log.setLevel(logging.ERROR)
    if bars:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        log.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
