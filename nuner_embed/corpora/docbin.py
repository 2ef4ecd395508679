"""`.spacy`: a `DocBin`, from which `spacy train` learns; written, not read."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from nuner_embed.corpora.base import WriteOptions
from nuner_embed.documents import Document, Span, split_words
from nuner_embed.errors import RuntimeUnavailable
from nuner_embed.installation import install_command

_SPANS_KEY = "sc"  # where spaCy's span categorizer looks
_UNLABELLED = "ENTITY"


def write(documents: Iterable[Document], options: WriteOptions) -> Iterator[bytes]:
    """All documents as one `DocBin`, which is held in memory.

    The tokens of a `Doc` are the words of the document, cut where a mention begins or ends. `doc.spans["sc"]` holds all
    mentions, with their probabilities in `attrs["scores"]`; `doc.ents` the mentions without overlaps, the longest
    first; `doc.user_data["id"]` the id.

    Raises:
        RuntimeUnavailable: spaCy is not installed.
    """
    try:
        from spacy.tokens import DocBin
        from spacy.vocab import Vocab
    except ImportError:
        raise RuntimeUnavailable(f"spacy is not installed; {install_command('spacy')}") from None
    vocab, made = Vocab(), DocBin(store_user_data=True)
    for document in documents:
        made.add(_doc(document, vocab))
    yield made.to_bytes()


def _doc(document: Document, vocab: Any) -> Any:
    from spacy.tokens import Doc
    from spacy.util import filter_spans

    words, spaces = _tokens(document)
    doc = Doc(vocab, words, spaces, user_data={"id": document.id})
    found = sorted(document.spans, key=lambda span: (span.start, span.end))
    spans = [doc.char_span(span.start, span.end, span.label or _UNLABELLED) for span in found]
    doc.spans[_SPANS_KEY] = spans
    doc.spans[_SPANS_KEY].attrs["scores"] = [_score(span) for span in found]
    doc.set_ents(filter_spans(spans))
    return doc


def _score(span: Span) -> float | None:
    return None if span.score is None else round(span.score, 4)


def _tokens(document: Document) -> tuple[list[str], list[bool]]:
    """The tokens of a text, which together are the text again, and whether a blank follows each of them."""
    text, words = document.text, document.words
    begins, ends = {span.start for span in document.spans}, {span.end for span in document.spans}
    places = [*(split_words(text) if words is None else words), *((span.start, span.end) for span in document.spans)]
    cuts = sorted({0, len(text), *(place for pair in places for place in pair)})
    tokens: list[str] = []
    spaces: list[bool] = []
    for start, end in pairwise(cuts):
        piece = text[start:end]
        if piece[0] == " " and tokens and not tokens[-1].isspace() and start not in begins and start + 1 not in ends:
            spaces[-1], piece = True, piece[1:]
        if piece:
            tokens.append(piece)
            spaces.append(False)
    return tokens, spaces
