"""The spaCy component `nuner_embed`: entities, spans and vectors in a `Doc`.

spaCy finds the factory by its entry point, without an import of this module:

    nlp = spacy.blank("en")
    nlp.add_pipe("nuner_embed", config={"concepts": ["city", "person"]})
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import srsly
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch, raise_error

from nuner_embed.arguments import as_names
from nuner_embed.documents import Document
from nuner_embed.encoders.mentions import EmbeddedTokens, Found
from nuner_embed.errors import ProbeError
from nuner_embed.heads.base import Head, require_probability
from nuner_embed.heads.tagger import Tagger
from nuner_embed.heads.zero_shot import named_tagger
from nuner_embed.models.known import DEFAULT_MODEL

FACTORY: Final = "nuner_embed"
VECTOR: Final = "nuner_vector"  # the extension attribute of spans
_HEAD: Final = "head"  # the folder within the component's folder
_BATCH: Final = 128  # documents
ErrorHandler = Callable[[str, Any, list[Doc], Exception], Any]


class EntityComponent:
    """Finds typed mentions in a `Doc` and embeds its tokens and mentions.

    Sets, for each `Doc`:

    - `doc.spans[spans_key]`: all mentions found, in the order of the text; its `attrs["scores"]` holds the probability
      of each, (m,).
    - `doc.ents`: the same mentions; those that overlap an entity of an earlier component, or a longer mention, are left
      out. Entities of earlier components stay.
    - `doc.tensor`: the embedding of each token, (tokens, dim) float32; zeros for white space. spaCy's `token.vector`,
      `span.vector` and `similarity` read it if the pipeline has no static vectors.
    - `span._.nuner_vector` of each mention found: the mean of the mention's word pieces, (dim,) float32, as in a store
      of mentions. None for all other spans.

    Attributes:
        name: of the component in its pipeline.
        spans_key: of `doc.spans`.
        vectors: whether tokens and mentions are embedded too, which takes a second pass through the encoder.
    """

    def __init__(
        self,
        name: str,
        *,
        head: str | None = None,
        concepts: Sequence[str] | dict[str, Any] | None = None,
        model: str | None = None,
        threshold: float | None = None,
        spans_key: str = FACTORY,
        vectors: bool = True,
        threads: int = 0,
    ) -> None:
        if (head is None) == (not concepts):
            raise ValueError(
                f'the component {name!r} needs either "head", the directory of a probe or a fine-tuned model, or '
                '"concepts", names of types such as ["city", "person"], in its config'
            )
        if threshold is not None:
            require_probability(threshold)
        self.name = name
        self.spans_key, self.vectors = spans_key, vectors
        self._head, self._concepts = head, concepts if isinstance(concepts, dict) else as_names(concepts or ())
        self._model, self._threshold, self._threads = model, threshold, threads
        self._tagger: Tagger[Head] | None = None
        self._on_error: ErrorHandler = raise_error
        if not Span.has_extension(VECTOR):
            Span.set_extension(VECTOR, default=None)

    @property
    def tagger(self) -> Tagger[Head]:
        """The encoder with the head, loaded when it is first needed: `spacy.load` reads the head of its own folder.

        Raises:
            NunerEmbedError: the head or the model cannot be loaded.
        """
        if self._tagger is None:
            if self._head is not None:
                self._tagger = Tagger.open(self._head, model=self._model, threads=self._threads)
            else:
                self._tagger = named_tagger(self._concepts, model=self._model or DEFAULT_MODEL, threads=self._threads)
        return self._tagger

    @property
    def labels(self) -> tuple[str, ...]:
        """The types that the head tells apart; none before the head is loaded, since spaCy asks before it is read."""
        return () if self._tagger is None else self._tagger.types

    def get_error_handler(self) -> ErrorHandler:
        """What is called with the component's name, the component, the `Doc`s and the error; by default it raises."""
        return self._on_error

    def set_error_handler(self, error_handler: ErrorHandler) -> None:
        """Sets the error handler, as `nlp.set_error_handler` does for all components."""
        self._on_error = error_handler

    def __call__(self, doc: Doc) -> Doc:
        """Annotates one `Doc`."""
        try:
            self._annotate([doc])
        except Exception as error:
            self._on_error(self.name, self, [doc], error)
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = _BATCH) -> Iterator[Doc]:
        """Annotates a stream of `Doc`s, `batch_size` of them at a time."""
        for docs in minibatch(stream, size=batch_size):
            some = list(docs)
            try:
                self._annotate(some)
            except Exception as error:
                self._on_error(self.name, self, some, error)
            yield from some

    def _annotate(self, docs: Sequence[Doc]) -> None:
        tagged = self.tagger.tag([_document(str(i), doc) for i, doc in enumerate(docs)], self._threshold)
        for doc, document in zip(docs, tagged, strict=True):
            self._set_spans(doc, document)
        if self.vectors:
            self._set_vectors(docs, tagged)

    def _set_spans(self, doc: Doc, document: Document) -> None:
        found = sorted(document.spans, key=lambda span: (span.start, span.end))
        spans = [doc.char_span(one.start, one.end, one.label or "", alignment_mode="expand") for one in found]
        doc.spans[self.spans_key] = spans
        doc.spans[self.spans_key].attrs["scores"] = np.array([one.score for one in found], np.float32)
        taken = {token.i for entity in doc.ents for token in entity}
        free = [span for span in spans if taken.isdisjoint(range(span.start, span.end))]
        doc.set_ents([*doc.ents, *filter_spans(free)])

    def _set_vectors(self, docs: Sequence[Doc], documents: Sequence[Document]) -> None:
        encoder = self.tagger.encoder
        tokens = EmbeddedTokens.of(encoder, encoder.tokenize(documents, "word"), "window", lambda count: None)
        words = tokens.words(encoder.recipe.pooling)
        rows = np.searchsorted(words.document, np.arange(len(docs) + 1))
        for doc, begin, end in zip(docs, rows[:-1], rows[1:], strict=True):
            here = slice(begin, end)
            doc.tensor = np.zeros((len(doc), encoder.dim), np.float32)
            doc.tensor[_inked(doc)[words.index[here]]] = tokens.means(words.first[here], words.last[here])
        found = [(i, span) for i, doc in enumerate(docs) for span in doc.spans[self.spans_key]]
        mentions = tokens.mentions(
            Found(
                np.array([i for i, _ in found], np.int64),
                np.array([span.start_char for _, span in found], np.int64),
                np.array([span.end_char for _, span in found], np.int64),
                [span.label_ for _, span in found],
                np.zeros(len(found), np.float32),
            ),
            "float32",
        )
        rows_of = zip(mentions.rows.document, mentions.rows.start, mentions.rows.end, mentions.vectors, strict=True)
        for i, start, end, vector in rows_of:
            docs[i].char_span(int(start), int(end))._.set(VECTOR, vector)

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Writes the head to a folder; the encoder stays where it is, and is found again by its name."""
        Path(path).mkdir(parents=True, exist_ok=True)
        self.tagger.save(Path(path) / _HEAD, force=True)

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "EntityComponent":
        """Reads what `to_disk` wrote, and loads the encoder.

        Raises:
            NunerEmbedError: the head is missing or damaged, or its encoder is not on this machine.
        """
        self._tagger = Tagger.open(Path(path) / _HEAD, model=self._model, threads=self._threads)
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The files of the head as bytes."""
        with tempfile.TemporaryDirectory(prefix="nuner-embed-") as folder:
            self.to_disk(folder)
            files = {path.name: path.read_bytes() for path in sorted((Path(folder) / _HEAD).iterdir())}
        return bytes(srsly.msgpack_dumps(files))

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "EntityComponent":
        """Reads what `to_bytes` returned; see `from_disk`."""
        files = srsly.msgpack_loads(data)
        with tempfile.TemporaryDirectory(prefix="nuner-embed-") as folder:
            head = Path(folder) / _HEAD
            head.mkdir()
            for name, content in files.items():
                if Path(name).name != name:
                    raise ProbeError(f"a file of a head has a plain name, not {name!r:.60}")
                (head / name).write_bytes(content)
            return self.from_disk(folder)


def make_entity_component(
    nlp: Language,
    name: str,
    head: str | None,
    concepts: list[str] | dict[str, str | list[str]] | None,
    model: str | None,
    threshold: float | None,
    spans_key: str,
    vectors: bool,
    threads: int,
) -> EntityComponent:
    """The factory of the component.

    Args:
        nlp: the pipeline.
        name: of the component in the pipeline.
        head: the directory of a probe or of a fine-tuned model; give either this or `concepts`.
        concepts: names of types in plain words; the keys of a dictionary are the labels, and its values the names.
        model: the encoder's name or directory; None for that of the head, or the default model.
        threshold: least probability of a mention's type; None for that of the head.
        spans_key: of `doc.spans`.
        vectors: whether tokens and mentions are embedded too.
        threads: 0 for one a core.

    Raises:
        ValueError: neither a head nor concepts, both, or a threshold that is no probability.
    """
    return EntityComponent(
        name,
        head=head,
        concepts=concepts,
        model=model,
        threshold=threshold,
        spans_key=spans_key,
        vectors=vectors,
        threads=threads,
    )


Language.factory(
    FACTORY,
    assigns=["doc.ents", "doc.spans", "doc.tensor", f"span._.{VECTOR}"],
    default_config={
        "head": None,
        "concepts": None,
        "model": None,
        "threshold": None,
        "spans_key": FACTORY,
        "vectors": True,
        "threads": 0,
    },
    func=make_entity_component,
)


def _inked(doc: Doc) -> NDArray[np.int64]:
    """The numbers of the tokens that are not white space."""
    return np.array([token.i for token in doc if not token.is_space], np.int64)


def _document(identity: str, doc: Doc) -> Document:
    """A `Doc` as a document whose words are the tokens that are not white space."""
    words = tuple((token.idx, token.idx + len(token)) for token in doc if not token.is_space)
    return Document(identity, doc.text, words)
