import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder, wordpiece
from hypothesis import given, settings
from hypothesis import strategies as st

from nuner_embed.documents import Document, Span
from nuner_embed.encoders.base import Encoder
from nuner_embed.encoders.tokens import tokenize
from nuner_embed.errors import ModelError, OutOfMemory
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Runtime
from nuner_embed.runtimes.padding import pool

WORDS = ["the", "ferry", "left", "Zürich", "at", "seven", "😀", "prescribed", "Volkova-Reyes", "."]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


def documents_of(texts):
    return [Document(str(i), text) for i, text in enumerate(texts)]


def test_the_protocols_are_met():
    encoder = hash_encoder()
    assert isinstance(encoder, Encoder)
    assert isinstance(encoder.runtime, Runtime)


@settings(max_examples=40)
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), budget=st.integers(1, 300))
def test_results_stand_in_input_order_whatever_the_batches(any_tokenizer, texts, budget):
    encoder = hash_encoder(any_tokenizer, batch_tokens=budget)
    documents = documents_of(texts)
    found = encoder.encode(documents)
    assert [result.document_id for result in found] == [document.id for document in documents]
    table = tokenize(documents, any_tokenizer, "token")
    expected = np.sin(table.ids[:, None].astype(np.int64) * np.arange(1, 9)).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([result.vectors for result in found]), expected)


def test_special_tokens_surround_every_window(any_tokenizer):
    seen = []

    class Watching(HashRuntime):
        def states(self, input_ids, attention_mask):
            seen.extend(row[mask == 1].tolist() for row, mask in zip(input_ids, attention_mask, strict=True))
            return super().states(input_ids, attention_mask)

    encoder = hash_encoder(any_tokenizer, Watching())
    encoder.encode([Document("a", "the ferry left at seven " * 12)])
    assert len(seen) > 1
    prefix, suffix = list(any_tokenizer.prefix), list(any_tokenizer.suffix)
    for row in seen:
        assert row[: len(prefix)] == prefix
        assert row[-len(suffix) :] == suffix
        assert len(row) <= 32


def test_a_text_that_fits_is_one_window_and_a_longer_one_agrees_where_context_does_not_matter():
    encoder = hash_encoder(max_length=32)
    text = "the ferry left at seven " * 12
    (windowed,) = encoder.encode([Document("a", text)])
    (whole,) = hash_encoder(max_length=400, stride=100).encode([Document("a", text)])
    assert encoder.capacity < len(whole.vectors)
    np.testing.assert_array_equal(windowed.vectors, whole.vectors)
    np.testing.assert_array_equal(windowed.offsets, whole.offsets)


def test_a_mention_takes_all_its_tokens_from_one_window():
    text = "the ferry left at seven " * 20
    spans = tuple(Span(i, min(i + 37, len(text)), "x") for i in range(0, len(text) - 1, 7))
    table = tokenize([Document("a", text, spans=spans)], hash_encoder().tokenizer, "mention")
    runtime = HashRuntime(positional=True)
    encoder = hash_encoder(runtime=runtime)
    embedded = encoder.encode_rows(table, "mention")
    placed = embedded.placement
    # the first number is the mean of positions, which are consecutive only within one window
    middle = (placed.first + placed.last - 1) / 2 + len(encoder.tokenizer.prefix)
    np.testing.assert_allclose(embedded.vectors[:, 0], middle, rtol=1e-6)


def test_windows_without_rows_are_not_run():
    runtime = HashRuntime()
    encoder = hash_encoder(runtime=runtime)
    text = "the ferry left at seven " * 40
    table = tokenize([Document("a", text, spans=(Span(0, 3, "x"),))], encoder.tokenizer, "mention")
    embedded = encoder.encode_rows(table, "mention")
    assert embedded.placement.counts[0] > 5
    assert [shape[0] for shape in runtime.batches] == [1]


def test_truncation_drops_and_counts_what_is_beyond():
    encoder = hash_encoder()
    text = "seven " * 50
    table = tokenize([Document("a", text), Document("b", "seven")], encoder.tokenizer, "word")
    embedded = encoder.encode_rows(table, "word", "truncate")
    kept = int((embedded.rows.document == 0).sum())
    assert embedded.dropped_rows.tolist() == [50 - kept, 0]
    assert embedded.dropped_tokens.tolist() == [len(table.ids) - table.counts[1] - encoder.capacity, 0]
    assert embedded.placement.counts.tolist() == [1, 1]


def test_batches_are_sorted_by_length_and_hold_the_budget():
    runtime = HashRuntime()
    encoder = hash_encoder(runtime=runtime, batch_tokens=40)
    encoder.encode(documents_of(["seven " * n for n in (1, 9, 2, 8, 1, 3, 5, 4, 9, 1)]))
    widths = [width for _, width in runtime.batches]
    assert widths == sorted(widths, reverse=True)
    assert all(rows * width <= 40 for rows, width in runtime.batches)
    assert len(runtime.batches) > 2


@pytest.mark.parametrize("memory", [None, 100, 60])
def test_streams_change_nothing(memory):
    """Batches that run side by side end in the same rows, also where memory runs out among them."""
    table = tokenize(
        [Document(str(i), "the ferry left at seven " * (1 + i % 9)) for i in range(40)], wordpiece(), "word"
    )
    results = []
    for streams in (1, 2, 5):
        counted = []
        encoder = hash_encoder(runtime=HashRuntime(memory=memory, streams=streams, positional=True, seconds=0.0005))
        results.append((encoder.encode_rows(table, "word", on_batch=counted.append), counted))
    (first, expected), *others = results
    assert first.statistics.reduced == (memory is not None)
    for result, counted in others:
        np.testing.assert_array_equal(result.vectors, first.vectors)
        assert result.statistics == first.statistics
        assert counted == expected


def test_when_memory_runs_out_the_budget_halves_and_nothing_is_lost():
    texts = ["the ferry left at seven " * n for n in range(1, 9)]
    plenty = hash_encoder(batch_tokens=4096).encode(documents_of(texts))
    runtime = HashRuntime(memory=100)
    scarce = hash_encoder(runtime=runtime, batch_tokens=4096)
    table = tokenize(documents_of(texts), scarce.tokenizer, "token")
    embedded = scarce.encode_rows(table, "token")
    np.testing.assert_array_equal(embedded.vectors, np.concatenate([result.vectors for result in plenty]))
    assert embedded.statistics.reduced
    assert embedded.statistics.batch_tokens <= 100
    assert scarce.batch_tokens == 4096


def test_a_window_that_never_fits_is_said_so():
    encoder = hash_encoder(runtime=HashRuntime(memory=4))
    with pytest.raises(OutOfMemory, match="one window of 7 tokens does not fit .* smaller --max-length"):
        encoder.encode([Document("a", "the ferry left at seven")])


@pytest.mark.parametrize("normalize", [False, True])
def test_rows_in_float16_are_those_in_float32_cast(normalize):
    encoder = hash_encoder(batch_tokens=40, normalize=normalize)
    table = tokenize(documents_of(["the ferry left", "", "at seven " * 30, "Zürich"]), encoder.tokenizer, "word")
    exact, half = (encoder.encode_rows(table, "word", dtype=dtype).vectors for dtype in ("float32", "float16"))
    assert (exact.dtype, half.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(half, exact.astype(np.float16))


def test_normalized_rows_have_unit_length():
    (result,) = hash_encoder(normalize=True).encode([Document("a", "the ferry left")])
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, rtol=1e-6)


def test_a_stride_beyond_half_of_what_special_tokens_leave_is_refused():
    # 6 tokens less two special ones hold 4: a stride of 2 is half of it
    assert hash_encoder(max_length=6, stride=2).capacity == 4
    crowded = TextTokenizer(wordpiece().backend, (2, 2), (3,), {})
    with pytest.raises(ModelError, match="stride"):
        hash_encoder(crowded, max_length=6, stride=2)


def test_the_semantic_hash_follows_the_recipe_and_not_the_runtime():
    assert hash_encoder(pooling="mean").semantic_hash != hash_encoder().semantic_hash
    assert hash_encoder(batch_tokens=8).semantic_hash == hash_encoder().semantic_hash
    assert hash_encoder(batch_tokens=8).numeric_hash != hash_encoder().numeric_hash


@given(st.data())
def test_pooling_is_the_mean(data):
    states = np.random.default_rng(0).normal(size=(3, 9, 4)).astype(np.float32)
    rows = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8), st.integers(1, 9)), max_size=8))
    rows = [(w, a, max(b, a + 1)) for w, a, b in rows]
    window, first, last = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    pooled = pool(states, window, first, last)
    assert pooled.shape == (len(rows), 4)
    for vector, (w, a, b) in zip(pooled, rows, strict=True):
        np.testing.assert_allclose(vector, states[w, a:b].mean(axis=0), rtol=1e-5, atol=1e-6)
