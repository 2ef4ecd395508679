"""A store as one Parquet file with the rows and their vectors."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nuner_embed import artifacts
from nuner_embed.errors import NunerEmbedError, StoreError, StoreLocked
from nuner_embed.files import atomic_write, expand, temporary_name, temporary_names
from nuner_embed.store.ownership import STORE, remove
from nuner_embed.store.reader import VECTOR_COLUMN, Store, with_vectors
from nuner_embed.store.shard import GROUP_ROWS

_FACTS = "nuner_embed"
_STORE_SUFFIX = "store"


def write_parquet(store: Store, path: str | Path) -> Path:
    """Writes a store's rows and vectors as one Parquet file, which appears once it is whole.

    The columns are those of the store's table, and `vector`, a list of `dim` numbers of the store's dtype. The file's
    metadata holds the hashes and the recipe under `nuner_embed`, as JSON.

    Raises:
        OSError: the file cannot be written.
    """
    target = expand(path)
    facts = {"semantic_hash": store.semantic_hash, "numeric_hash": store.numeric_hash, "recipe": store.recipe.to_dict()}
    metadata = {_FACTS: json.dumps(facts)}
    tables = _tables(store)
    first = next(tables)
    with (
        atomic_write(target) as stream,
        pq.ParquetWriter(stream, first.schema.with_metadata(metadata), compression="zstd") as file,
    ):
        file.write_table(first)
        for table in tables:
            file.write_table(table)
    return target


def _tables(store: Store) -> Iterator[pa.Table]:
    """The rows with their vectors, a group at a time; one empty table for an empty store."""
    for table, vectors in store.batches(GROUP_ROWS):
        yield with_vectors(table, vectors, store.dtype)
    if len(store) == 0:
        kind = pa.list_(pa.from_numpy_dtype(np.dtype(store.dtype)), store.dim)
        yield store.table().append_column(VECTOR_COLUMN, pa.array([], kind))


@contextlib.contextmanager
def store_beside(file: Path, *, force: bool) -> Iterator[Path]:
    """Yields a directory for the store behind a Parquet file, which is removed if the block ends without an error.

    The directory is a new one with an unpredictable name, or the one that a killed run left.

    Args:
        file: the Parquet file.
        force: replace the file, if `write_parquet` wrote it.

    Raises:
        StoreError: the file exists already, or may not be replaced.
        StoreLocked: another process is making the file.
    """
    if file.is_dir():
        raise StoreError(f"{file} is a directory; a name that ends in .parquet must be a file")
    with contextlib.ExitStack() as stack:
        if file.parent.is_dir():
            beside = artifacts.lock_beside(file)
            busy = StoreLocked(f"another process is writing {file}; wait for it or stop it")
            stack.enter_context(artifacts.lock(beside, busy, StoreError))
            stack.callback(beside.unlink, missing_ok=True)
        left = _left_stores(file)
        if file.exists():
            # if a store is left, the killed run was told to replace the file, or had just written it
            if not left and not force:
                raise StoreError(f"{file} exists already; name another file, or replace it with --force")
            _require_replaceable(file)
        for other in left[1:]:
            with contextlib.suppress(NunerEmbedError, OSError):
                remove(other)
        store = left[0] if left else temporary_name(file, _STORE_SUFFIX)
        yield store
        if store.exists():
            remove(store)


def _left_stores(file: Path) -> list[Path]:
    """Stores that killed runs left beside a file, newest first; call with the file's lock held."""
    if not file.parent.is_dir():
        return []
    names, former = temporary_names(file), re.compile(rf"\.{re.escape(file.name)}\.({_STORE_SUFFIX})", re.DOTALL)
    found = []
    for path in file.parent.iterdir():
        match = names.fullmatch(path.name) or former.fullmatch(path.name)
        if match and match[1] == _STORE_SUFFIX and path.is_dir() and not path.is_symlink() and _is_mine(path):
            with contextlib.suppress(NunerEmbedError):
                if STORE.read(path):
                    found.append(path)
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _is_mine(path: Path) -> bool:
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()


def _require_replaceable(file: Path) -> None:
    """Refuses a file that `write_parquet` did not write; an empty file may be replaced."""
    if file.is_file() and not file.stat().st_size:
        return
    try:
        ours = file.is_file() and _FACTS.encode() in (pq.read_metadata(file).metadata or {})
    except (OSError, pa.ArrowException):
        ours = False
    if not ours:
        raise StoreError(
            f"{file} is not a Parquet file that nuner-embed encode wrote; name another file, or remove that one "
            "yourself"
        )
