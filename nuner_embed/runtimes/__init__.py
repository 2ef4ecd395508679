"""Running models: one file a runtime, all behind one protocol."""

from nuner_embed.runtimes.base import Runtime, RuntimeOptions
from nuner_embed.runtimes.choose import load_runtime

__all__ = ["Runtime", "RuntimeOptions", "load_runtime"]
