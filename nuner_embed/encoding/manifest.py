"""The manifest: what a store is, written when the job begins and again when it is complete."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from nuner_embed.encoding.encoder import TextEncoder
from nuner_embed.encoding.layout import MANIFEST_FILE
from nuner_embed.encoding.shards import Dtype, ShardEntry
from nuner_embed.encoding.tokens import Granularity
from nuner_embed.encoding.windows import Overflow
from nuner_embed.errors import StoreError, StoreMismatch
from nuner_embed.files import hash_of, read_json, write_json

SCHEMA_VERSION = 4


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is pinned when a job starts.

    Attributes:
        model: the name or directory that it was loaded from, for whoever wants to encode queries.
        semantic_hash: of weights, configuration, tokenizer and recipe.
        recipe: as JSON values.
        weights_sha256: of the model.
        config_sha256: of what its configuration says of the network.
        tokenizer_sha256: of the model.
        numerics: all that decides the bits; `numeric_hash` is their hash.
        granularity: what a row is.
        detector: what found the mentions; None where the corpus gave them, or other rows were asked for.
        overflow: what happened to long texts.
        dim: width of the vectors.
        dtype: of the vectors.
        shard_rows: rows after which a shard is closed.
        corpus_sha256: of all documents.
        corpus_documents: how many there are.
        resumable: False for standard input.
    """

    model: str
    semantic_hash: str
    recipe: dict[str, Any]
    weights_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    numerics: dict[str, Any]
    granularity: Granularity
    detector: dict[str, Any] | None
    overflow: Overflow
    dim: int
    dtype: Dtype
    shard_rows: int
    corpus_sha256: str
    corpus_documents: int
    resumable: bool

    @classmethod
    def of(cls, encoder: TextEncoder, **rest: Any) -> Self:
        """The manifest of a job with this encoder."""
        return cls(
            model=encoder.source,
            semantic_hash=encoder.semantic_hash,
            recipe=encoder.recipe.to_dict(),
            weights_sha256=encoder.weights_sha256,
            config_sha256=encoder.config_sha256,
            tokenizer_sha256=encoder.tokenizer.sha256,
            numerics=encoder.numerics,
            dim=encoder.dim,
            **rest,
        )

    @property
    def numeric_hash(self) -> str:
        """The hash of the numerics."""
        return hash_of(self.numerics)

    def write(self, directory: Path, shards: list[ShardEntry], rejects: int, *, complete: bool) -> None:
        """Writes `manifest.json`, atomically."""
        names = ("name", "rows", "documents", "sha256", "bytes")
        values = {
            "schema_version": SCHEMA_VERSION,
            "complete": complete,
            **asdict(self),
            "numeric_hash": self.numeric_hash,
            "documents": sum(shard.documents for shard in shards),
            "rejects": rejects,
            "rows": sum(shard.rows for shard in shards),
            "shards": [{name: getattr(shard, name) for name in names} for shard in shards],
            "reduced_shards": [
                {"name": shard.name, "batch_tokens": shard.batch_tokens} for shard in shards if shard.batch_tokens
            ],
        }
        write_json(directory / MANIFEST_FILE, values)

    def require_same(self, pinned: dict[str, Any], directory: Path) -> None:
        """Checks that this job may go on with a store that was begun with `pinned`.

        Raises:
            StoreMismatch: naming everything that differs.
        """
        mine = asdict(self)
        differences = []
        for key, prefix in (("recipe", ""), ("numerics", "runtime "), ("detector", "detector ")):
            differences += _differences(pinned[key] or {}, mine[key] or {}, prefix)
        keys = ["granularity", "dim", "dtype", "shard_rows"]
        if pinned["overflow"] != "error":  # no text was too long so far, and no shard is different for it
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
    text = str(value)
    return text[:12] + "..." if len(text) == 64 else text


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """The manifest of a store, or None where there is none.

    Raises:
        StoreError: it is not one.
        StoreMismatch: it is of another schema.
    """
    path = directory / MANIFEST_FILE
    if not path.is_file():
        return None
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); name another directory") from None
    if not isinstance(values, dict) or not {"schema_version", "semantic_hash", "shards"} <= set(values):
        raise StoreError(f"{path} is not the manifest of a store; name another directory")
    version = values["schema_version"]
    if version != SCHEMA_VERSION:
        raise StoreMismatch(
            f"{directory} has schema version {version}, this program reads {SCHEMA_VERSION}; encode again"
        )
    missing = {field.name for field in fields(Manifest)} | {"complete", "numeric_hash", "rejects"}
    missing -= set(values)
    if missing:
        raise StoreError(f"{path} is damaged, it lacks {', '.join(sorted(missing))}; remove the store")
    return values
