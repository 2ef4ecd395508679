"""The manifest: the facts of a store, written when the job begins and again when the store is complete."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from nuner_embed import metadata
from nuner_embed.errors import StoreError, StoreMismatch
from nuner_embed.files import hash_of, write_json
from nuner_embed.limits import VECTOR_WIDTH
from nuner_embed.metadata import Count, Positive, Sha256
from nuner_embed.models.recipe import Recipe
from nuner_embed.printable import printable
from nuner_embed.store.layout import MANIFEST_FILE, shard_name
from nuner_embed.store.shard import Hashes, ShardEntry, Sizes, require_files_of
from nuner_embed.tables import Dtype, Granularity, Overflow

SCHEMA_VERSION = 4
# The hash of a manifest's other values.
OWN_HASH = "manifest_sha256"
# A model that was made in memory has no configuration.
_Sha256OrNone = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]


@dataclass(frozen=True, slots=True)
class Numerics:
    """The numerics that a resumed job takes over; other keys belong to the runtimes.

    Attributes:
        runtime: name of the runtime.
        precision: of the arithmetic.
        threads: of a worker.
        batch_tokens: tokens a batch may hold.
        streams: batches that run at a time, where the runtime leaves the choice.
        file: SHA-256 of the graph; None without a graph.
    """

    runtime: str
    precision: str
    threads: Annotated[int, msgspec.Meta(ge=0, le=65_536)]
    batch_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    streams: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1
    file: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts that are pinned when a job starts.

    Attributes:
        model: the name or directory that the encoder was loaded from, for encoding queries.
        semantic_hash: of weights, configuration, tokenizer and recipe.
        recipe: as JSON values.
        weights_sha256: of the model.
        config_sha256: of the part of the model's configuration that describes the network.
        tokenizer_sha256: of the model.
        numerics: everything that decides the bits; `numeric_hash` is their hash.
        granularity: what a row is.
        detector: the detector of the mentions; None where the corpus gave them, or rows are no mentions.
        overflow: what was done with long texts.
        dim: width of the vectors.
        dtype: of the vectors.
        shard_rows: rows after which a shard is closed.
        corpus_sha256: of all documents.
        corpus_documents: number of documents.
        resumable: False for standard input.
    """

    model: str
    semantic_hash: Sha256
    recipe: dict[str, Any]
    weights_sha256: Sha256
    config_sha256: _Sha256OrNone
    tokenizer_sha256: Sha256
    numerics: dict[str, Any]
    granularity: Granularity
    detector: dict[str, Any] | None
    overflow: Overflow
    dim: Annotated[int, msgspec.Meta(ge=1, le=VECTOR_WIDTH)]
    dtype: Dtype
    shard_rows: Positive
    corpus_sha256: Sha256
    corpus_documents: Count
    resumable: bool

    def write(self, directory: Path) -> None:
        """Writes `manifest.json` of a store that has no shard yet, atomically."""
        self._write(directory, [], 0, None, complete=False)

    def write_complete(
        self, directory: Path, shards: Sequence[ShardEntry], rejects: int, rejects_sha256: str | None
    ) -> None:
        """Writes `manifest.json` of a store with all its shards, atomically.

        Args:
            directory: of the store.
            shards: all of them.
            rejects: records that were left out.
            rejects_sha256: of `rejects.jsonl`; None where there is none.
        """
        self._write(directory, shards, rejects, rejects_sha256, complete=True)

    def write_clearing(self, directory: Path) -> None:
        """Writes `manifest.json` of a store whose lists and shards are about to be removed, atomically.

        The manifest marks the remains of the store as ours, and as not to be resumed.
        """
        self._write(directory, [], 0, None, complete=False, clearing=True)

    def _write(
        self, directory: Path, shards: Sequence[ShardEntry], rejects: int, rejects_sha256: str | None, **state: bool
    ) -> None:
        names = ("name", "rows", "documents", "sha256", "bytes")
        values = {
            "schema_version": SCHEMA_VERSION,
            **state,
            **asdict(self),
            "numeric_hash": hash_of(self.numerics),
            "documents": sum(shard.documents for shard in shards),
            "rejects": rejects,
            "rejects_sha256": rejects_sha256,
            "rows": sum(shard.rows for shard in shards),
            "shards": [{name: getattr(shard, name) for name in names} for shard in shards],
            "reduced_shards": [
                {"name": shard.name, "batch_tokens": shard.batch_tokens} for shard in shards if shard.batch_tokens
            ],
        }
        write_json(directory / MANIFEST_FILE, {**values, OWN_HASH: hash_of(values)})

    def require_same(self, begun: "StoredManifest", directory: Path) -> None:
        """Checks that this job may resume a store with the manifest `begun`.

        Raises:
            StoreMismatch: naming all differences.
        """
        mine, pinned = asdict(self), asdict(begun)
        differences = []
        for key, prefix in (("recipe", ""), ("numerics", "runtime "), ("detector", "detector ")):
            differences += _differences(pinned[key] or {}, mine[key] or {}, prefix)
        keys = ["granularity", "dim", "dtype", "shard_rows"]
        if pinned["overflow"] != "error":  # no text was too long so far, so the shards are the same
            keys.append("overflow")
        keys += ["weights_sha256", "config_sha256", "tokenizer_sha256"]
        if pinned["weights_sha256"] != mine["weights_sha256"]:
            keys.append("model")
        differences += _differences({k: pinned[k] for k in keys}, {k: mine[k] for k in keys}, "")
        if differences:
            raise StoreMismatch(
                f"{directory} was begun otherwise: {'; '.join(differences)}. "
                "Give the earlier options again, name another store, or start over with --force"
            )


def _differences(pinned: dict[str, Any], mine: dict[str, Any], prefix: str) -> list[str]:
    return [
        f"{prefix}{key} was {_short(pinned.get(key))} and is now {_short(mine.get(key))}"
        for key in sorted(pinned | mine)
        if pinned.get(key) != mine.get(key)
    ]


def _short(value: Any) -> str:
    text = printable(value)
    if len(text) == 64:
        return text[:12] + "..."
    return text if len(text) <= 200 else text[:200] + "..."


@dataclass(frozen=True, slots=True)
class ListedShard:
    """A shard in the manifest; see `ShardEntry`."""

    name: str
    rows: Count
    documents: Count
    sha256: Hashes
    bytes: Sizes

    def __post_init__(self) -> None:
        require_files_of(self)


@dataclass(frozen=True, slots=True)
class ReducedShard:
    """A shard that ran with a smaller batch budget because memory ran out; see `ShardEntry.batch_tokens`."""

    name: str
    batch_tokens: Positive


@dataclass(frozen=True, slots=True)
class StoredManifest(Manifest):
    """The contents of `manifest.json`.

    Attributes:
        complete: False until the job has ended; until then the journal lists the shards.
        numeric_hash: of the numerics.
        documents: in the store.
        rejects: records that were left out.
        rows: in the store.
        shards: of the store.
        reduced_shards: which of them ran with smaller batches.
        clearing: the shards are being removed; the store must not be used.
        rejects_sha256: of `rejects.jsonl`, if there is one; earlier versions did not write it.
        manifest_sha256: of all other values; earlier versions did not write it.
    """

    complete: bool
    numeric_hash: Sha256
    documents: Count
    rejects: Count
    rows: Count
    shards: tuple[ListedShard, ...]
    reduced_shards: tuple[ReducedShard, ...]
    clearing: bool = False
    rejects_sha256: Sha256 | None = None
    manifest_sha256: Sha256 | None = None

    def __post_init__(self) -> None:
        Recipe.from_dict(self.recipe)
        metadata.convert(self.numerics, Numerics)
        require_consecutive(self.shards)
        named = {shard.name for shard in self.shards}
        for reduced in self.reduced_shards:
            if reduced.name not in named:
                raise ValueError(f"reduced_shards names {reduced.name!r}, which is not a shard of it")
        for what in ("documents", "rows"):
            total, said = sum(getattr(shard, what) for shard in self.shards), getattr(self, what)
            if total != said:
                raise ValueError(f"{what} is {said}, its shards have {total}")
        if self.complete and (self.clearing or self.documents != self.corpus_documents):
            raise ValueError(f"complete is true, with {self.documents} of {self.corpus_documents} documents")


def require_consecutive(shards: Sequence[ListedShard]) -> None:
    """Refuses shards whose names are not those that `shard_name` gives, from the first one on.

    Raises:
        ValueError: naming one.
    """
    for index, shard in enumerate(shards):
        if shard.name != shard_name(index):
            raise ValueError(f"shard {index} is called {shard.name!r} instead of {shard_name(index)!r}")


def read_values(directory: Path) -> dict[str, Any] | None:
    """The values of a store's manifest, of which only the schema version is checked; None without a manifest.

    Raises:
        StoreError: the file is no manifest.
        StoreMismatch: the manifest has another schema version.
    """
    try:
        return metadata.read_object(
            directory / MANIFEST_FILE,
            version=SCHEMA_VERSION,
            error=StoreError,
            what="the manifest of a store",
            cure="name another directory",
            of_other_version=StoreMismatch,
            known_by=("shards",),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None


def checked(directory: Path, values: dict[str, Any]) -> StoredManifest:
    """The manifest of a store, made of the values from `read_values`.

    Raises:
        StoreError: a value is missing or invalid.
    """
    try:
        return metadata.convert(values, StoredManifest)
    except ValueError as error:
        raise StoreError(
            f"{directory / MANIFEST_FILE} is damaged or not the manifest of a store ({printable(error)}); "
            "encode into another directory"
        ) from None


def read_manifest(directory: Path) -> StoredManifest | None:
    """The manifest of a store, or None where there is none; see `read_values` and `checked`."""
    values = read_values(directory)
    return None if values is None else checked(directory, values)
