"""`.parquet`: one document in each row."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from nuner_embed.corpora.base import ReadOptions, Source
from nuner_embed.corpora.objects import ANNOTATION_KEYS, TOKEN_KEYS, Record, is_tag_name, read_objects
from nuner_embed.corpora.records import Item, reject
from nuner_embed.corpora.span_lists import LABELS
from nuner_embed.corpora.streams import COMPRESSION_SUFFIXES, open_bytes
from nuner_embed.errors import CorpusError
from nuner_embed.files import OF_THE_PROCESS, parse_json
from nuner_embed.limits import LINE_MIB, MIB, PARQUET_BATCH_BYTES, PARQUET_VALUES, UNPACKED_MIB, UNPACKED_RATIO
from nuner_embed.printable import printable

_BATCH_ROWS = 1024
_COLUMNS_NAMED = 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class OpenParquet:
    """An open Parquet file.

    Attributes:
        file: the `pyarrow.parquet.ParquetFile`.
        source: the path of the file, or the stream of the unpacked copy.
    """

    file: Any
    source: Any


def read(source: Source, options: ReadOptions) -> Iterator[Item]:
    """Every row; ids are those of the id column, else of a column `id`, else FILE:ROW.

    The names of numeric tags or labels are taken from the features that the `datasets` library writes into the file.

    Raises:
        CorpusError: the file is no Parquet file, lacks a column, or its tags can be read in more than one way.
    """
    with open_parquet(source.path, source.name) as opened:
        schema = opened.file.schema_arrow
        columns = columns_of(schema, source.name, options.text_column, options.id_column)
        records = _records(opened, source.name, columns)
        yield from read_objects(records, source.name, options, class_names(schema.metadata or {}))


@contextmanager
def open_parquet(path: Path, name: str) -> Iterator[OpenParquet]:
    """Opens a Parquet file, which may be compressed once more.

    Raises:
        CorpusError: the file is no readable Parquet file; may also be raised within the block.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _seekable(path, name) as plain:
        try:
            with pq.ParquetFile(plain) as file:
                yield OpenParquet(file, plain)
        except (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError, KeyError) as error:
            if isinstance(error, OSError) and error.errno in OF_THE_PROCESS:
                raise
            said = printable(next(iter(str(error).splitlines()), type(error).__name__)[:100])
            raise CorpusError(name, None, f"not a readable Parquet file ({said})") from None


def _records(opened: OpenParquet, name: str, columns: dict[str, str]) -> Iterator[Record | Item]:
    needed = list(dict.fromkeys(columns.values()))
    for number, row in enumerate(parquet_rows(opened, name, needed), start=1):
        if row is None:
            reason = f"row {number}: not valid UTF-8; write the column from valid text"
            yield reject(name, number, reason, "")
            continue
        yield Record(number, {key: row[column] for key, column in columns.items()}, row, f"row {number}: ")


def parquet_rows(opened: OpenParquet, name: str, columns: list[str]) -> Iterator[dict[str, Any] | None]:
    """The rows of some columns; None for a row whose strings are not UTF-8, which Parquet does not check.

    Raises:
        CorpusError: a value is too long to be read.
    """
    groups = range(opened.file.metadata.num_row_groups)
    for rows, some in groupby(groups, key=lambda group: _rows_at_once(opened, name, columns, group)):
        for batch in opened.file.iter_batches(rows, row_groups=list(some), columns=columns):
            yield from rows_of(batch)


def _rows_at_once(opened: OpenParquet, name: str, columns: list[str], group: int) -> int:
    """The number of rows of a row group to read at once.

    A dictionary stores repeated values once, so that a kilobyte of a file may unpack to gigabytes of rows.
    """
    next(opened.file.iter_batches(1, row_groups=[group], columns=columns), None)  # a damaged file raises here, and
    facts = opened.file.metadata.row_group(group)  # would end the process below, where pyarrow catches nothing
    rows = _BATCH_ROWS
    for column in range(facts.num_columns):
        path = opened.file.schema.column(column).path
        if path.split(".")[0] not in columns:
            continue
        chunk = facts.column(column)
        if not 0 <= chunk.num_values <= PARQUET_VALUES:
            reason = (
                f"column {path!r} has {chunk.num_values:,} values in one row group, at most {PARQUET_VALUES:,} are "
                "read; write smaller row groups"
            )
            raise CorpusError(name, None, reason)
        values = max(1, chunk.num_values // max(1, facts.num_rows))  # a row
        shares = chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY"
        if shares and chunk.total_uncompressed_size * values * _BATCH_ROWS > PARQUET_BATCH_BYTES:
            longest = max(1, _longest_shared(opened, group, path))
            if longest > LINE_MIB * MIB:
                raise CorpusError(name, None, f"column {path!r} holds a value of {longest / MIB:,.0f} MiB; break it up")
            rows = min(rows, max(1, PARQUET_BATCH_BYTES // (longest * values)))
    return rows


def _longest_shared(opened: OpenParquet, group: int, path: str) -> int:
    """Bytes of the longest value in the dictionary of a column chunk."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(opened.source, read_dictionary=[path]) as file:
        for batch in file.iter_batches(1, row_groups=[group], columns=[path]):
            held = batch.column(0)
            while pa.types.is_nested(held.type):
                held = held.flatten()[0] if pa.types.is_struct(held.type) else held.flatten()
            if pa.types.is_dictionary(held.type):
                return int(pc.max(pc.binary_length(held.dictionary)).as_py() or 0)
    return 0


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The class names of columns, by column, from the metadata of a file."""
    try:
        features = parse_json(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        found = {column: _class_names(feature) for column, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError):  # written by another program
        return {}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any) -> list[str]:
    """The class names of a feature: a class label, a sequence, or fields that include the label."""
    if isinstance(feature, list):
        return _class_names(feature[0])
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or ()]
    inner = feature.get("feature")
    if isinstance(inner, dict | list):
        return _class_names(inner)
    labels = (feature[key] for key in LABELS if isinstance(feature.get(key), dict | list))
    return next(filter(None, map(_class_names, labels)), [])


def columns_of(schema: Any, name: str, text_column: str, id_column: str | None) -> dict[str, str]:
    """The keys of a record, and the column of each key."""
    there = schema.names
    tokens = [key for key in TOKEN_KEYS if key in there]
    if text_column in there:
        columns = {"text": text_column}
    elif tokens and text_column == "text":
        columns = {}
    else:
        raise CorpusError(name, None, f"no column {text_column!r}; it has {_listed(there)}; use --text-column")
    if id_column is not None and id_column not in there:
        raise CorpusError(name, None, f"no column {id_column!r}; it has {_listed(there)}; use --id-column")
    if id_column is not None:
        columns["id"] = id_column
    found = ["id", *tokens, *(field.name for field in schema if _may_annotate(field))]
    for key in found:  # found by name, unless the user named the column for another key
        if key in there and key not in columns and key not in columns.values():
            columns[key] = key
    return columns


def _may_annotate(field: Any) -> bool:
    """Whether a column may hold annotations, by its name and type."""
    import pyarrow as pa

    if field.name in ANNOTATION_KEYS:
        return True
    type_ = field.type
    inner = type_.value_type if pa.types.is_list(type_) or pa.types.is_large_list(type_) else type_
    if pa.types.is_struct(inner):
        return {"start", "end"} <= {inner.field(i).name for i in range(inner.num_fields)}
    is_tag = pa.types.is_integer(inner) or pa.types.is_string(inner) or pa.types.is_large_string(inner)
    return inner is not type_ and is_tag and is_tag_name(field.name)


def _listed(columns: list[str]) -> str:
    more = len(columns) - _COLUMNS_NAMED
    return ", ".join(columns[:_COLUMNS_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"


def rows_of(batch: Any) -> Iterator[dict[str, Any] | None]:
    """The rows of a batch; None for a row whose strings are not UTF-8."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for row in range(batch.num_rows):
        try:
            (values,) = batch.slice(row, 1).to_pylist()
        except UnicodeDecodeError:
            values = None
        yield values


@contextmanager
def _seekable(path: Path, name: str) -> Iterator[Any]:
    """The path, or a decompressed copy of the file: Parquet is read from the end of the file."""
    if path.suffix.lower() not in COMPRESSION_SUFFIXES:
        yield path
        return
    with tempfile.TemporaryFile() as copy:
        with open_bytes(path, name) as stream:
            _copy(stream, copy, max(UNPACKED_MIB * MIB, UNPACKED_RATIO * path.stat().st_size), name)
        copy.seek(0)
        yield copy


def _copy(stream: IO[bytes], copy: IO[bytes], limit: int, name: str) -> None:
    length = 0
    while piece := stream.read(_PIECE):
        length += len(piece)
        if length > limit:
            reason = f"unpacks to more than {limit / MIB:,.0f} MiB, which no Parquet file does; unpack it first"
            raise CorpusError(name, None, reason)
        copy.write(piece)
