"""A model that ships as what training changed of its base: composed once, checked, kept in the user's cache folder.

The shipped folder holds the layers that were trained, of the text encoder and of the concept encoder, in float16; the
rest is the base's, which another package carries.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nuner_embed.artifacts import lock, replacing
from nuner_embed.cache import cached
from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file, hash_of, sha256_of, write_json
from nuner_embed.metadata import Sha256, convert, read_object
from nuner_embed.models.concept_facts import CONCEPTS_FILE, ConceptFacts
from nuner_embed.models.directories import CARD_FILE, COMPOSED_MODEL, CONCEPT_FOLDER, TOKENIZER_FILES, mark
from nuner_embed.models.onnx_export import RECIPE_FILE
from nuner_embed.models.weights import Tensors, changed, read_tensors, write_tensors

SHIPPED_FILE: Final = "shipped.json"
WEIGHTS_FILE: Final = "model.safetensors"
_HALVES = {"text.safetensors": "", "concept.safetensors": CONCEPT_FOLDER}  # and where in the model each belongs
_OF_BASE = ("config.json", *TOKENIZER_FILES)  # as far as it has them, in either half
_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Shipped:
    """What `shipped.json` says.

    Attributes:
        files: the SHA-256 of what ships.
        weights: those of both encoders' weights once they are composed, by the file that ships of each.
        base: those of the files that are taken from the base as they are.
    """

    files: dict[str, Sha256]
    weights: dict[str, Sha256]
    base: dict[str, Sha256]

    def __post_init__(self) -> None:
        if not (self.weights.keys() == _HALVES.keys() and {*_HALVES, RECIPE_FILE} <= self.files.keys()):
            raise ValueError("it lacks a half of the model, or its recipe")

    def places(self, directory: Path) -> dict[Path, str]:
        """The SHA-256 of every file of the model, composed in a directory."""
        places = {directory / _place_of(file): sha256 for file, sha256 in self.files.items() if file not in _HALVES}
        for file, folder in _HALVES.items():
            half = self.base | {WEIGHTS_FILE: self.weights[file], RECIPE_FILE: self.files[RECIPE_FILE]}
            places |= {directory / folder / name: sha256 for name, sha256 in half.items()}
        return places


def compose(name: str, shipped: Path, find_base: Callable[[], Path]) -> Path:
    """The directory of a shipped model, made where it is not there yet.

    What was killed while it made the model is swept first. A model that is damaged is made anew.

    Args:
        name: of the model.
        shipped: the folder that `ship` wrote.
        find_base: returns the directory of the base; called only where the model is not there yet.

    Raises:
        ModelError: what was shipped is damaged, the base is another one, or the cache folder cannot be written.
    """
    values, facts = _read_facts(name, shipped)
    directory = cached("models", f"{name}-{hash_of(values)[:16]}")
    if _is_whole(directory, facts):
        return directory
    busy = ModelError(f"{directory} is being made by another process")
    with lock(directory.with_suffix(".lock"), busy, ModelError, wait=True):  # of several processes one does it
        if not _is_whole(directory, facts):
            base = find_base()
            try:
                with replacing(directory, COMPOSED_MODEL, force=True) as made:
                    _compose(shipped, base, facts, made)
                    if not _is_whole(made, facts):
                        raise ModelError(f"{name} was trained from another base than {base}; reinstall both")
                    mark(made, "composed", facts.places(made))
            except OSError as error:
                raise ModelError(
                    f"{name} cannot be kept in {directory.parent} ({error.strerror or error}); make room there, or "
                    "name another folder with the environment variable NUNER_EMBED_CACHE"
                ) from None
    return directory


def _read_facts(name: str, shipped: Path) -> tuple[dict[str, object], _Shipped]:
    """What `shipped.json` holds, as it stands there, by whose hash the composed model is called, and as facts."""
    path, cure = shipped / SHIPPED_FILE, "reinstall nuner-embed"
    try:
        values = read_object(path, version=_SCHEMA_VERSION, error=ModelError, what="what a model ships as", cure=cure)
        return values, convert(values, _Shipped)
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} is not where it should be ({error}); {cure}") from None


def _compose(shipped: Path, base: Path, facts: _Shipped, made: Path) -> None:
    for file, sha256 in facts.files.items():
        if not (shipped / file).is_file() or sha256_of(shipped / file) != sha256:
            raise ModelError(f"{shipped / file} is not what was shipped (sha256 differs); reinstall nuner-embed")
    for file, folder in _HALVES.items():
        _lay_over(base, read_tensors(shipped / file), made / folder)
        if folder:
            copy_file(shipped / RECIPE_FILE, made / folder / RECIPE_FILE)
    for file in facts.files:
        if file not in _HALVES:
            (made / _place_of(file)).parent.mkdir(exist_ok=True)
            copy_file(shipped / file, made / _place_of(file))


def _is_whole(directory: Path, facts: _Shipped) -> bool:
    """Whether every file is what it was when the model was shipped."""
    try:
        return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in facts.places(directory).items())
    except OSError:  # one cannot be read
        return False


def _place_of(file: str) -> str:
    """Where in the model a shipped file lies."""
    return f"{CONCEPT_FOLDER}/{file}" if file == CONCEPTS_FILE else file


def _lay_over(base: Path, trained: Tensors, directory: Path) -> None:
    """Writes the base with some tensors in the place of its own."""
    directory.mkdir(exist_ok=True)
    tensors = read_tensors(base / WEIGHTS_FILE)
    if not trained.keys() <= tensors.keys():
        raise ModelError(f"{base} lacks what was trained; the model was trained from another base")
    tensors.update({name: value.astype(tensors[name].dtype) for name, value in trained.items()})
    write_tensors(tensors, directory / WEIGHTS_FILE, {"format": "pt"})
    for file in _OF_BASE:
        if (base / file).is_file():
            copy_file(base / file, directory / file)


def ship(checkpoint: Path, base: Path, shipped: Path) -> None:
    """Writes what training changed, into an empty folder, from a directory that `nuner-embed pretrain` made.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    shipped.mkdir(parents=True, exist_ok=True)
    weights = {}
    try:
        before = read_tensors(base / WEIGHTS_FILE)
        for file, folder in _HALVES.items():
            write_tensors(changed(read_tensors(checkpoint / folder / WEIGHTS_FILE), before), shipped / file)
            _lay_over(base, read_tensors(shipped / file), shipped / "composed")
            weights[file] = sha256_of(shipped / "composed" / WEIGHTS_FILE)
            shutil.rmtree(shipped / "composed")
        facts = ConceptFacts.read(checkpoint / CONCEPT_FOLDER)
        copy_file(checkpoint / RECIPE_FILE, shipped / RECIPE_FILE)
        copy_file(checkpoint / CARD_FILE, shipped / CARD_FILE)
    except (OSError, KeyError, ModelError) as error:
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
        written = _read_facts(shipped.name, shipped)[1]
        composed = {"weights": written.weights, "base": written.base}
    paths = sorted(path for path in shipped.rglob("*") if path.is_file() and path.name != SHIPPED_FILE)
    files = {path.relative_to(shipped).as_posix(): sha256_of(path) for path in paths}
    write_json(shipped / SHIPPED_FILE, {"schema_version": _SCHEMA_VERSION, "files": files, **composed})
