"""The rows that a filter keeps: an SQL condition over their columns, run by DuckDB without files or network."""

import importlib
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes.segment import Rows
from nuner_embed.limits import FILTER_MIB, FILTER_SECONDS

T = TypeVar("T")
_NUMBER = "row_number_of_this_stretch"
# Rows that are held in memory at a time; DuckDB takes a moment for each call, however few they are.
_AT_ONCE = 200_000
# How long DuckDB may take to notice that it is to stop: it looks after every 2,048 rows. A condition that takes longer
# for these, such as a distance between long texts, is left to itself.
_STOPPING_SECONDS = 1.0
_THREAD = "nuner-embed filter"  # the command line knows by this name what it must not wait for


def mark(rows: Rows, condition: str, seconds: float = FILTER_SECONDS, until: float | None = None) -> NDArray[np.bool_]:
    """The rows for which a condition is true, (rows,).

    Args:
        rows: of a segment.
        condition: one SQL expression over their columns, such as `label = 'river' and length(text) > 3`. It cannot
            read files, write, or hold a second statement.
        seconds: that the condition may take.
        until: the deadline by `time.monotonic()`, which several segments share; None for `seconds` from now.

    Raises:
        IndexBundleError: it is no such expression, names a column that there is not, or takes too long.
    """
    columns = _mentioned(condition, rows.columns)

    def work(connection: Any) -> NDArray[np.bool_]:
        marked = np.zeros(len(rows), bool)
        for first, table in rows.stretches(columns, _AT_ONCE):
            marked[first + _matching(connection, table, condition, rows.columns)] = True
        return marked

    return _within(seconds, until, work, condition)


def require_condition(no_rows: pa.Table, condition: str, seconds: float = FILTER_SECONDS) -> None:
    """Refuses what `mark` would refuse of rows with the columns of an empty table."""
    columns = no_rows.column_names
    _within(seconds, None, lambda connection: _matching(connection, no_rows, condition, columns), condition)


def _within(seconds: float, until: float | None, work: Callable[[Any], T], condition: str) -> T:
    """The result of some work with a connection; the work is stopped where it takes too long, or by Ctrl-C.

    The work runs in a thread of its own, because DuckDB blocks the thread that it runs in.
    """
    connection = _isolated()
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work(connection))
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name=_THREAD, daemon=True).start()
    try:
        in_time = done.wait(seconds if until is None else max(0.0, until - time.monotonic()))
    except BaseException:
        _stop(connection, done)
        raise
    if not in_time:
        _stop(connection, done)
        raise IndexBundleError(
            f"filter {condition[:200]!r} took more than {seconds:g} seconds and was stopped; make it simpler, "
            "or allow more with --filter-seconds (in Python filter_seconds)"
        )
    connection.close()
    if errors:
        raise errors[0]
    return results[0]


def _stop(connection: Any, done: threading.Event) -> None:
    """Tells DuckDB to stop, for as long as it may take to notice."""
    until = time.monotonic() + _STOPPING_SECONDS
    while not done.is_set() and time.monotonic() < until:
        connection.interrupt()  # again: it may be between two calls
        done.wait(0.05)


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
    except duckdb.OutOfMemoryException:
        raise IndexBundleError(
            f"filter {condition[:200]!r} takes more than {FILTER_MIB:,} MiB of memory; make it simpler"
        ) from None
    except duckdb.Error as error:
        reason = str(error).splitlines()[0].rstrip("!")
        raise IndexBundleError(
            f"filter {condition!r}: {reason}. It is one SQL condition over {', '.join(columns)} "
            "(\"end\" in double quotes), such as: label = 'river'"
        ) from None
    return found


def _isolated() -> Any:
    """A connection without access to files, network, extensions or settings; it sees the tables it is given alone."""
    return _duckdb().connect(
        ":memory:",
        config={
            "enable_external_access": False,
            "autoload_known_extensions": False,
            "autoinstall_known_extensions": False,
            "python_enable_replacements": False,
            "memory_limit": f"{FILTER_MIB}MiB",
            "lock_configuration": True,
        },
    )


@cache
def _duckdb() -> Any:
    return importlib.import_module("duckdb")
