"""Bodies of requests: few errors are made of a body that is wrong throughout, and names are bounded."""

import pytest
from pydantic import ValidationError

from nuner_embed.limits import SERVED_TYPES
from nuner_embed.serving.contracts import Bounds
from nuner_embed.serving.failures import Refused
from nuner_embed.serving.inputs import searched_documents
from nuner_embed.serving.requests import EmbedAllRequest, EmbeddingsRequest, PredictRequest, SearchRequest

MANY = 10_000


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (EmbeddingsRequest, {"model": "m", "input": [1] * MANY}),
        (EmbeddingsRequest, {"model": "m", "input": [{str(i): i for i in range(MANY)}]}),
        (EmbedAllRequest, {"inputs": [None] * MANY}),
        (EmbedAllRequest, {"inputs": "a", **{str(i): i for i in range(MANY)}}),
        (PredictRequest, {"inputs": [1] * MANY}),
        (PredictRequest, {"inputs": "a", "types": [1] * MANY}),
        (PredictRequest, {"inputs": "a", "types": {str(i): 1 for i in range(MANY)}}),
        (PredictRequest, {"inputs": "a", "types": {"LOC": [1] * MANY}}),
        (SearchRequest, {"like": [1] * MANY}),
        (SearchRequest, {"like": [{"text": "a", "spans": [1] * MANY}]}),
        (SearchRequest, {"concept": [1] * MANY}),
        (SearchRequest, {"concept": "a", "not": [1] * MANY}),
    ],
)
def test_a_body_that_is_wrong_throughout_has_few_errors(kind, body):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(body)
    assert 1 <= caught.value.error_count() <= 6


def test_names_of_types_are_bounded():
    names = [f"type {i}" for i in range(SERVED_TYPES + 1)]
    for types in (names[1:], {"A": names[:-2], "B": "one"}, dict.fromkeys(names[1:], "one")):
        assert PredictRequest.model_validate({"inputs": "a", "types": types}).types == types
    for types in (names, {"A": names[:-1], "B": "one"}, dict.fromkeys(names, "one")):
        with pytest.raises(ValidationError, match="257 names of types, and a request has at most 256"):
            PredictRequest.model_validate({"inputs": "a", "types": types})
    assert SearchRequest.model_validate({"concept": names[:-2], "not": "one"}).concept == names[:-2]
    for body in ({"concept": names}, {"concept": names[:-1], "not": "one"}, {"concept": "one", "not": names[:-1]}):
        with pytest.raises(ValidationError, match="257 names of types, and a request has at most 256"):
            SearchRequest.model_validate(body)


def test_examples_of_a_search_are_bounded():
    """In all texts together, however they are marked."""
    spans = [{"start": 0, "end": 1}] * 3
    bounds = Bounds(texts=4)

    def documents(*texts):
        return searched_documents(SearchRequest.model_validate({"like": list(texts)}), bounds)

    assert [len(one.spans) for one in documents({"text": "a", "spans": spans}, "[[b]]")] == [3, 1]
    with pytest.raises(Refused, match="like: 5 examples, and a request has at most 4"):
        documents({"text": "a", "spans": spans}, "[[b]] or [[c]]")
