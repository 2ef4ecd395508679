"""POST /embed_all: token and word vectors with the offsets that `Encoder` gives."""

import base64

import numpy as np
import pytest
from fakes import HashRuntime, byte_level_bpe, hash_encoder

from nuner_embed.documents import Document

TEXTS = ["the ferry left Zürich at seven", "", "東京 👩‍🚀 naïve", "the ferry left at seven. " * 14]


@pytest.mark.parametrize("rows", ["token", "word"])
@pytest.mark.parametrize("truncate", [False, True])
def test_vectors_and_offsets_are_those_of_the_encoder(encoder, start, rows, truncate):
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    expected = encoder.encode_rows(encoder.tokenize(documents, rows), rows, "truncate" if truncate else "window")
    answer = start(encoder).post("/embed_all", json={"inputs": TEXTS, "rows": rows, "truncate": truncate}).json()
    offsets = [offsets for one in answer for offsets in one["offsets"]]
    assert offsets == np.stack([expected.rows.start, expected.rows.end], axis=1).tolist()
    vectors = [vector for one in answer for vector in one["embeddings"]]
    assert np.array_equal(np.array(vectors, np.float32), expected.vectors)
    assert [len(one["embeddings"]) for one in answer] == np.bincount(expected.rows.document, minlength=4).tolist()
    assert answer[1] == {"offsets": [], "embeddings": []}
    if rows == "word":
        start_, end = answer[0]["offsets"][3]
        assert TEXTS[0][start_:end] == "Zürich"


def test_base64_holds_the_vectors_of_a_text_one_after_the_other(start):
    encoder = hash_encoder(byte_level_bpe(), normalize=True)
    client = start(encoder)
    (numbers,) = client.post("/embed_all", json={"inputs": TEXTS[0]}).json()
    (coded,) = client.post("/embed_all", json={"inputs": TEXTS[0], "encoding_format": "base64"}).json()
    vectors = np.frombuffer(base64.b64decode(coded["embeddings"]), "<f4").reshape(-1, encoder.dim)
    assert np.array_equal(vectors, np.array(numbers["embeddings"], np.float32))
    assert coded["offsets"] == numbers["offsets"]


def test_an_answer_that_would_be_too_large(start, error_of):
    wide = hash_encoder(runtime=HashRuntime(dim=1 << 20))
    line = error_of(start(wide).post("/embed_all", json={"inputs": "at seven at seven at"}), 413)
    assert "5 vectors of 1,048,576 numbers" in line


@pytest.mark.parametrize(
    ("change", "status", "line"),
    [
        ({"inputs": []}, 422, "inputs: give at least one text"),
        ({"inputs": [["at"]]}, 422, "inputs: "),
        ({"inputs": "at", "truncate": "yes"}, 422, "truncate: "),
        ({"inputs": "at", "rows": "mention"}, 422, "rows: "),
        ({"inputs": "at", "normalize": True}, 422, "normalize: there is no such field"),
        ({"input": "at"}, 422, "input: there is no such field"),
    ],
)
def test_bad_input(encoder, start, error_of, change, status, line):
    assert line in error_of(start(encoder).post("/embed_all", json=change), status)
