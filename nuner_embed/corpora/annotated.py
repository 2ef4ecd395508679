"""Annotated corpora, read as a whole."""

from typing import Any

from nuner_embed.arguments import Paths, as_paths
from nuner_embed.corpora.corpus import Corpus
from nuner_embed.documents import Document
from nuner_embed.errors import CorpusError

_PLAIN = ("txt",)


def read_annotated(paths: Paths, format: str | None = None, **reading: Any) -> tuple[tuple[Document, ...], str]:
    """The documents of a corpus with spans or BIO tags, and the hash of their contents.

    In a `.txt` mentions stand in double brackets with their label behind a bar: "A ferry to [[Oslo|city]]".

    Args:
        paths: files, directories, or "-".
        format: see `Corpus`.
        reading: further options of `Corpus`, such as `tag_names`.

    Raises:
        CorpusError: it cannot be read, or holds no annotated mention.
    """
    with Corpus(paths, format=format, marked=True, **reading) as corpus:
        survey = corpus.survey()
        if not survey.spans:
            plain = any(file.format in _PLAIN for file in corpus.files)
            hint = (
                " (a .txt is read as a text a line, with mentions marked as in 'A ferry to [[Oslo|city]]'; "
                "--format conll reads it as words and tags)"
                if plain
                else ""
            )
            name = ", ".join(map(str, as_paths(paths)))
            raise CorpusError(name, None, f"holds no annotated mention; spans or BIO tags are needed here{hint}")
        return tuple(item for item in corpus if isinstance(item, Document)), survey.sha256
