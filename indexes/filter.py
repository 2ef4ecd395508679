"""The rows for which an SQL condition over their columns is true; DuckDB evaluates it without files or network."""

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
# Rows that are held in memory at a time; every call of DuckDB has a fixed cost.
_AT_ONCE = 200_000
# How long to wait for DuckDB to stop: it checks after every 2,048 rows. A condition that needs longer for so many rows,
# such as a distance between long texts, keeps running in its thread.
_STOPPING_SECONDS = 1.0
_THREAD = "nuner-embed filter"  # by this name the command line finds the thread, and does not wait for it at exit


def mark(rows: Rows, condition: str, seconds: float = FILTER_SECONDS, until: float | None = None) -> NDArray[np.bool_]:
    """The rows for which a condition is true, (rows,).

    Args:
        rows: of a segment.
        condition: one SQL expression over their columns, such as `label = 'river' and length(text) > 3`. It cannot
            read files, write, or hold a second statement.
        seconds: time limit of the condition.
        until: the deadline by `time.monotonic()`, shared by several segments; None for `seconds` from now.

    Raises:
        IndexBundleError: the condition is not such an expression, names an unknown column, or takes too long.
    """
    columns = _mentioned(condition, rows.columns)

    def work(connection: Any) -> NDArray[np.bool_]:
        marked = np.zeros(len(rows), bool)
        for first, table in rows.stretches(columns, _AT_ONCE):
            marked[first + _matching(connection, table, condition, rows.columns)] = True
        return marked

    return _within(seconds, until, work, condition)


def require_condition(no_rows: pa.Table, condition: str, seconds: float = FILTER_SECONDS) -> None:
    """Checks a condition against the columns of an empty table; raises what `mark` would raise."""
    columns = no_rows.column_names
    _within(seconds, None, lambda connection: _matching(connection, no_rows, condition, columns), condition)


def _within(seconds: float, until: float | None, work: Callable[[Any], T], condition: str) -> T:
    """Runs some work with a DuckDB connection; a timeout or Ctrl-C stops the work.

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
    """Interrupts DuckDB, and waits until the work ends, at most one second."""
    until = time.monotonic() + _STOPPING_SECONDS
    while not done.is_set() and time.monotonic() < until:
        connection.interrupt()  # repeatedly, since DuckDB may be between two calls
        done.wait(0.05)


def _mentioned(condition: str, columns: list[str]) -> list[str]:
    """The columns that a condition may use: those whose names occur in its text; all for `*` and DuckDB's COLUMNS."""
    text = condition.lower()
    some = columns if "*" in text or "columns" in text else [name for name in columns if name in text]
    return some or columns[:1]  # a table without columns has no rows either


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
    """A connection without access to files, network, extensions and settings; it sees only the tables it is given."""
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
