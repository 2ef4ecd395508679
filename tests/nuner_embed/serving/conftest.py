"""Servers within the process, over encoders without a network."""

import contextlib
import threading
from dataclasses import replace

import pytest
from fakes import HashRuntime, hash_encoder
from starlette.testclient import TestClient

from nuner_embed.serving.app import Loader, create_app
from nuner_embed.serving.contracts import Served
from nuner_embed.serving.counters import Counters
from nuner_embed.serving.shared_runtime import ComputeThread, SharedRuntime


@pytest.fixture
def encoder():
    """Windows of 30 tokens, whose first number is the position in the window."""
    return hash_encoder(runtime=HashRuntime(positional=True))


@pytest.fixture
def start():
    """Starts a server over an encoder; returns its client, once it is ready."""
    with contextlib.ExitStack() as stack:

        def started(encoder, *, names="names are not served here", heads=None, indexes=None, **options):
            counters = Counters()
            compute = ComputeThread(counters)
            stack.callback(compute.close)
            shared = replace(encoder, runtime=SharedRuntime(encoder.runtime, compute))
            ready = threading.Event()
            loader = Loader(lambda: Served("tiny", shared, names, heads or {}, indexes or {}), lambda _: ready.set())
            client = TestClient(create_app(loader, counters=counters, **options))
            stack.enter_context(client)
            assert ready.wait(30)
            return client

        yield started


def error_of(answer, status):
    """The one line of an error."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"].isprintable()
    assert "Traceback" not in answer.text
    return error["message"]


@pytest.fixture(name="error_of")
def _error_of():
    return error_of
