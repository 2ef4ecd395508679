import numpy as np

from nuner_embed.documents import Document, Span, split_words
from nuner_embed.store.shard import _spans_of_rows
from nuner_embed.tables import RowTable

TEXTS = ["red ferry left", "", "Oslo", "a b c d e", "ferry"]


def test_a_word_has_the_first_span_with_which_it_shares_a_character():
    random = np.random.default_rng(0)
    for _ in range(50):
        documents = []
        for number, text in enumerate(TEXTS):
            pairs = [sorted(random.choice(len(text) + 1, 2, replace=False)) for _ in range(3 if text else 0)]
            spans = tuple(Span(int(a), int(b), f"{number}.{i}") for i, (a, b) in enumerate(pairs))
            documents.append(Document(str(number), text, spans=spans[: random.integers(4)]))
        words = [(d, a, b) for d, text in enumerate(TEXTS) for a, b in split_words(text)]
        document, start, end = np.array(words).T
        rows = RowTable(document, start, end, start, start, end, np.zeros(len(TEXTS), np.int64))
        spans, numbers = _spans_of_rows(documents, rows, "word", None)
        found = [None if number is None else spans[number] for number in numbers.to_pylist()]
        assert found == [
            next((span for span in documents[d].spans if span.start < b and span.end > a), None) for d, a, b in words
        ]
