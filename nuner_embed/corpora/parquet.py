"""`.parquet`: a document a row."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nuner_embed.corpora.compression import SUFFIXES, open_bytes
from nuner_embed.corpora.objects import ANNOTATION_KEYS, TOKEN_KEYS, Annotations, Record, is_tag_name, read_objects
from nuner_embed.corpora.records import Item, reject
from nuner_embed.corpora.span_lists import LABELS
from nuner_embed.errors import CorpusError

_BATCH_ROWS = 1024
_COLUMNS_NAMED = 20


def read_parquet(
    path: Path, name: str, text_column: str, id_column: str | None, annotations: Annotations
) -> Iterator[Item]:
    """Every row; ids are those of the id column, `id` if there is one, else FILE:ROW.

    What numbers mean as tags or labels is taken from the features that the `datasets` library writes into the file.

    Raises:
        CorpusError: not a Parquet file, a column is missing, or the tags can be read in more than one way.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _seekable(path, name) as plain:
        try:
            with pq.ParquetFile(plain) as file:
                schema = file.schema_arrow
                columns = _columns(schema, name, text_column, id_column)
                held = replace(annotations, by_key=class_names(schema.metadata or {}))
                yield from read_objects(_records(file, name, columns), name, held)
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(name, None, f"not a readable Parquet file ({str(error).splitlines()[0][:100]})") from None


def _records(file: Any, name: str, columns: dict[str, str]) -> Iterator[Record | Item]:
    needed = list(dict.fromkeys(columns.values()))
    rows = (row for batch in file.iter_batches(_BATCH_ROWS, columns=needed) for row in _rows(batch))
    for number, row in enumerate(rows, start=1):
        if row is None:
            reason = f"row {number}: not valid UTF-8; write the column from valid text"
            yield reject(name, number, reason, "")
            continue
        yield Record(number, {key: row[column] for key, column in columns.items()}, row, f"row {number}: ")


def class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each column that has some, out of a file's metadata."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        found = {column: _class_names(feature) for column, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError):  # another program's
        return {}
    return {column: names for column, names in found.items() if names}


def _class_names(feature: Any) -> list[str]:
    """Of a feature: a class label, a sequence, or fields of which one is the label."""
    if isinstance(feature, list):
        return _class_names(feature[0])
    if feature.get("_type") == "ClassLabel":
        return [str(name) for name in feature.get("names") or ()]
    inner = feature.get("feature")
    if isinstance(inner, dict | list):
        return _class_names(inner)
    labels = (feature[key] for key in LABELS if isinstance(feature.get(key), dict | list))
    return next(filter(None, map(_class_names, labels)), [])


def _columns(schema: Any, name: str, text_column: str, id_column: str | None) -> dict[str, str]:
    """What a record is made of, and the column that holds it."""
    there = schema.names
    tokens = [key for key in TOKEN_KEYS if key in there]
    if text_column in there:
        columns = {"text": text_column}
    elif tokens and text_column == "text":
        columns = {}
    else:
        raise CorpusError(name, None, f"no column {text_column!r}; it has {_listed(there)}; say --text-column")
    if id_column is not None and id_column not in there:
        raise CorpusError(name, None, f"no column {id_column!r}; it has {_listed(there)}; say --id-column")
    if id_column is not None:
        columns["id"] = id_column
    found = ["id", *tokens, *(field.name for field in schema if _may_annotate(field))]
    for key in found:  # found by name, unless the user said that the column is something else
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
