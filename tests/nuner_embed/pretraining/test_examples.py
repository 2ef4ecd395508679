"""From documents to labelled tokens and batches, against loops that do it one by one."""

import numpy as np
import pytest
from fakes import wordpiece
from hypothesis import given
from hypothesis import strategies as st

from nuner_embed.documents import Document, Span, join_words
from nuner_embed.pretraining.data import draw_texts, hold_out, keep_top_concepts, merge_labels
from nuner_embed.pretraining.examples import concepts_of, make_batch, make_examples, plan_epoch, positive_share, tags_of
from nuner_embed.tags import spans_to_tags

WORDS = ["ferry", "Kiel", "the", "left", "seven", "Zürich", "unbelievable", "🙂"]


@st.composite
def documents(draw):
    found = []
    for number in range(draw(st.integers(1, 6))):
        text, words = join_words(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12)))
        spans = []
        for _ in range(draw(st.integers(0, 4))):
            a = draw(st.integers(0, len(words) - 1))
            b = draw(st.integers(a, min(a + 2, len(words) - 1)))
            spans.append(Span(words[a][0], words[b][1], draw(st.sampled_from(["city", "boat", "time", None]))))
        found.append(Document(str(number), text, spans=tuple(spans)))
    return found


def by_hand(documents, tokenizer, max_length):
    """Every piece's ids, and its set of (token, label), token by token."""
    room = max_length - tokenizer.specials
    pieces, lost = [], 0
    for document in documents:
        ((ids, offsets),) = tokenizer.encode([document.text])
        cuts = list(range(0, max(1, len(ids)), room))
        labelled = [set() for _ in cuts]
        for span in document.spans:
            if not span.label:
                continue
            inside = [i for i, (a, b) in enumerate(offsets) if a < span.end and b > span.start and a < b]
            if not inside or inside[0] // room != inside[-1] // room:
                lost += 1
                continue
            labelled[inside[0] // room] |= {(i % room + len(tokenizer.prefix), span.label) for i in inside}
        for cut, found in zip(cuts, labelled, strict=True):
            pieces.append(([*tokenizer.prefix, *ids[cut : cut + room].tolist(), *tokenizer.suffix], found))
    return pieces, lost


@given(documents(), st.sampled_from([5, 7, 32]))
def test_labelled_tokens(documents, max_length):
    tokenizer = wordpiece()
    examples = make_examples(documents, tokenizer, max_length)
    pieces, lost = by_hand(documents, tokenizer, max_length)
    assert len(examples) == len(pieces)
    assert examples.lost == lost
    for number, (ids, labelled) in enumerate(pieces):
        assert examples.tokens(number).tolist() == ids
        ranges = examples.ranges_of(number)
        found = {
            (token, examples.labels[label])
            for first, last, label in zip(
                examples.first[ranges], examples.last[ranges], examples.label[ranges], strict=True
            )
            for token in range(first, last)
        }
        assert found == labelled


@given(documents(), st.randoms())
def test_a_batch_is_the_array_of_section_3_2(documents, random):
    tokenizer = wordpiece()
    examples = make_examples(documents, tokenizer, 32)
    pieces = list(range(len(examples)))
    random.shuffle(pieces)
    pieces = pieces[: max(1, len(pieces) - 1)]
    batch = make_batch(examples, np.array(pieces))
    assert sorted(batch.pieces) == sorted(pieces)
    pieces = batch.pieces.tolist()
    assert sorted(examples.lengths[pieces]) == examples.lengths[pieces].tolist()
    names = [examples.labels[label] for label in batch.labels]
    by_piece, _ = by_hand(documents, tokenizer, 32)
    assert set(names) == {label for piece in pieces for _, label in by_piece[piece][1]}
    longest = max(len(by_piece[piece][0]) for piece in pieces)
    dense = np.zeros((len(pieces), longest, len(names)), bool)
    counts = np.zeros((len(pieces), longest), bool)
    for row, piece in enumerate(pieces):
        ids, labelled = by_piece[piece]
        counts[row, len(tokenizer.prefix) : len(ids) - len(tokenizer.suffix)] = True
        for token, label in labelled:
            dense[row, token, names.index(label)] = True
    assert batch.tokens == counts.sum()
    found = np.zeros((batch.tokens, len(names)), bool)
    found[batch.token, batch.column] = True
    assert (found == dense.reshape(len(pieces) * longest, len(names))[counts.ravel()]).all()
    assert found.sum() == len(batch.token)  # each pair once
    if found.size:
        assert positive_share([make_batch(examples, np.array(pieces))]) == pytest.approx(found.mean())


def test_words_with_tags():
    text, words = join_words(["unbelievable", "ferry", "to", "Kiel"])
    document = Document("1", text, words, (Span(0, words[1][1], "boat"), Span(*words[3], "city")))
    assert [tag for _, _, tag in tags_of(document)] == spans_to_tags(document.spans, words) == [
        "B-boat", "I-boat", "O", "B-city",
    ]  # fmt: skip
    tokenizer = wordpiece()
    examples = make_examples([document], tokenizer, 32, tags_of, first_token_only=True)
    assert (examples.last - examples.first == 1).all()
    ((_, offsets),) = tokenizer.encode([text])
    starts = [int(offsets[first - len(tokenizer.prefix)][0]) for first in examples.first]
    assert starts == [start for start, _ in words]


def many(number):
    """Five of the texts stand there twice."""
    texts = [i % (number - 5) for i in range(number)]
    return [Document(str(i), f"ferry number {n}", spans=(Span(0, 5, f"c{n % 7}"),)) for i, n in enumerate(texts)]


def test_an_epoch_takes_every_piece_once_and_is_another_each_time():
    lengths = np.random.default_rng(0).integers(3, 60, 1000)
    pieces = np.arange(0, 1000, 2)
    first, again, other = (plan_epoch(lengths, pieces, 16, [0, 1, epoch]) for epoch in (0, 0, 1))
    assert sorted(np.concatenate(first).tolist()) == pieces.tolist()
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not all(len(a) == len(b) and (a == b).all() for a, b in zip(first, other, strict=True))
    assert [len(batch) for batch in first].count(16) == 31
    padded = sum(lengths[batch].max() * len(batch) for batch in first)
    assert padded < 1.1 * lengths[pieces].sum()
    mixed = plan_epoch(lengths, pieces, 16, [0, 1, 0], by_length=False)
    assert sorted(np.concatenate(mixed).tolist()) == pieces.tolist()
    assert sum(lengths[batch].max() * len(batch) for batch in mixed) > 1.5 * lengths[pieces].sum()


def test_no_text_stands_in_both_parts():
    examples = make_examples([*many(100), *many(50)], wordpiece(), 32)
    train, held_out = hold_out(examples, 0.1, 3)
    assert sorted([*train, *held_out]) == list(range(150))
    assert not set(examples.text[train].tolist()) & set(examples.text[held_out].tolist())
    assert 8 <= len(set(examples.text[held_out].tolist())) <= 12
    assert (hold_out(examples, 0.1, 3)[1] == held_out).all()
    assert not np.array_equal(hold_out(examples, 0.1, 4)[1], held_out)
    assert len(hold_out(examples, 0.0, 3)[1]) == 0


def test_a_sample_of_texts():
    examples = make_examples(many(100), wordpiece(), 32)
    drawn = draw_texts(examples, 10, 0)
    assert drawn.documents == len(set(drawn.text.tolist())) == 10
    whole = {tuple(examples.tokens(i)): examples.labels[examples.label[examples.ranges_of(i)][0]] for i in range(100)}
    for i in range(len(drawn)):
        (label,) = drawn.label[drawn.ranges_of(i)]
        assert whole[tuple(drawn.tokens(i))] == drawn.labels[label]
    assert len(draw_texts(examples, 1000, 0)) == 100


def test_the_most_frequent_concepts():
    texts = [Document(str(i), "ferry", spans=(Span(0, 5, c),)) for i, c in enumerate("aabbbcd")]
    kept = keep_top_concepts(make_examples(texts, wordpiece(), 32), 3)
    assert kept.labels == ("b", "a", "c")
    assert [kept.labels[label] for label in kept.label] == list("aabbbc")
    assert len(kept) == 7  # the texts stay


def test_names_that_the_encoder_cannot_tell_apart_are_one():
    texts = [Document(str(i), "ferry", spans=(Span(0, 5, c),)) for i, c in enumerate(["Boat", "city", "boat", "Boat"])]
    examples = make_examples(texts, wordpiece(), 32)
    merged = merge_labels(examples, [name.lower() for name in examples.labels])
    assert merged.labels == ("Boat", "city")
    assert [merged.labels[label] for label in merged.label] == ["Boat", "city", "Boat", "Boat"]
    assert merge_labels(examples, examples.labels) is examples


def test_spans_without_a_concept_teach_nothing():
    assert concepts_of(Document("1", "ferry", spans=(Span(0, 5), Span(0, 5, "boat")))) == [(0, 5, "boat")]
