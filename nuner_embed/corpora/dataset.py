"""A corpus of the `datasets` library: each row of a `Dataset` as a document."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from nuner_embed.corpora.base import ReadOptions
from nuner_embed.corpora.objects import Record, read_objects
from nuner_embed.corpora.parquet import class_names, columns_of, rows_of
from nuner_embed.corpora.records import Item, reject

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """The rows of a `datasets.Dataset` as a part of a corpus.

    Attributes:
        dataset: with a column of texts or of words.
        name: what ids and messages call the dataset: its split, or "dataset".
    """

    dataset: "Dataset"
    name: str

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """The rows of a `Dataset`; None for anything that does not come from the `datasets` library.

        Raises:
            TypeError: several splits, or a stream, which cannot be read twice.
        """
        library = sys.modules.get("datasets")  # whoever has a Dataset has imported it
        if library is None:
            return None
        if isinstance(value, library.Dataset):
            return cls(value, str(value.split or "dataset"))
        if isinstance(value, library.DatasetDict | library.IterableDatasetDict):
            raise TypeError(f"choose one split of the dataset: {', '.join(map(repr, value))}")
        if isinstance(value, library.IterableDataset):
            raise TypeError("a corpus is read more than once, and a streamed dataset is not; load it without streaming")
        return None

    def read(self, options: ReadOptions) -> Iterator[Item]:
        """Every row; ids are those of the id column, else of a column `id`, else NAME:ROW.

        Raises:
            CorpusError: a column is missing, or the tags can be read in more than one way.
        """
        schema = self.dataset.features.arrow_schema
        columns = columns_of(schema, self.name, options.text_column, options.id_column)
        yield from read_objects(self._records(columns), self.name, options, class_names(schema.metadata or {}))

    def _records(self, columns: dict[str, str]) -> Iterator[Record | Item]:
        number = 0
        needed = self.dataset.select_columns(list(dict.fromkeys(columns.values())))
        for batch in needed.with_format("arrow").iter(_BATCH_ROWS):
            for row in rows_of(batch):
                number += 1
                if row is None:
                    yield reject(self.name, number, f"row {number}: not valid UTF-8", "")
                else:
                    values = {key: row[column] for key, column in columns.items()}
                    yield Record(number, values, row, f"row {number}: ")
