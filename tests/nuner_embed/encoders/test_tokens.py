import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed.documents import Document, Span, join_words, split_words
from nuner_embed.encoders.tokens import make_rows, tokenize
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.tables import TokenTable

ODD = [
    "", " ", "\t", "\r\n", "\x00", "\u200b", "\u200d", "\ufeff", "e\u0301", "😀", "👩\u200d🚀", "🇫🇷", "שלום", "سلام",
    "नमस्ते", "สวัสดี", "東京", "ﬁ", "ß", "İ", "Å", "½", "n\u0303\u0331", "\u2028", "\xa0", "[SEP]", "</s>", "<pad>",
]  # fmt: skip
PIECES = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@settings(max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_offsets_slice_the_original_text(any_tokenizer, texts):
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    table = tokenize(documents, any_tokenizer, "token")
    for i, document in enumerate(documents):
        a, b = table.bounds[i], table.bounds[i + 1]
        for start, end in zip(table.starts[a:b], table.ends[a:b], strict=True):
            assert 0 <= start <= end <= len(document.text)
            piece = document.text[start:end]
            assert piece == piece.strip() or piece.isspace()


@settings(max_examples=60)
@given(texts=st.lists(TEXTS, min_size=1, max_size=4))
def test_words_are_visible_and_get_the_tokens_they_share_characters_with(any_tokenizer, texts):
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    table = tokenize(documents, any_tokenizer, "word")
    rows = make_rows(table, "word", "mean")
    words = [(d, a, b) for d, document in enumerate(documents) for a, b in split_words(document.text)]
    assert len(words) == len(rows.document) + rows.untokenized.sum()
    for d, start, end, first, last in zip(rows.document, rows.start, rows.end, rows.first, rows.last, strict=True):
        assert (d, start, end) in words
        assert not documents[d].text[start:end].isspace()
        assert table.bounds[d] <= first < last <= table.bounds[d + 1]
        assert table.ends[first] > start
        assert table.starts[last - 1] < end


@settings(max_examples=60)
@given(text=TEXTS, data=st.data())
def test_splitting_and_joining_tables_changes_nothing(any_tokenizer, text, data):
    documents = [Document(str(i), text[i:]) for i in range(data.draw(st.integers(1, 5)))]
    whole = tokenize(documents, any_tokenizer, "word")
    cut = data.draw(st.integers(0, len(documents)))
    again = TokenTable.concatenate([whole.slice(0, cut), whole.slice(cut, len(documents))])
    for name in ("ids", "starts", "ends", "bounds"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))
    for name in ("bounds", "start", "end"):
        np.testing.assert_array_equal(getattr(whole.stretches, name), getattr(again.stretches, name))
    assert whole.documents == again.documents


def test_the_first_word_of_a_byte_level_text_keeps_its_first_character(any_tokenizer):
    text, words = join_words(["Zürich", "naïve", "the", "ferry"])
    document = Document("a", text, words=words)
    table = tokenize([document], any_tokenizer, "word")
    rows = make_rows(table, "word", "mean")
    assert [text[a:b] for a, b in zip(rows.start, rows.end, strict=True)] == ["Zürich", "naïve", "the", "ferry"]
    assert table.starts[rows.first].tolist() == rows.start.tolist()
    assert table.ends[rows.last - 1].tolist() == rows.end.tolist()


def test_special_tokens_in_a_text_are_only_text(any_tokenizer):
    specials = {*any_tokenizer.prefix, *any_tokenizer.suffix, any_tokenizer.backend.token_to_id("[PAD]")}
    table = tokenize([Document("a", "[CLS] <s> </s> [SEP] <pad> [PAD]")], any_tokenizer, "token")
    assert not specials & set(table.ids.tolist())


def test_a_blank_piece_before_a_word_is_none_of_it(any_tokenizer):
    """SentencePiece writes a word that it has no whole piece for as "▁" and the rest."""
    text = "東京 東京 x 東京"
    table = tokenize([Document("a", text)], any_tokenizer, "word")
    for rows in (make_rows(table, "word", "first"), make_rows(table, "word", "mean")):
        pieces = [any_tokenizer.backend.id_to_token(int(table.ids[i])) for i in rows.first]
        assert not {"▁", "Ġ"} & set(pieces)
        assert len({table.ids[i] for i in rows.first[[0, 1, 3]]}) <= 2  # BPE pieces differ after a blank


def test_a_special_token_spelt_out_of_unknown_characters_is_text(any_tokenizer):
    text = "</s>"
    definition = json.loads(json.dumps(any_tokenizer.definition))
    if definition["model"]["type"] == "Unigram":
        definition["model"]["vocab"] = [
            [piece if piece not in set("</s>") else piece * 9, score] for piece, score in definition["model"]["vocab"]
        ]
    tokenizer = TextTokenizer.from_definition(definition)
    table = tokenize([Document("a", text)], tokenizer, "token")
    assert not {*tokenizer.prefix, *tokenizer.suffix} & set(table.ids.tolist())


def test_mentions_are_the_given_spans(any_tokenizer):
    text = "the ferry left at seven"
    document = Document("a", text, spans=(Span(4, 14, "x"), Span(4, 9, "y")))
    rows = make_rows(tokenize([document], any_tokenizer, "mention"), "mention", "first")
    assert rows.start.tolist() == [4, 4]
    assert rows.end.tolist() == [14, 9]
    assert rows.index.tolist() == [0, 1]
    assert rows.last[0] > rows.last[1]  # a mention is pooled over all its tokens, whatever words do


def test_pooling_takes_the_first_or_the_last_piece(any_tokenizer):
    table = tokenize([Document("a", "prescribed Volkova")], any_tokenizer, "word")
    whole = make_rows(table, "word", "mean")
    first, last = make_rows(table, "word", "first"), make_rows(table, "word", "last")
    assert first.first.tolist() == whole.first.tolist()
    assert (first.last - first.first).tolist() == [1, 1]
    assert last.last.tolist() == whole.last.tolist()
    assert (last.last - last.first).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("well-known O'Neill's v2.0", ["well-known", "O", "'", "Neill", "'", "s", "v2", ".", "0"]),
        ("नमस्ते, cafe\u0301!", ["नमस्ते", ",", "cafe\u0301", "!"]),
        ("a\x00b\u200bc", ["a", "\x00", "b", "\u200b", "c"]),
        (" \t\r\n", []),
    ],
)
def test_words_of_a_plain_text(text, words):
    assert [text[a:b] for a, b in split_words(text)] == words
