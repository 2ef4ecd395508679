"""Verification of a store: every byte of its files, and every value in its lists."""

import hashlib
import json
import stat
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from nuner_embed import metadata
from nuner_embed.corpora.records import Reject
from nuner_embed.errors import StoreError
from nuner_embed.files import hash_of, json_bytes, read_bytes, sha256_of
from nuner_embed.limits import JSON_FILE_BYTES, LIST_LINE_BYTES
from nuner_embed.models.recipe import semantic_hash
from nuner_embed.printable import printable
from nuner_embed.store.journal import ENTRY_HASH, Journal, JournalLine, read_lines
from nuner_embed.store.layout import COVERAGE_FILE, JOURNAL_FILE, MANIFEST_FILE, REJECTS_FILE, SUFFIXES
from nuner_embed.store.manifest import OWN_HASH, StoredManifest, checked
from nuner_embed.store.shard import Covered

if TYPE_CHECKING:
    from nuner_embed.store.reader import Shard, Store


_BEGIN = b'{"name": "'  # of a line of the journal


def problems_of(store: "Store") -> list[str]:
    """The differences between a store and what was written, one line each."""
    manifest = checked(store.path, store.manifest)
    problems = list(_of_manifest(store, manifest))
    try:
        journal = Journal.read(store.path)
    except StoreError as error:
        problems.append(str(error))
    else:
        problems += _of_journal(store, manifest, journal)
        problems += _of_coverage(store, journal)
    problems += _of_rejects(store, manifest)
    for shard in store.shards:
        problems += _of_shard(shard)
    return problems


def missing_checksums(store: "Store") -> list[str]:
    """The parts of a store without a checksum, because an earlier version wrote them, one line each."""
    manifest = checked(store.path, store.manifest)
    missing = []
    if manifest.manifest_sha256 is None:
        missing.append(f"{MANIFEST_FILE} has no checksum of its own")
        if store.complete and manifest.rejects:
            missing.append(f"{REJECTS_FILE} has no checksum")
    elif not store.complete and (store.path / REJECTS_FILE).exists():
        missing.append(f"{REJECTS_FILE} has no checksum as long as the store is unfinished")
    try:
        entries = Journal.read(store.path).entries
    except StoreError:
        return missing
    if any(entry.entry_sha256 is None for entry in entries):
        missing.append(f"{JOURNAL_FILE} has entries without a checksum")
    if any(entry.coverage_sha256 is None for entry in entries):
        missing.append(f"{COVERAGE_FILE} has lines without a checksum")
    return missing


def _of_manifest(store: "Store", manifest: StoredManifest) -> Iterator[str]:
    values = {key: value for key, value in store.manifest.items() if key != OWN_HASH}
    if manifest.manifest_sha256 not in (None, hash_of(values)):
        yield f"{MANIFEST_FILE} was changed: its values do not have its hash"
    elif _bytes_of(store.path / MANIFEST_FILE) != json_bytes(store.manifest):
        yield f"{MANIFEST_FILE} was changed: it is not written as nuner-embed writes it"
    if hash_of(manifest.numerics) != manifest.numeric_hash:
        yield f"{MANIFEST_FILE} was changed: its numerics do not have its numeric hash"
    hashes = manifest.weights_sha256, manifest.config_sha256, manifest.tokenizer_sha256
    if semantic_hash(*hashes, manifest.recipe) != manifest.semantic_hash:
        yield f"{MANIFEST_FILE} was changed: its model and recipe do not have its semantic hash"


def _bytes_of(path: Path) -> bytes | None:
    try:
        return read_bytes(path, JSON_FILE_BYTES)
    except (OSError, ValueError):
        return None


def _of_journal(store: "Store", manifest: StoredManifest, journal: Journal) -> Iterator[str]:
    lines = read_lines(store.path)
    for number, (line, entry) in enumerate(zip(lines, journal.entries, strict=False), start=1):
        if _changed(line, entry):
            yield f"{JOURNAL_FILE}:{number} was changed: it is not what was written for {entry.name}"
    if not store.complete:  # there may be half a line, and shards that were added since the store was opened
        if lines[-1][: len(_BEGIN)] != _BEGIN[: len(lines[-1])]:
            yield f"{JOURNAL_FILE} ends in {len(lines[-1]):,} bytes that are not the beginning of a line"
        return
    if lines[-1]:
        yield f"{JOURNAL_FILE} has {len(lines[-1]):,} bytes behind its last line"
    if [_facts(entry) for entry in journal.entries] != [_facts(shard) for shard in manifest.shards]:
        yield f"{MANIFEST_FILE} and {JOURNAL_FILE} name different shards"
    reduced = [(entry.name, entry.batch_tokens) for entry in journal.entries if entry.batch_tokens]
    if reduced != [(one.name, one.batch_tokens) for one in manifest.reduced_shards]:
        yield f"{MANIFEST_FILE} and {JOURNAL_FILE} name different reduced shards"


def _facts(shard: object) -> tuple[object, ...]:
    return tuple(getattr(shard, name) for name in ("name", "rows", "documents", "sha256", "bytes"))


def _changed(line: bytes, entry: JournalLine) -> bool:
    """Whether a line differs from the line that is written for an entry."""
    values = {key: value for key, value in asdict(entry).items() if value is not None or key == "batch_tokens"}
    if line != json.dumps(values).encode():
        return True
    found = values.pop(ENTRY_HASH, None)
    return found is not None and found != hash_of(values)


def _of_coverage(store: "Store", journal: Journal) -> Iterator[str]:
    path = store.path / COVERAGE_FILE
    if not path.exists():
        if journal.coverage_bytes or journal.entries:  # the file is made before the first shard, even without a line
            yield f"{COVERAGE_FILE} is missing"
        return
    try:
        size = _size_of_plain(path)
        if size < journal.coverage_bytes or (store.complete and size > journal.coverage_bytes):
            yield f"{COVERAGE_FILE} has {size:,} bytes, not {journal.coverage_bytes:,}"
            return
        with path.open("rb") as stream:
            for entry in journal.entries:
                yield from _of_lines(stream, entry)
    except (OSError, ValueError) as error:
        yield f"{COVERAGE_FILE} cannot be read: {printable(error)}"


def _of_lines(stream: IO[bytes], entry: JournalLine) -> Iterator[str]:
    """Problems in the coverage lines of one shard, which begin at the stream's position."""
    found, count = hashlib.sha256(), 0
    while stream.tell() < entry.coverage_bytes:
        line = _line(stream)
        try:
            metadata.parse(line, Covered)
        except ValueError as error:
            yield f"{COVERAGE_FILE} has a line of {entry.name} that is none ({printable(error)})"
        found.update(line)
        count += 1
    if stream.tell() != entry.coverage_bytes or count != entry.covered:
        yield f"{COVERAGE_FILE} has {count:,} lines of {entry.name}, not {entry.covered:,}"
        stream.seek(entry.coverage_bytes)
    if entry.coverage_sha256 not in (None, found.hexdigest()):
        yield f"{COVERAGE_FILE} is not what was written for {entry.name} (sha256 differs)"


def _line(stream: IO[bytes]) -> bytes:
    line = stream.readline(LIST_LINE_BYTES)
    if len(line) == LIST_LINE_BYTES:
        raise ValueError(f"a line has more than {LIST_LINE_BYTES:,} bytes")
    return line


def _size_of_plain(path: Path) -> int:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is not a regular file")
    return facts.st_size


def _of_rejects(store: "Store", manifest: StoredManifest) -> Iterator[str]:
    path = store.path / REJECTS_FILE
    if not store.complete:  # the job writes the rejects anew
        return
    if not path.exists():
        if manifest.rejects:
            yield f"{REJECTS_FILE} is missing"
        return
    try:
        _size_of_plain(path)
        found, count = hashlib.sha256(), 0
        with path.open("rb") as stream:
            while line := _line(stream):
                metadata.parse(line, Reject)
                found.update(line)
                count += 1
    except (OSError, ValueError) as error:
        yield f"{REJECTS_FILE} cannot be read: {printable(error)}"
        return
    if count != manifest.rejects:
        yield f"{REJECTS_FILE} has {count:,} lines, {MANIFEST_FILE} says {manifest.rejects:,}"
    elif manifest.manifest_sha256 and manifest.rejects_sha256 != (found.hexdigest() if count else None):
        yield f"{REJECTS_FILE} is not what was written (sha256 differs)"


def _of_shard(shard: "Shard") -> Iterator[str]:
    """Problems in the files of a shard: sizes and hashes, and if these are right, the contents."""
    whole = True
    for suffix in SUFFIXES:
        path = shard.path(suffix)
        wrong = shard.wrong_size(suffix)
        try:
            if wrong is None and sha256_of(path) != shard.sha256[suffix]:
                wrong = f"{path.name} is not what was written (sha256 differs)"
        except OSError as error:
            wrong = f"{path.name} cannot be read: {error.strerror or error}"
        if wrong:
            whole = False
            yield wrong
    if not whole:
        return
    try:
        _ = shard.vectors
        yield from _of_rows(shard, shard.table(["document_id", "start", "end"]), shard.texts())
    except StoreError as error:
        yield str(error)


def _of_rows(shard: "Shard", rows: pa.Table, documents: pa.Table) -> Iterator[str]:
    """Reports rows that do not lie in a document of the shard."""
    # longest first, because index_in finds the first of equal ids; group_by, to_numpy and a
    # comparison with a number would import pandas, which takes longer than most verifications
    lengths = pc.utf8_length(documents["text"]).combine_chunks()
    order = pc.array_sort_indices(lengths, order="descending")
    ids = documents["document_id"].combine_chunks().take(order)
    places = pc.index_in(rows["document_id"], value_set=ids)
    if places.null_count:
        yield f"{shard.name}.parquet has rows of documents that are not in {shard.name}.documents.parquet"
        return
    length = lengths.take(order).take(places.combine_chunks())
    inside = pc.and_(pc.less_equal(rows["start"], rows["end"]), pc.less_equal(rows["end"], length))
    if len(rows) and not (pc.all(inside, skip_nulls=False).as_py() and pc.min(rows["start"]).as_py() >= 0):
        yield f"{shard.name}.parquet has rows that lie outside their documents"
