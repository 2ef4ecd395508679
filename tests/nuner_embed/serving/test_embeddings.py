"""POST /v1/embeddings: what OpenAI's own client reads, and what `Encoder` computes."""

import base64

import numpy as np
import openai
import pytest

from nuner_embed.documents import Document, Span
from nuner_embed.serving.contracts import Bounds

TEXT = "the ferry left at seven"
LONG = "the ferry left Zürich at seven. " * 12


def client_of(http):
    return openai.OpenAI(api_key="none", base_url="http://testserver/v1", http_client=http, max_retries=0)


def vectors_of(answer):
    return np.array([one.embedding for one in answer.data], np.float32)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_the_client_of_openai(encoder, start, options):
    client = client_of(start(encoder))
    answer = client.embeddings.create(model="tiny", input=[TEXT, "Zürich"], **options)
    expected = [one.vectors.mean(axis=0) for one in encoder.encode([TEXT, "Zürich"])]
    np.testing.assert_allclose(vectors_of(answer), expected, rtol=1e-6)
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 6
    assert answer.model == "tiny"


def test_base64_has_the_bytes_of_the_numbers(encoder, start):
    client = start(encoder)
    asked = {"model": "tiny", "input": TEXT}
    numbers = client.post("/v1/embeddings", json=asked).json()["data"][0]["embedding"]
    coded = client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"}).json()["data"][0]["embedding"]
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.array(numbers, np.float32))


def test_a_text_is_embedded_as_a_mention_that_covers_it_to_the_bit(encoder, start):
    document = Document("0", TEXT, spans=(Span(0, len(TEXT)),))
    expected = encoder.encode_rows(encoder.tokenize([document], "mention"), "mention").vectors
    answer = client_of(start(encoder)).embeddings.create(model="tiny", input=TEXT)
    assert np.array_equal(vectors_of(answer), expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_long_and_short_texts_in_one_request(encoder, start, normalize):
    texts = [TEXT, LONG, "at", LONG + TEXT]
    tokens = [one.vectors for one in encoder.encode(texts)]
    assert len(tokens[1]) > encoder.capacity
    expected = np.array([one.mean(axis=0) for one in tokens])
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    answer = client_of(start(encoder)).embeddings.create(model="tiny", input=texts, extra_body={"normalize": normalize})
    np.testing.assert_allclose(vectors_of(answer), expected, rtol=1e-5)


def test_mentions(encoder, start):
    documents = [
        Document("0", TEXT, spans=(Span(4, 9),)),
        Document("1", "Zürich", spans=(Span(0, 6),)),
        Document("2", "[[at]] seven", spans=(Span(7, 12),)),
    ]
    expected = encoder.encode_rows(encoder.tokenize(documents, "mention"), "mention").vectors
    marked = ["the [[ferry]] left at seven", "Zürich", {"text": "[[at]] seven", "start": 7, "end": 12}]
    answer = client_of(start(encoder)).embeddings.create(model="tiny", input=marked, extra_body={"rows": "mention"})
    assert np.array_equal(vectors_of(answer), expected)


def test_brackets_of_a_text_are_part_of_it(encoder, start):
    text = "the [[ferry]] left [[ at"
    answer = client_of(start(encoder)).embeddings.create(model="tiny", input=text)
    np.testing.assert_allclose(vectors_of(answer)[0], encoder.encode(text)[0].vectors.mean(axis=0), rtol=1e-6)


def test_the_model_is_listed_and_any_other_is_refused(encoder, start):
    client = client_of(start(encoder))
    (listed,) = client.models.list().data
    assert listed.id == "tiny"
    with pytest.raises(openai.NotFoundError, match="has the model 'tiny', not 'text-embedding-3-small'"):
        client.embeddings.create(model="text-embedding-3-small", input=TEXT)


@pytest.mark.parametrize(
    ("change", "status", "line"),
    [
        ({"input": ""}, 422, "input, text 0: the text is empty"),
        ({"input": []}, 422, "input: give at least one text"),
        ({"input": ["at", "\u200b \n"]}, 422, "input, text 1: there is no token in"),
        ({"input": [1, 2, 3]}, 422, "input: "),
        ({"input": [[1, 2], [3]]}, 422, "input: "),
        ({"input": {"text": "a"}}, 422, "input: "),
        ({"input": None}, 422, "input: "),
        ({"input": ["at"] * 10_000}, 422, "input: 10,000 texts, and a request has at most 2,048"),
        ({"input": ["at " * 30_000] * 3}, 413, "90,000 tokens, and a request has at most 65,536"),
        ({"input": "a [[b", "rows": "mention"}, 422, "mark one mention with double brackets"),
        ({"input": "[[a]] [[b]]", "rows": "mention"}, 422, "mark one mention with double brackets"),
        ({"input": [{"text": "a", "start": 0, "end": 2}], "rows": "mention"}, 422, "input, text 0: span [0, 2)"),
        ({"input": [{"text": "a", "start": 0, "end": 1}]}, 422, "goes with rows = mention"),
        ({"dimensions": 9}, 422, "dimensions: the vectors of tiny have 8 numbers"),
        ({"encoding_format": "hex"}, 422, "encoding_format: "),
        ({"normalise": True}, 422, "normalise: there is no such field"),
        ({"rows": "word"}, 422, "rows: "),
    ],
)  # fmt: skip
def test_bad_input(encoder, start, error_of, change, status, line):
    client = start(encoder)
    assert line in error_of(client.post("/v1/embeddings", json={"model": "tiny", "input": TEXT, **change}), status)
    assert client.post("/v1/embeddings", json={"model": "tiny", "input": TEXT}).status_code == 200


def test_a_lone_surrogate_is_no_text(encoder, start, error_of):
    client = start(encoder)
    answer = client.post(
        "/v1/embeddings",
        content=b'{"model": "tiny", "input": "a \\ud800"}',
        headers={"Content-Type": "application/json"},
    )
    assert "input" in error_of(answer, 422)


def test_the_bounds_are_those_of_the_server(encoder, start, error_of):
    client = start(encoder, bounds=Bounds(texts=2, tokens=10))
    ask = {"model": "tiny", "input": ["at"] * 2}
    assert client.post("/v1/embeddings", json=ask).status_code == 200
    assert "3 texts" in error_of(client.post("/v1/embeddings", json={**ask, "input": ["at"] * 3}), 422)
    assert "11 tokens" in error_of(client.post("/v1/embeddings", json={**ask, "input": "at " * 11}), 413)
