"""Word embeddings are computed once, and are those that the encoder gives."""

import sqlite3

import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder

from nuner_embed.documents import Document, join_words
from nuner_embed.errors import ProbeError
from nuner_embed.heads import features as module
from nuner_embed.heads.features import FeatureCache, embed_words

TEXTS = ["the ferry left", "Zürich", "", "at seven the ferry left the ferry", "\u200d!", "the " * 60]


def documents(texts=TEXTS):
    return [Document(str(i), text) for i, text in enumerate(texts)]


def test_they_are_what_the_encoder_gives(tmp_path):
    encoder = hash_encoder(runtime=HashRuntime(positional=True))
    kept, direct = FeatureCache(tmp_path, encoder).features(documents()), embed_words(encoder, documents())
    for name in ("bounds", "start", "end", "vectors"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(direct, name))
    assert kept.bounds[-1] == len(kept.vectors)
    assert len(kept.words(5)) == 60  # beyond one window
    texts = [TEXTS[3][start:end] for start, end in kept.words(3)]
    assert texts == TEXTS[3].split()


def test_the_same_texts_again_are_not_encoded_again(tmp_path):
    first = FeatureCache(tmp_path, hash_encoder())
    found = first.features(documents())
    assert first.encoded == len(TEXTS)
    second = FeatureCache(tmp_path, hash_encoder())
    some = [Document("other id", TEXTS[3]), Document("new", "a new text"), *documents(TEXTS[:1] * 3)]
    again = second.features(some)
    assert second.encoded == 1
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".sqlite"]
    np.testing.assert_array_equal(again.vectors[:7], found.vectors[found.bounds[3] : found.bounds[4]])


def test_other_words_of_the_same_text_are_other_features(tmp_path):
    cache = FeatureCache(tmp_path, hash_encoder())
    text, words = join_words(["the ferry", "left"])
    found = cache.features([Document("a", text, words), Document("b", text)])
    assert np.diff(found.bounds).tolist() == [2, 3]


def test_another_encoder_has_another_file(tmp_path):
    for encoder in (hash_encoder(), hash_encoder(pooling="last"), hash_encoder(batch_tokens=64)):
        FeatureCache(tmp_path, encoder).features(documents())
    assert len(list(tmp_path.glob("*.sqlite"))) == 3


def test_what_was_finished_when_it_broke_off_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_CHARACTERS_AT_ONCE", 10)
    cache, calls = FeatureCache(tmp_path, hash_encoder()), []

    def breaks(encoder, documents):
        calls.append(len(documents))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed_words(encoder, documents)

    with monkeypatch.context() as patched:
        patched.setattr(module, "embed_words", breaks)
        with pytest.raises(KeyboardInterrupt):
            cache.features(documents())
    kept = sum(calls[:2])
    again = FeatureCache(tmp_path, hash_encoder())
    again.features(documents())
    assert again.encoded == len(TEXTS) - kept > 0


def test_progress_ends_at_the_end(tmp_path):
    seen = []
    FeatureCache(tmp_path, hash_encoder()).features(documents(), lambda *progress: seen.append(progress))
    assert seen[0][1] == 0
    assert seen[-1][1] == seen[-1][2] == sum(map(len, TEXTS))
    seen.clear()
    FeatureCache(tmp_path, hash_encoder()).features(documents(), lambda *progress: seen.append(progress))
    assert not seen


def test_a_file_that_another_process_holds_is_not_called_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.1)
    cache = FeatureCache(tmp_path, hash_encoder())
    cache.features(documents()[:1])
    with sqlite3.connect(cache.path) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ProbeError, match="cannot be used .database is locked.; if another process writes them"):
            cache.features(documents())
    other.close()
    cache.features(documents())


def test_an_error_of_the_encoder_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("of the encoder")

    monkeypatch.setattr(module, "embed_words", fails)
    with pytest.raises(ValueError, match="^of the encoder$"):
        FeatureCache(tmp_path, hash_encoder()).features(documents())


def test_a_row_that_was_cut_is_named_with_the_cure(tmp_path):
    cache = FeatureCache(tmp_path, hash_encoder())
    cache.features(documents())
    with sqlite3.connect(cache.path) as other:
        other.execute("UPDATE texts SET vectors = x'0000'")
    other.close()
    with pytest.raises(ProbeError, match="remove that file"):
        cache.features(documents())


def test_a_damaged_file_is_named_with_the_cure(tmp_path):
    cache = FeatureCache(tmp_path, hash_encoder())
    cache.path.write_bytes(b"no database" * 100)
    with pytest.raises(ProbeError, match="cannot be used .*remove that file: they are computed anew"):
        cache.features(documents())
