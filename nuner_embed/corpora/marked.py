"""Queries: a text in which one mention is marked."""

from nuner_embed.arguments import Texts, as_documents
from nuner_embed.corpora.txt import unmark
from nuner_embed.documents import Document, Span, is_text
from nuner_embed.errors import IndexBundleError


def marked_document(query: str, id_: str = "query") -> Document:
    """The document of a text whose mention stands in double brackets; without brackets, the whole text is the mention.

    Raises:
        IndexBundleError: not exactly one mention is marked, or the query is no text.
    """
    if not is_text(query):
        raise IndexBundleError(f"query {query[:60]!r} holds a lone surrogate, which is not text")
    try:
        text, spans = unmark(query, labelled=False)
    except ValueError:
        spans = ()
    mention = query.strip()
    if mention and not spans and "[[" not in query and "]]" not in query:
        start = query.index(mention)
        text, spans = query, (Span(start, start + len(mention)),)
    if len(spans) != 1:
        raise IndexBundleError(
            f"query {query!r}: mark one mention with double brackets, as in 'He signed for the [[Falcons]] in 2018.'; "
            "without brackets the whole text is the mention"
        )
    return Document(id_, text, spans=spans)


def as_marked_documents(texts: Texts) -> list[Document]:
    """Documents unchanged, and texts as documents whose span is the marked mention; see `marked_document`."""
    return as_documents(texts, lambda identity, text: marked_document(text, identity))
