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
                rows = (
                    row for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)) for row in batch.to_pylist()
                )
                for number, row in enumerate(rows, start=1):
                    record = {columns[column]: value for column, value in row.items()}
                    try:
                        yield number, parse_record(record, f"{name}:{number}")
                    except ValueError as error:
                        yield reject(name, number, f"row {number}: {error}", repr(row))
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(name, None, f"not a readable Parquet file ({str(error).splitlines()[0][:100]})") from None


def _columns(there: list[str], name: str, text_column: str, id_column: str | None) -> dict[str, str]:
    """Which columns to read, and what each is to a record."""
    if text_column in there:
        columns = {text_column: "text"}
    elif "tokens" in there and text_column == "text":
        columns = {"tokens": "tokens"}
    else:
        raise CorpusError(name, None, f"no column {text_column!r}; it has {', '.join(there)}; say --text-column")
    if id_column is not None and id_column not in there:
        raise CorpusError(name, None, f"no column {id_column!r}; it has {', '.join(there)}; say --id-column")
    identity = id_column or ("id" if "id" in there else None)
    if identity:
        columns[identity] = "id"
    if "spans" in there:
        columns["spans"] = "spans"
    return columns


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
