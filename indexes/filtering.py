"""Which rows a filter lets through: an SQL condition over what the rows are, run by DuckDB with its doors shut."""

import importlib
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.rows import Rows

_NUMBER = "row_number_of_this_stretch"
# Rows that are held in memory at a time; DuckDB takes a moment for each call, however few they are.
_AT_ONCE = 200_000


def mark(rows: Rows, condition: str) -> NDArray[np.bool_]:
    """The rows for which a condition is true, (rows,).

    Args:
        rows: of a segment.
        condition: one SQL expression over their columns, such as `label = 'river' and length(text) > 3`. It cannot
            read files, write, or hold a second statement.

    Raises:
        IndexBundleError: it is no such expression, or names a column that there is not.
    """
    marked = np.zeros(len(rows), bool)
    columns = _mentioned(condition, rows.columns)
    with _shut() as connection:
        for first, table in rows.stretches(columns, _AT_ONCE):
            marked[first + _matching(connection, table, condition, rows.columns)] = True
    return marked


def require_condition(no_rows: pa.Table, condition: str) -> None:
    """Refuses what `mark` would refuse of rows with the columns of an empty table."""
    with _shut() as connection:
        _matching(connection, no_rows, condition, no_rows.column_names)


def _mentioned(condition: str, columns: list[str]) -> list[str]:
    """The columns that a condition can be about: what is not in its text it cannot name, but for DuckDB's COLUMNS."""
    text = condition.lower()
    some = columns if "*" in text or "columns" in text else [name for name in columns if name in text]
    return some or columns[:1]  # a table of no column has no rows either


def _matching(connection: Any, table: pa.Table, condition: str, columns: list[str]) -> NDArray[np.int64]:
    duckdb = _duckdb()
    numbered = table.append_column(_NUMBER, pa.array(np.arange(len(table))))
    try:
        relation = connection.from_arrow(numbered)
        kind = str(relation.project(condition).types[0])
        if kind != "BOOLEAN":
            raise IndexBundleError(f"filter {condition!r} is of type {kind}; it must be true or false")
        found: NDArray[np.int64] = relation.filter(condition).project(_NUMBER).fetchnumpy()[_NUMBER]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0].rstrip("!")
        raise IndexBundleError(
            f"filter {condition!r}: {reason}. It is one SQL condition over {', '.join(columns)} "
            "(\"end\" in double quotes), such as: label = 'river'"
        ) from None
    return found


def _shut() -> Any:
    """A connection that knows nothing but what it is handed: no files, no network, no extensions, no settings."""
    return _duckdb().connect(
        ":memory:",
        config={
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,
            "lock_configuration": True,
        },
    )


@cache
def _duckdb() -> Any:
    return importlib.import_module("duckdb")
