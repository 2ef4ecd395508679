"""The key, the bounds of all requests, a model that loads, and what is counted."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from fakes import HashRuntime, hash_encoder
from gated import Gated, wait_until
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from nuner_embed.errors import ModelError, OutOfMemory
from nuner_embed.serving.app import Loader, create_app
from nuner_embed.serving.contracts import Bounds, Served
from nuner_embed.serving.shared_runtime import ComputeThread

ASK = {"model": "tiny", "input": "the ferry left at seven"}
KEY = "sk-0123456789-of-a-test"
JSON = {"Content-Type": "application/json"}


def metrics(client, **headers):
    text = client.get("/metrics", headers=headers).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_without_the_key_nothing_is_answered(encoder, start, error_of, caplog):
    client = start(encoder, key=KEY)
    for headers in ({}, {"Authorization": KEY}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": "Bearer "},
                    {"Authorization": f"Basic {KEY}"}, {"Authorization": b"Bearer \xff"}):  # fmt: skip
        for path in ("/v1/embeddings", "/embed_all", "/search", "/predict", "/nothing"):
            answer = client.post(path, json=ASK, headers=headers)
            assert "Authorization: Bearer KEY" in error_of(answer, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert KEY not in answer.text
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/v1/models", headers=headers).status_code == 401
    with_key = {"Authorization": f"Bearer {KEY}"}
    assert client.post("/v1/embeddings", json=ASK, headers=with_key).status_code == 200
    assert client.get("/metrics", headers=with_key).status_code == 200
    for path in ("/", "/health", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 200
    assert KEY not in caplog.text


def test_while_the_model_loads(encoder, error_of):
    go, done = threading.Event(), threading.Event()

    def load():
        assert go.wait(30)
        return Served("tiny", encoder, "none", {}, {})

    with TestClient(create_app(Loader(load, lambda _: done.set()))) as client:
        for answer in (client.get("/health"), client.post("/v1/embeddings", json=ASK), client.get("/v1/models")):
            assert "still loading" in error_of(answer, 503)
            assert answer.headers["Retry-After"] == "5"
        assert client.get("/").json() == {"name": "nuner-embed", "docs": "/docs"}
        assert client.get("/metrics").status_code == 200
        go.set()
        assert done.wait(30)
        assert client.get("/health").json() == {"status": "ok"}
        assert client.post("/v1/embeddings", json=ASK).status_code == 200


def test_a_model_that_cannot_be_loaded(error_of):
    done = threading.Event()

    def load():
        raise ModelError("/home/somebody/model is no model")

    loader = Loader(load, lambda _: done.set())
    with TestClient(create_app(loader)) as client:
        assert done.wait(30)
        assert "somebody" not in error_of(client.get("/health"), 503)
    assert isinstance(loader.error, ModelError)


def test_bodies(encoder, start, error_of):
    client = start(encoder, bounds=Bounds(body_bytes=1000))
    assert "has more than 1,000 bytes" in error_of(client.post("/embed_all", json={"inputs": "a" * 1000}), 413)

    def parts():
        for _ in range(200):
            yield b"a" * 100

    assert "has more than 1,000 bytes" in error_of(client.post("/embed_all", content=parts(), headers=JSON), 413)
    for body in (b"", b"{", b"\xff\xfe", b"[" * 900, b"nothing"):
        assert "is no JSON" in error_of(client.post("/embed_all", content=body, headers=JSON), 400)
    for body in (b"[]", b'"a"', b"7"):
        assert "send a JSON object" in error_of(client.post("/embed_all", content=body, headers=JSON), 422)
    answer = client.post("/embed_all", content=b'{"inputs": "at"}', headers={"Content-Type": "text/plain"})
    assert "Content-Type: application/json" in error_of(answer, 422)
    assert "inputs: the field is missing" in error_of(client.post("/embed_all", json={}), 422)
    assert "there is no /embed here" in error_of(client.post("/embed", json={"inputs": "at"}), 404)
    assert "does not take GET" in error_of(client.get("/embed_all"), 405)
    assert client.post("/embed_all", json={"inputs": "at"}).status_code == 200


def test_a_body_that_breaks_off_is_not_computed(encoder, start):
    client = start(encoder)
    messages = [{"type": "http.request", "body": b'{"inputs": "at"}', "more_body": True}, {"type": "http.disconnect"}]
    path, sent = "/embed_all", []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"99")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    anyio.run(client.app, scope, receive, send)
    assert sent == []
    counted = metrics(client)
    assert counted[("nuner_embed_requests_total", "none", "499")] == 1
    assert counted[("nuner_embed_requests_in_flight",)] == 0
    assert counted[("nuner_embed_tokens_total",)] == 0


def test_more_requests_than_may_wait(start, error_of):
    runtime = Gated()
    client = start(hash_encoder(runtime=runtime), bounds=Bounds(requests=3))
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(client.post, "/v1/embeddings", json=ASK) for _ in range(3)]
        wait_until(lambda: metrics(client)[("nuner_embed_requests_in_flight",)] == 3)
        refused = client.post("/v1/embeddings", json=ASK)
        assert "answers 3 requests already" in error_of(refused, 429)
        assert int(refused.headers["Retry-After"]) >= 1
        assert client.get("/health").status_code == 200
        runtime.gate.set()
        assert [answer.result().status_code for answer in answers] == [200] * 3
    assert client.post("/v1/embeddings", json=ASK).status_code == 200
    counted = metrics(client)
    assert counted[("nuner_embed_requests_total", "/v1/embeddings", "200")] == 4
    assert counted[("nuner_embed_requests_total", "none", "429")] == 1
    assert counted[("nuner_embed_requests_in_flight",)] == 0
    assert counted[("nuner_embed_tokens_total",)] == 4 * 7
    assert counted[("nuner_embed_run_requests_sum",)] == 4
    assert counted[("nuner_embed_request_seconds_count", "/v1/embeddings")] == 4


def test_memory_that_runs_out(start, error_of):
    class NoMemory(Gated):
        def states(self, input_ids, attention_mask):
            raise OutOfMemory("no memory")

    assert "does not fit into memory" in error_of(
        start(hash_encoder(runtime=NoMemory())).post("/v1/embeddings", json=ASK), 503
    )


def test_a_fault_is_one_line_that_repeats_nothing(start, error_of, caplog):
    class Broken(HashRuntime):
        def states(self, input_ids, attention_mask):
            raise KeyError("a secret of the client")

    client = start(hash_encoder(runtime=Broken()))
    logging.getLogger("nuner_embed").propagate = True
    with caplog.at_level(logging.INFO, "nuner_embed"):
        said = error_of(client.post("/v1/embeddings", json=ASK), 500)
    assert "KeyError" in said
    assert [record.getMessage().count("\n") for record in caplog.records] == [0]
    assert "secret" not in caplog.text + said
    assert client.get("/health").status_code == 200


def test_the_description_of_the_interface(encoder, start):
    described = start(encoder).get("/openapi.json").json()
    assert set(described["paths"]) == {"/health", "/v1/models", "/v1/embeddings", "/embed_all", "/search", "/predict"}
    assert "not" in described["components"]["schemas"]["SearchRequest"]["properties"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    wait_until(lambda: not [one for one in threading.enumerate() if one.name.startswith("nuner-embed ")])


def test_a_closed_thread_answers_nothing(encoder):
    compute = ComputeThread()
    compute.close()
    assert not [one for one in threading.enumerate() if one.name.startswith("nuner-embed ")]


def test_a_fault_of_our_own_is_one_line_for_the_client_and_in_the_log(start, error_of, caplog):
    class Broken(HashRuntime):
        def rows(self, *given):
            raise AssertionError("the secret text of a client")

    client = start(hash_encoder(runtime=Broken()))
    with caplog.at_level(logging.ERROR, logger="nuner_embed.serving"):
        answer = client.post("/embed_all%0a", content=b'{"inputs": "at"}', headers={"Content-Type": "application/json"})
    assert "a fault of nuner-embed itself: AssertionError" in error_of(answer, 500)
    (line,) = caplog.messages
    assert line.isprintable()
    assert "secret" not in line + answer.text
