"""What an exception that ends a command says to people: one line."""

import errno
import os
import traceback

_DEBUG = "--debug shows where"
_OUT_OF_MEMORY = (
    "there is not enough memory; smaller batches, fewer threads or workers, or a larger limit (ulimit -v) help"
)
_TOO_MANY_FILES = "too many files are open at once; ulimit -n shows the limit, and raises it"
# What these raise is about the files, the values or the machine they were given, not about this program.
_LIBRARIES = frozenset(
    {"duckdb", "faiss", "onnxruntime", "openvino", "pyarrow", "safetensors", "safetensors_rust", "tokenizers", "torch"}
)
_NO_MEMORY_SIGNS = (
    "bad_alloc",
    "cannot allocate memory",
    "out of memory",
    "failed to allocate",
    "failed to map segment",
)


def line_for(error: Exception) -> str:
    """Says what happened to a person who can mend it, or who can ask for its place with --debug.

    Args:
        error: whatever a command raised, but for the errors of `nuner_embed.errors`, which are lines themselves.
    """
    if isinstance(error, OSError) and (error.errno is not None or error.filename is not None):
        return _of_system(error)
    if isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _NO_MEMORY_SIGNS):
        return f"{_OUT_OF_MEMORY}; {_DEBUG} it ran out"
    if isinstance(error, RecursionError):
        return f"something is nested too deeply, in a file or in a filter; {_DEBUG}"
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    library = _library(error)
    if library:
        return f"{library}: {said or type(error).__name__}; {_DEBUG}"
    name = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return f"this is a fault of nuner-embed itself: {name}; {_DEBUG}"


def _of_system(error: OSError) -> str:
    what = error.strerror or (os.strerror(error.errno) if error.errno else type(error).__name__)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        what = _TOO_MANY_FILES
    elif error.errno == errno.ENOMEM:
        what = _OUT_OF_MEMORY
    if error.filename is None:
        return f"{what}; {_DEBUG}"
    return f"{os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename}: {what}"


def _library(error: Exception) -> str | None:
    """Whose error it is: the package that defines its class, or in whose code it was raised."""
    places = [type(error).__module__]
    places += [frame.f_globals.get("__name__", "") for frame, _ in list(traceback.walk_tb(error.__traceback__))[-1:]]
    return next((root for place in places if (root := place.partition(".")[0]) in _LIBRARIES), None)
