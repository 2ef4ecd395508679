"""Whose the demo's folder is."""

from pathlib import Path
from typing import Final

from nuner_embed import metadata
from nuner_embed.artifacts import Kind
from nuner_embed.errors import NunerEmbedError


def _read(directory: Path) -> None:
    cure = "name another directory, or remove that one yourself"
    path = directory / "demo.json"
    values = metadata.read_object(path, version=1, error=NunerEmbedError, what="the mark of a demo", cure=cure)
    if values.get("kind") != "demo":
        raise NunerEmbedError(f"{path} is not the mark of a demo; {cure}")


# Model, store, index and probes in it are of kinds of their own, and are checked as such.
DEMO: Final = Kind("a demo", "demo.json", _read, ("*", "*/*", "*/*/*", "*/*/*/*"), NunerEmbedError, NunerEmbedError)
