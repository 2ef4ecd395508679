"""`nuner-embed serve`: what its addresses answer is what the other commands print."""

import contextlib
import json
import socket
import threading

import numpy as np
import pytest
from command import run
from fakes import tiny_model
from starlette.testclient import TestClient

import nuner_embed
from nuner_embed.cli.serve import _named, _spec
from nuner_embed.cli.served_index import ServedIndex
from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.errors import ProbeError, StoreMismatch
from nuner_embed.heads.io import open_head
from nuner_embed.indexes import Index
from nuner_embed.serving.app import Loader, create_app
from nuner_embed.serving.http_server import Address
from nuner_embed.serving.loading import Order, name_of
from nuner_embed.serving.shared_runtime import ComputeThread


@contextlib.contextmanager
def serving(model, *, heads=(), indexes=()):
    """A client of a server in this process."""
    compute, done = ComputeThread(), threading.Event()
    opened = {path.name: Index.open(path) for path in indexes}
    order = Order(
        ModelSpec(str(model)),
        {path.name: open_head(path) for path in heads},
        {name: lambda encoders, index=index: ServedIndex.fit(index, encoders) for name, index in opened.items()},
    )
    loader = Loader(lambda: order.load(compute), lambda _: done.set())
    try:
        with TestClient(create_app(loader)) as client:
            assert done.wait(120)
            if loader.error:
                raise loader.error
            yield client
    finally:
        compute.close()


@pytest.fixture(scope="module")
def client(workshop):
    with serving(workshop / "m", heads=[workshop / "p"], indexes=[workshop / "index"]) as client:
        yield client


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert message.isprintable()
    return message


def same_hits(found, printed):
    assert len(found) == len(printed["hits"]) > 0
    for one, other in zip(found, printed["hits"], strict=True):
        assert one["score"] == pytest.approx(other.pop("score"), abs=1e-5)
        assert {name: one[name] for name in other} == other


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ({"query": "a [[ferry]] left", "k": 2}, ["a [[ferry]] left", "-k", 2]),
        ({"query": {"text": "a ferry left", "start": 2, "end": 7}}, ["a [[ferry]] left"]),
        ({"query": "ferry", "filter": "label = 'city'"}, ["ferry", "--filter", "label = 'city'"]),
        ({"query": "ferry", "unique": "surface", "context": 3}, ["ferry", "--unique", "surface", "--context", 3]),
        ({"query": "The ferry left [[Zürich]] at seven.", "exclude_document": True},
         ["The ferry left [[Zürich]] at seven.", "--exclude-document"]),
        ({"query": "ferry", "min_score": -1}, ["ferry", "--min-score", -1]),
        ({"like": ["a [[ferry]] left [[Kiel|-]]", "a [[raft]]"]}, ["--like", "like.jsonl"]),
        ({"like": [{"text": "a ferry left Kiel", "spans": [{"start": 2, "end": 7}, {"start": 13, "end": 17,
          "label": "-"}]}, "a [[raft]]"]}, ["--like", "like.jsonl"]),
        ({"concept": "boat"}, ["--concept", "boat"]),
        ({"concept": ["boat", "ship"], "not": "city", "k": 1},
         ["--concept", "boat", "--concept", "ship", "--not", "city", "-k", 1]),
    ],
)  # fmt: skip
def test_search_finds_what_the_command_finds(client, workshop, tmp_path, body, arguments):
    spans = [{"start": 2, "end": 7, "label": "x"}, {"start": 13, "end": 17, "label": "-"}]
    lines = ({"text": "a ferry left Kiel", "spans": spans}, {"text": "a raft", "spans": [{"start": 2, "end": 6}]})
    (tmp_path / "like.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = run("search", workshop / "index", *arguments, "--json", cwd=tmp_path, check=0).stdout
    same_hits(client.post("/search", json={"index": "index", **body}).json()["hits"], json.loads(printed))


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ({"query": "ferry", "index": "other"}, 404, "index: there is no 'other' here, only: index"),
        ({}, 422, "give one of query, like and concept"),
        ({"query": "a", "concept": "b"}, 422, "give one of query, like and concept"),
        ({"query": "a", "not": "b"}, 422, "not goes with concept"),
        ({"query": "a [[b"}, 422, "mark one mention with double brackets"),
        ({"query": ""}, 422, "mark one mention"),
        ({"query": {"text": "a", "start": 3, "end": 4}}, 422, "span [3, 4)"),
        ({"like": []}, 422, "like: "),
        ({"like": ["nothing is marked"]}, 422, "like, text 0: mark its mentions"),
        ({"like": ["[[a|-]]"]}, 422, "hold no span to look for"),
        ({"concept": " "}, 422, "concept: "),
        ({"concept": []}, 422, "concept: "),
        ({"query": "a", "k": 0}, 422, "k: "),
        ({"query": "a", "k": 1001}, 422, "k: "),
        ({"query": "a", "filter": "color = 'red'"}, 422, "filter"),
        ({"query": "a", "filter": "read_text('/etc/passwd') = ''"}, 422, "filter"),
        ({"query": "a", "min_score": "NaN"}, 422, "min_score: "),
        ({"query": "at " * 70_000}, 413, "70,000 tokens"),
    ],
)
def test_bad_searches(client, body, status, line):
    assert line in error_of(client.post("/search", json=body), status)


def test_predict_finds_what_the_commands_find(client, workshop):
    texts = ["the ferry left Kiel", "", "an old raft in Oslo"]
    head = nuner_embed.Tagger.open(workshop / "p", model=str(workshop / "m"))
    named = nuner_embed.named_tagger(["boat", "city"], model=str(workshop / "m"), threshold=0.01)
    for body, tagger in (({}, head), ({"head": "p", "threshold": 0.2}, head), ({"types": ["boat", "city"],
                         "threshold": 0.01}, named)):  # fmt: skip
        found = client.post("/predict", json={"inputs": texts, **body}).json()
        expected = tagger.tag(texts, body.get("threshold"))
        assert [[(s["start"], s["end"], s["label"]) for s in one["spans"]] for one in found] == [
            [(s.start, s.end, s.label) for s in document.spans] for document in expected
        ]
        assert found[1] == {"spans": []}
        assert [s["text"] for s in found[0]["spans"]] == [texts[0][s["start"] : s["end"]] for s in found[0]["spans"]]
        for one, document in zip(found, expected, strict=True):
            np.testing.assert_allclose([s["score"] for s in one["spans"]], [s.score for s in document.spans], atol=1e-5)
    assert any(one["spans"] for one in client.post("/predict", json={"inputs": texts}).json())


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ({"head": "q"}, 404, "head: there is no 'q' here, only: p"),
        ({"head": "p", "types": ["a"]}, 422, "give head or types, not both"),
        ({"types": []}, 422, "types: "),
        ({"types": ["a", "a"]}, 422, "types: types are one or more different names"),
        ({"types": [""]}, 422, "types: "),
        ({"types": ["O"]}, 422, 'cannot be called "O"'),
        ({"types": ["boat"], "nested": True}, 422, "nested mentions take a span head"),
        ({"nested": True}, 422, "nested goes with types"),
        ({"threshold": 1}, 422, "threshold: "),
        ({"inputs": ["at"] * 10_000}, 422, "inputs: 10,000 texts"),
        ({"inputs": "at " * 70_000}, 413, "70,000 tokens"),
    ],
)
def test_bad_predictions(client, body, status, line):
    assert line in error_of(client.post("/predict", json={"inputs": "a ferry", **body}), status)


def test_the_listing_names_heads_and_indexes(client):
    (facts,) = client.get("/v1/models").json()["data"]
    assert (facts["id"], facts["dim"], facts["heads"], facts["indexes"]) == (
        "m", 16, {"p": ["boat", "city"]}, ["index"],
    )  # fmt: skip


def test_recipes_of_one_network_are_served_from_one_network(workshop, tmp_path):
    run("encode", workshop / "c.jsonl", "-o", tmp_path / "s", "--model", workshop / "m", "--rows", "word",
        "--normalize", "--pooling", "mean", check=0)  # fmt: skip
    run("index", "build", tmp_path / "s", "-o", tmp_path / "words", check=0)
    with serving(workshop / "m", indexes=[workshop / "index", tmp_path / "words"]) as client:
        assert "index: name one, of: index, words" in error_of(client.post("/search", json={"query": "ferry"}), 422)
        for name in ("index", "words"):
            index = workshop / "index" if name == "index" else tmp_path / "words"
            printed = json.loads(run("search", index, "a [[ferry]]", "--json", check=0).stdout)
            same_hits(client.post("/search", json={"index": name, "query": "a [[ferry]]"}).json()["hits"], printed)


def test_heads_and_indexes_of_another_model(workshop, tmp_path):
    other = tiny_model("bert", tmp_path / "other", seed=7)
    line = "the head p: this head was made for .*; name its model with --model"
    with pytest.raises(ProbeError, match=line), serving(other, heads=[workshop / "p"]):
        pass
    line = "was made with .*; name the model of the index with --model"
    with pytest.raises(StoreMismatch, match=line), serving(other, indexes=[workshop / "index"]):
        pass
    with serving(other) as client:
        assert "has no concept encoder" in error_of(
            client.post("/predict", json={"inputs": "a ferry", "types": ["boat"]}), 422
        )
        assert "none; start the server with --head" in error_of(client.post("/predict", json={"inputs": "a"}), 422)
        assert "none; start the server with --index" in error_of(client.post("/search", json={"query": "a"}), 422)


def test_the_model_is_the_one_of_the_first_index_or_head(workshop):
    index, head = Index.open(workshop / "index"), open_head(workshop / "p")
    for spec in (_spec(None, [index], []), _spec(None, [], [(workshop / "p", head)])):
        assert spec.model == str((workshop / "m").resolve())
        assert spec.semantic_hash == index.bundle.semantic_hash
    assert _spec("x", [index], [(workshop / "p", head)]) == ModelSpec("x")
    assert _spec(None, [], []).model == "nuner-mini"


def test_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    given = [str(path) for _, path in _named("--index", ["a=b", "x=a=b", "deep/down/"])]
    assert given == ["a=b", "a=b", "deep/down"]
    assert [name for name, _ in _named("--index", ["a=b", "x=a=b", "deep/down/", "."])] == [
        "a=b", "x", "down", tmp_path.name,
    ]  # fmt: skip
    assert name_of(str(tmp_path)) == tmp_path.name
    assert name_of("numind/NuNER-v2.0") == "numind/NuNER-v2.0"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--index", "nowhere"], 1, "nowhere"),
        (["--head", "nowhere"], 1, "nowhere holds no probe"),
        (["--index", "index", "--index", "index"], 2, "'index' stands twice; name one of them with --index NAME=index"),
        (["--index", "=index"], 2, "give a directory, or NAME=DIRECTORY"),
        (["--api-key", "a secret"], 2, "is one line of ASCII without blanks"),
        (["--api-key", ""], 2, "is one line of ASCII without blanks"),
        (["--port", "70000"], 2, "70000"),
        (["--host", "no.such.host.invalid"], 1, "no.such.host.invalid"),
    ],
)
def test_what_the_command_refuses(workshop, arguments, code, line):
    done = run("serve", "--model", "m", *arguments, cwd=workshop)
    assert done.returncode == code
    assert line in done.stderr
    assert "a secret" not in done.stderr


def test_a_port_that_is_taken(workshop):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--model", "m", "--port", port, cwd=workshop, check=1)
    assert f"127.0.0.1:{port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_loopback():
    loopback = ("127.0.0.1", "127.8.0.1", "::1", "localhost")
    assert [Address(host).is_loopback for host in (*loopback, "0.0.0.0", "::", "example.org")] == [True] * 4 + [
        False
    ] * 3


@pytest.mark.slow
def test_the_span_head_finds_what_the_command_finds():
    text, types = "Ines Varga flew from Oslo to the University of Kiel.", ["city", "person", "university"]
    with serving("nuner-mini") as client:
        for nested in (False, True):
            body = {"inputs": [text, ""], "types": types, "nested": nested}
            found, nothing = client.post("/predict", json=body).json()
            tagger = nuner_embed.named_tagger(types, model="nuner-mini", nested=nested)
            (expected,) = tagger.tag([text])
            assert [(s["start"], s["end"], s["label"]) for s in found["spans"]] == [
                (s.start, s.end, s.label) for s in expected.spans
            ]
            assert len(expected.spans) >= 3
            scores = [s["score"] for s in found["spans"]]
            np.testing.assert_allclose(scores, [s.score for s in expected.spans], atol=1e-4)
            assert nothing == {"spans": []}
        assert client.get("/v1/models").json()["data"][0]["id"] == "nuner-mini"
