"""`.parquet`: a document a row."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nuner_embed.corpora.compression import SUFFIXES, open_bytes
from nuner_embed.corpora.jsonl import parse_record
from nuner_embed.corpora.records import Item, reject
from nuner_embed.errors import CorpusError

_BATCH_ROWS = 1024
_COLUMNS_NAMED = 20


def read_parquet(path: Path, name: str, text_column: str, id_column: str | None) -> Iterator[Item]:
    """Every row; ids are those of the id column, `id` if there is one, else FILE:ROW.

    Raises:
        CorpusError: not a Parquet file, or a column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _seekable(path, name) as plain:
        try:
            with pq.ParquetFile(plain) as file:
                columns = _columns(file.schema_arrow.names, name, text_column, id_column)
                needed = list(dict.fromkeys(columns.values()))
                rows = (row for batch in file.iter_batches(_BATCH_ROWS, columns=needed) for row in _rows(batch))
                for number, row in enumerate(rows, start=1):
                    if row is None:
                        reason = f"row {number}: not valid UTF-8; write the column from valid text"
                        yield reject(name, number, reason, "")
                        continue
                    record = {key: row[column] for key, column in columns.items()}
                    try:
                        yield number, parse_record(record, f"{name}:{number}")
                    except ValueError as error:
                        yield reject(name, number, f"row {number}: {error}", repr(row))
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(name, None, f"not a readable Parquet file ({str(error).splitlines()[0][:100]})") from None


def _columns(there: list[str], name: str, text_column: str, id_column: str | None) -> dict[str, str]:
    """What a record is made of, and the column that holds it."""
    if text_column in there:
        columns = {"text": text_column}
    elif "tokens" in there and text_column == "text":
        columns = {"tokens": "tokens"}
    else:
        raise CorpusError(name, None, f"no column {text_column!r}; it has {_listed(there)}; say --text-column")
    if id_column is not None and id_column not in there:
        raise CorpusError(name, None, f"no column {id_column!r}; it has {_listed(there)}; say --id-column")
    if id_column is not None:
        columns["id"] = id_column
    for key in ("id", "spans"):  # found by name, unless the user said that the column is something else
        if key in there and key not in columns and key not in columns.values():
            columns[key] = key
    return columns


def _listed(columns: list[str]) -> str:
    more = len(columns) - _COLUMNS_NAMED
    return ", ".join(columns[:_COLUMNS_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """A batch's rows; None stands for one whose strings are no UTF-8, which Parquet does not check."""
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
    """The file itself, or a decompressed copy: Parquet is read from its end."""
    if path.suffix.lower() not in SUFFIXES:
        yield path
        return
    with tempfile.TemporaryFile() as copy:
        with open_bytes(path, name) as stream:
            shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy
