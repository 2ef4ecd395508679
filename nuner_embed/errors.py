"""The errors this package raises on purpose.

    NunerEmbedError
    |-- CorpusError        a corpus that cannot be read: names the file and the line
    |-- ModelError         a model that cannot be found, loaded or trusted
    |-- RuntimeUnavailable a requested runtime, provider or device is not available
    |-- OutOfMemory        one window alone does not fit into memory
    |-- ExportError        an exported graph that differs from its source
    |-- AnnotationError    an LLM that cannot be asked, or whose replies cannot be kept
    |-- PretrainingError   a bi-encoder that cannot be trained, or training that cannot go on
    |-- ProbeError         a probe that cannot be trained, read or used, or data that does not fit it
    |-- IndexBundleError   an index that cannot be built, read or trusted
    |   `-- IndexLocked    another process is changing it
    `-- StoreError         a store that cannot be written, read or trusted
        |-- StoreLocked    another process is writing it
        `-- StoreMismatch  begun with another recipe, corpus, runtime or schema

A message says what was expected, what was found, and what to do about it. The command line prints it
as one line and exits with 1; `ValueError` and `TypeError` mean bad arguments in code.
"""

from nuner_embed.printable import printable


class NunerEmbedError(Exception):
    """Base class of all errors that a user can do something about."""


class CorpusError(NunerEmbedError):
    """A corpus or one of its records cannot be read.

    Attributes:
        source: the file, as the user named it.
        line: 1-based line (row, for Parquet), or None where the whole file is meant.
        reason: what is wrong and what to do about it.
    """

    def __init__(self, source: str, line: int | None, reason: str) -> None:
        self.source = source
        self.line = line
        self.reason = reason
        where = source if line is None else f"{source}:{line}"
        super().__init__(printable(f"{where}: {reason}"))

    def __reduce__(self) -> tuple[type["CorpusError"], tuple[str, int | None, str]]:
        return type(self), (self.source, self.line, self.reason)


class ModelError(NunerEmbedError):
    """A model cannot be found, loaded or trusted."""


class RuntimeUnavailable(NunerEmbedError):
    """A requested runtime, provider or device is not available."""


class OutOfMemory(NunerEmbedError):
    """The runtime could not allocate memory for a batch."""


class ExportError(NunerEmbedError):
    """An exported graph does not compute what its source computes."""


class AnnotationError(NunerEmbedError):
    """An LLM cannot be asked, or its replies cannot be kept."""


class PretrainingError(NunerEmbedError):
    """A bi-encoder cannot be trained, or training cannot go on."""


class ProbeError(NunerEmbedError):
    """A probe cannot be trained, read or used, or the data does not fit it."""


class IndexBundleError(NunerEmbedError):
    """An index cannot be built, read or trusted."""


class IndexLocked(IndexBundleError):
    """Another process is changing the index."""


class StoreError(NunerEmbedError):
    """A store cannot be written, read or trusted."""


class StoreLocked(StoreError):
    """Another job is writing the store."""


class StoreMismatch(StoreError):
    """The store was begun with another recipe, corpus, runtime or schema."""
