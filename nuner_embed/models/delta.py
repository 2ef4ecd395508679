"""Models that ship as the difference from a base: composed once, checked, and kept in the user's cache folder.

The shipped folder holds the trained layers of the text encoder and of the concept encoder in float16; all other weights
are those of the base, which comes with another package.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nuner_embed.artifacts import lock, replacing
from nuner_embed.cache import cached
from nuner_embed.errors import ModelError
from nuner_embed.files import copy_file, hash_of, sha256_of, write_json
from nuner_embed.metadata import Positive, Sha256, convert, read_object
from nuner_embed.models.concept_facts import CONCEPTS_FILE, ConceptFacts
from nuner_embed.models.config import read_config
from nuner_embed.models.directories import CARD_FILE, COMPOSED_MODEL, CONCEPT_FOLDER, TOKENIZER_FILES, mark
from nuner_embed.models.onnx_export import RECIPE_FILE
from nuner_embed.models.truncation import read_first_layers, write_config
from nuner_embed.models.weights import Tensors, changed, read_tensors, write_tensors

SHIPPED_FILE: Final = "shipped.json"
WEIGHTS_FILE: Final = "model.safetensors"
_HALVES = {"text.safetensors": "", "concept.safetensors": CONCEPT_FOLDER}  # with the folder of each within the model
_OF_BASE = ("config.json", *TOKENIZER_FILES)  # taken from the base, if it has them, into both halves
_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Shipped:
    """The contents of `shipped.json`.

    Attributes:
        files: the SHA-256 of the shipped files.
        weights: the SHA-256 of both encoders' composed weights, by the shipped file of each encoder.
        base: the SHA-256 of the files that are copied from the base.
        layers_kept: number of layers of the base that the model has, the first ones; None for all.
    """

    files: dict[str, Sha256]
    weights: dict[str, Sha256]
    base: dict[str, Sha256]
    layers_kept: Positive | None = None

    def __post_init__(self) -> None:
        if not (self.weights.keys() == _HALVES.keys() and {*_HALVES, RECIPE_FILE} <= self.files.keys()):
            raise ValueError("it lacks a half of the model, or its recipe")

    def places(self, directory: Path) -> dict[Path, str]:
        """The SHA-256 of every file of the model when it is composed in a directory."""
        places = {directory / _place_of(file): sha256 for file, sha256 in self.files.items() if file not in _HALVES}
        for file, folder in _HALVES.items():
            half = self.base | {WEIGHTS_FILE: self.weights[file], RECIPE_FILE: self.files[RECIPE_FILE]}
            places |= {directory / folder / name: sha256 for name, sha256 in half.items()}
        return places


def compose(name: str, shipped: Path, find_base: Callable[[], Path]) -> Path:
    """The directory of a shipped model, which is composed if it is missing or damaged.

    Args:
        name: of the model.
        shipped: the folder that `ship` wrote.
        find_base: returns the directory of the base; called only to compose the model.

    Raises:
        ModelError: a shipped file is damaged, the base is another, or the cache folder cannot be written.
    """
    values, facts = _read_facts(name, shipped)
    directory = cached("models", f"{name}-{hash_of(values)[:16]}")
    if _is_whole(directory, facts):
        return directory
    busy = ModelError(f"{directory} is being made by another process")
    with lock(directory.with_suffix(".lock"), busy, ModelError, wait=True):  # of several processes one composes it
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
    """The values of `shipped.json`, whose hash is in the composed model's name, and the same values typed."""
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
        _lay_over(base, read_tensors(shipped / file), made / folder, facts.layers_kept)
        if folder:
            copy_file(shipped / RECIPE_FILE, made / folder / RECIPE_FILE)
    for file in facts.files:
        if file not in _HALVES:
            (made / _place_of(file)).parent.mkdir(exist_ok=True)
            copy_file(shipped / file, made / _place_of(file))


def _is_whole(directory: Path, facts: _Shipped) -> bool:
    """Whether every file of a composed model has the SHA-256 that was shipped."""
    try:
        return all(path.is_file() and sha256_of(path) == sha256 for path, sha256 in facts.places(directory).items())
    except OSError:  # one cannot be read
        return False


def _place_of(file: str) -> str:
    """The path of a shipped file within the model."""
    return f"{CONCEPT_FOLDER}/{file}" if file == CONCEPTS_FILE else file


def _lay_over(base: Path, trained: Tensors, directory: Path, layers_kept: int | None) -> None:
    """Writes the base, or its first layers, with some tensors replaced."""
    directory.mkdir(exist_ok=True)
    tensors = _tensors_of(base, layers_kept)
    if not trained.keys() <= tensors.keys():
        raise ModelError(f"{base} lacks what was trained; the model was trained from another base")
    tensors.update({name: value.astype(tensors[name].dtype) for name, value in trained.items()})
    write_tensors(tensors, directory / WEIGHTS_FILE, {"format": "pt"})
    for file in _OF_BASE:
        if file == "config.json" and layers_kept is not None:
            write_config(base / file, layers_kept, directory / file)
        elif (base / file).is_file():
            copy_file(base / file, directory / file)


def _tensors_of(base: Path, layers_kept: int | None) -> Tensors:
    if layers_kept is None:
        return read_tensors(base / WEIGHTS_FILE)
    return read_first_layers(str(base), [base / WEIGHTS_FILE], read_config(str(base), base).layers, layers_kept)


def ship(checkpoint: Path, base: Path, shipped: Path, layers_kept: int | None = None) -> None:
    """Writes the difference between a checkpoint of `nuner-embed pretrain` and its base into an empty folder.

    Args:
        checkpoint: directory of the text encoder.
        base: directory of the base, whole.
        shipped: the folder.
        layers_kept: where the training began with the first layers of the base (`models save --layers-kept`), their
            number.

    Raises:
        ModelError: a file is missing or cannot be read.
    """
    shipped.mkdir(parents=True, exist_ok=True)
    weights: dict[str, str] = {}
    copied: dict[str, str] = {}
    try:
        before = _tensors_of(base, layers_kept)
        for file, folder in _HALVES.items():
            write_tensors(changed(read_tensors(checkpoint / folder / WEIGHTS_FILE), before), shipped / file)
            _lay_over(base, read_tensors(shipped / file), shipped / "composed", layers_kept)
            weights[file] = sha256_of(shipped / "composed" / WEIGHTS_FILE)
            copied = {name: sha256_of(path) for name in _OF_BASE if (path := shipped / "composed" / name).is_file()}
            shutil.rmtree(shipped / "composed")
        facts = ConceptFacts.read(checkpoint / CONCEPT_FOLDER)
        copy_file(checkpoint / RECIPE_FILE, shipped / RECIPE_FILE)
        copy_file(checkpoint / CARD_FILE, shipped / CARD_FILE)
    except (OSError, KeyError, ModelError) as error:
        raise ModelError(f"{checkpoint} is not a checkpoint of this base that can be shipped: {error}") from None
    text = next(iter(_HALVES))
    ConceptFacts(weights[text], facts.pooling, facts.similarity, facts.calibration).write(shipped)
    seal(shipped, {"weights": weights, "base": copied} | _kept(layers_kept))


def _kept(layers_kept: int | None) -> dict[str, Any]:
    return {} if layers_kept is None else {"layers_kept": layers_kept}


def seal(shipped: Path, composed: dict[str, Any] | None = None) -> None:
    """Writes `shipped.json`; call again after a file was added to the folder.

    Args:
        shipped: the folder.
        composed: `weights`, `base` and perhaps `layers_kept` as in `_Shipped`; None to keep those of the present
            `shipped.json`.
    """
    if composed is None:
        written = _read_facts(shipped.name, shipped)[1]
        composed = {"weights": written.weights, "base": written.base} | _kept(written.layers_kept)
    paths = sorted(path for path in shipped.rglob("*") if path.is_file() and path.name != SHIPPED_FILE)
    files = {path.relative_to(shipped).as_posix(): sha256_of(path) for path in paths}
    write_json(shipped / SHIPPED_FILE, {"schema_version": _SCHEMA_VERSION, "files": files, **composed})
