"""A model that ships as what training changed of its base: composed once, checked, kept in the user's cache folder.

The shipped folder holds the layers that were trained, of the text encoder and of the concept encoder, in float16; the
rest is the base's, which another package carries.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from nuner_embed.cache import cached
from nuner_embed.errors import ModelError
from nuner_embed.files import hash_of, read_json, sha256_of, write_json
from nuner_embed.models.concepts import CONCEPTS_FILE, ConceptFacts
from nuner_embed.models.directories import CARD_FILE, TOKENIZER_FILES, new_directory
from nuner_embed.models.exported import RECIPE_FILE
from nuner_embed.models.layout import CONCEPT_FOLDER

SHIPPED_FILE: Final = "shipped.json"
WEIGHTS_FILE: Final = "model.safetensors"
_HALVES = {"text.safetensors": "", "concept.safetensors": CONCEPT_FOLDER}  # and where in the model each belongs
_OF_BASE = ("config.json", *TOKENIZER_FILES)  # as far as it has them, in either half
_SCHEMA_VERSION = 1
Tensors = dict[str, NDArray[Any]]


def compose(name: str, shipped: Path, find_base: Callable[[], Path]) -> Path:
    """The directory of a shipped model, made where it is not there yet.

    Args:
        name: of the model.
        shipped: the folder that `ship` wrote.
        find_base: returns the directory of the base; called only where the model is not there yet.

    Raises:
        ModelError: what was shipped is damaged, or the base is another one.
    """
    try:
        facts = read_json(shipped / SHIPPED_FILE)
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} is not where it should be ({error}); reinstall nuner-embed") from None
    if facts["schema_version"] != _SCHEMA_VERSION:
        raise ModelError(f"{name} ships with schema version {facts['schema_version']}; reinstall nuner-embed")
    directory = cached("models", f"{name}-{hash_of(facts)[:16]}")
    if _is_whole(directory, facts):
        return directory
    with FileLock(directory.with_suffix(".lock")):  # of several processes one does it
        if not _is_whole(directory, facts):
            base = find_base()
            with new_directory(directory, force=True) as made:
                _compose(shipped, base, facts["files"], made)
                if not _is_whole(made, facts):
                    raise ModelError(f"{name} was trained from another base than {base}; reinstall both")
    return directory


def _compose(shipped: Path, base: Path, files: dict[str, str], made: Path) -> None:
    for file, sha256 in files.items():
        if not (shipped / file).is_file() or sha256_of(shipped / file) != sha256:
            raise ModelError(f"{shipped / file} is not what was shipped (sha256 differs); reinstall nuner-embed")
    for file, folder in _HALVES.items():
        _lay_over(base, load_file(shipped / file), made / folder)
        if folder:
            shutil.copyfile(shipped / RECIPE_FILE, made / folder / RECIPE_FILE)
    for file in files:
        if file not in _HALVES:
            (made / _place_of(file)).parent.mkdir(exist_ok=True)
            shutil.copyfile(shipped / file, made / _place_of(file))


def _is_whole(directory: Path, facts: dict[str, Any]) -> bool:
    """Whether every file is what it was when the model was shipped."""
    places = {directory / _place_of(file): sha256 for file, sha256 in facts["files"].items() if file not in _HALVES}
    for file, folder in _HALVES.items():
        half = facts["base"] | {WEIGHTS_FILE: facts["weights"][file], RECIPE_FILE: facts["files"][RECIPE_FILE]}
        places |= {directory / folder / name: sha256 for name, sha256 in half.items()}
    return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in places.items())


def _place_of(file: str) -> str:
    """Where in the model a shipped file lies."""
    return f"{CONCEPT_FOLDER}/{file}" if file == CONCEPTS_FILE else file


def _lay_over(base: Path, trained: Tensors, directory: Path) -> None:
    """Writes the base with some tensors in the place of its own."""
    directory.mkdir(exist_ok=True)
    tensors = load_file(base / WEIGHTS_FILE)
    if not trained.keys() <= tensors.keys():
        raise ModelError(f"{base} lacks what was trained; the model was trained from another base")
    tensors.update({name: value.astype(tensors[name].dtype) for name, value in trained.items()})
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    for file in _OF_BASE:
        if (base / file).is_file():
            shutil.copyfile(base / file, directory / file)


def ship(checkpoint: Path, base: Path, shipped: Path) -> None:
    """Writes what training changed, into an empty folder, from a directory that `nuner-embed pretrain` made.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    shipped.mkdir(parents=True, exist_ok=True)
    weights = {}
    try:
        before = load_file(base / WEIGHTS_FILE)
        for file, folder in _HALVES.items():
            after = load_file(checkpoint / folder / WEIGHTS_FILE)
            changed = {
                name: value.astype(np.float16)
                for name, value in after.items()
                if not np.array_equal(value, before[name])
            }
            save_file(changed, shipped / file)
            (shipped / file).chmod(0o644)  # it is written for its owner alone, and a wheel keeps that
            _lay_over(base, load_file(shipped / file), shipped / "composed")
            weights[file] = sha256_of(shipped / "composed" / WEIGHTS_FILE)
            shutil.rmtree(shipped / "composed")
        facts = ConceptFacts.read(checkpoint / CONCEPT_FOLDER)
        shutil.copyfile(checkpoint / RECIPE_FILE, shipped / RECIPE_FILE)
        shutil.copyfile(checkpoint / CARD_FILE, shipped / CARD_FILE)
    except (OSError, KeyError, SafetensorError) as error:
        raise ModelError(f"{checkpoint} is no checkpoint of this base that can be shipped: {error}") from None
    text = next(iter(_HALVES))
    ConceptFacts(weights[text], facts.pooling, facts.similarity, facts.calibration).write(shipped)
    copied = {file: sha256_of(base / file) for file in _OF_BASE if (base / file).is_file()}
    seal(shipped, {"weights": weights, "base": copied})


def seal(shipped: Path, composed: dict[str, dict[str, str]] | None = None) -> None:
    """Writes down what a shipped folder consists of; again after something was added to it.

    Args:
        shipped: the folder.
        composed: `weights`, the SHA-256 of both encoders' weights once they are composed, and `base`, that of the files
            that are taken from the base as they are; None for those written down before.
    """
    if composed is None:
        written = read_json(shipped / SHIPPED_FILE)
        composed = {name: written[name] for name in ("weights", "base")}
    paths = sorted(path for path in shipped.rglob("*") if path.is_file() and path.name != SHIPPED_FILE)
    files = {path.relative_to(shipped).as_posix(): sha256_of(path) for path in paths}
    write_json(shipped / SHIPPED_FILE, {"schema_version": _SCHEMA_VERSION, "files": files, **composed})
