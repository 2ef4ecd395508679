"""The texts of requests as documents, within the bounds of the server."""

from collections.abc import Sequence

from nuner_embed.corpora.marked import marked_document
from nuner_embed.corpora.txt import unmark
from nuner_embed.documents import Document, Span
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.limits import SERVED_NUMBERS
from nuner_embed.serving.contracts import Bounds
from nuner_embed.serving.failures import Refused
from nuner_embed.serving.requests import ExampleText, Mention, SearchRequest
from nuner_embed.tables import TokenTable


def as_list(texts: "str | Sequence[str | Mention]", field: str, bounds: Bounds) -> list[str | Mention]:
    """The texts of a field, at least one and not too many.

    Raises:
        Refused: there is none, or there are too many.
    """
    several: list[str | Mention] = [texts] if isinstance(texts, str) else list(texts)
    if not several:
        raise Refused(422, f"{field}: give at least one text")
    if len(several) > bounds.texts:
        raise Refused(
            422, f"{field}: {len(several):,} texts, and a request has at most {bounds.texts:,}; send several requests"
        )
    return several


def plain_document(text: str, number: int, field: str) -> Document:
    """A text as a document whose id is its number.

    Raises:
        Refused: it is no text.
    """
    try:
        return Document(str(number), text)
    except ValueError as error:
        raise Refused(422, f"{field}, text {number}: {error}") from None


def mention_document(given: str | Mention, number: int, field: str) -> Document:
    """A mention in its text as a document with one span.

    Raises:
        Refused: the text has not exactly one mention in double brackets, or the offsets lie outside the text.
    """
    try:
        if isinstance(given, str):
            return marked_document(given, str(number))
        return Document(str(number), given.text, spans=(Span(given.start, given.end),))
    except ValueError as error:
        raise Refused(422, f"{field}, text {number}: {error}") from None


def searched_documents(asked: SearchRequest, bounds: Bounds) -> list[Document]:
    """The documents whose spans are searched for: one for a query, several for examples, none for names.

    Raises:
        Refused: there are too many, or a mention cannot be read.
    """
    if asked.query is not None:
        return [mention_document(asked.query, 0, "query")]
    if asked.like is None:
        return []
    if len(asked.like) > bounds.texts:
        raise Refused(422, f"like: {len(asked.like):,} texts, and a request has at most {bounds.texts:,}")
    documents = [_example(given, number) for number, given in enumerate(asked.like)]
    examples = sum(len(document.spans) for document in documents)
    if examples > bounds.texts:
        raise Refused(422, f"like: {examples:,} examples, and a request has at most {bounds.texts:,}")
    return documents


def _example(given: str | ExampleText, number: int) -> Document:
    try:
        if isinstance(given, str):
            text, spans = unmark(given, labelled=True)
            if not spans:
                raise ValueError("mark its mentions with double brackets, as in 'He signed for the [[Falcons]].'")
            return Document(str(number), text, spans=spans)
        spans = tuple(Span(span.start, span.end, span.label) for span in given.spans)
        return Document(str(number), given.text, spans=spans)
    except ValueError as error:
        raise Refused(422, f"like, text {number}: {error}") from None


def require_tokens(encoder: TextEncoder, documents: Sequence[Document], bounds: Bounds) -> None:
    """Refuses texts with too many tokens.

    Raises:
        Refused: there are too many.
    """
    require_few_tokens(encoder.tokenize(documents, "token"), bounds)


def require_few_tokens(table: TokenTable, bounds: Bounds) -> None:
    """Refuses a table of too many tokens; see `require_tokens`."""
    if len(table.ids) > bounds.tokens:
        raise Refused(
            413,
            f"the texts have {len(table.ids):,} tokens, and a request has at most {bounds.tokens:,}; send fewer or "
            "shorter texts in a request",
        )


def require_few_numbers(rows: int, dim: int) -> None:
    """Refuses a request whose answer would be too large.

    Raises:
        Refused: it would.
    """
    if rows * dim > SERVED_NUMBERS:
        raise Refused(
            413,
            f"the answer would hold {rows:,} vectors of {dim:,} numbers, and an answer holds at most "
            f"{SERVED_NUMBERS:,} numbers; send fewer or shorter texts in a request",
        )
