"""`nuner-embed serve` as a process: it starts, drains, and ends."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import httpx2
import numpy as np
import openai
import pytest
from gated import wait_until

import nuner_embed

KEY = "sk-0123456789-of-a-test"
TEXT = "The ferry left Zürich at seven."
# every batch takes a second: a signal comes while one is computed
SLOW = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from nuner_embed.serving import shared_runtime
run = shared_runtime.ComputeThread._run
def slow(self, together):
    os.write(int(os.environ["SAY"]), b"!" * len(together))
    time.sleep(float(os.environ["SECONDS"]))
    run(self, together)
shared_runtime.ComputeThread._run = slow
sys.argv[0] = "nuner-embed"
from nuner_embed.cli.__main__ import main
main()
"""


class Process:
    """A server in a process of its own, and what it said."""

    def __init__(self, folder, *arguments, seconds=0.0, ready=True, **environment):
        self.reading, writing = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOW, "serve", "--port", "0", *arguments],
            cwd=folder, stderr=subprocess.PIPE, text=True, pass_fds=[writing],
            env={**os.environ, "SAY": str(writing), "SECONDS": str(seconds), **environment},
        )  # fmt: skip
        os.close(writing)
        self.lines = []
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("ready: " if ready else "listening on "):
                break
        said = "".join(self.lines)
        assert "listening on" in said, said
        self.url = re.search(r"http://\S+:\d+", said)[0]
        self.port = int(self.url.rpartition(":")[2])

    def computing(self):
        """Waits until a batch is being computed."""
        assert os.read(self.reading, 1) == b"!"

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        self.lines += self.process.communicate(timeout=120)[1].splitlines(keepends=True)
        os.close(self.reading)
        said = "".join(self.lines)
        assert "Traceback" not in said, said
        return self.process.returncode, said


@contextlib.contextmanager
def running(*arguments, **options):
    server = Process(*arguments, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def asked(connection, path):
    """The answer to a request on an open connection."""
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def is_closed(connection):
    """Whether the server has closed a connection."""
    try:
        asked(connection, "/health")
    except (OSError, http.client.HTTPException):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_under_way_are_answered_and_new_ones_refused(workshop, number):
    expected = nuner_embed.load_encoder(str((workshop / "m").resolve())).encode(TEXT)[0].vectors.mean(axis=0)
    with running(workshop, "--model", "m", seconds=1.0) as server:
        answers = []

        def ask():
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
            answers.append(client.embeddings.create(model="m", input=TEXT).data[0].embedding)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        threads[0].start()
        server.computing()
        for thread in threads[1:]:  # these wait for the next run
            thread.start()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as idle:
            wait_until(lambda: "nuner_embed_requests_in_flight 3.0" in asked(idle, "/metrics"))
            server.process.send_signal(number)
            # the socket closes, and with it the connection on which nothing is under way
            wait_until(lambda: is_closed(idle))
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/health")
        code, said = server.wait()
        for thread in threads:
            thread.join()
    assert code == 0
    assert said.endswith("\nended\n")
    assert len(answers) == 3
    np.testing.assert_allclose(answers, np.stack([expected] * 3), atol=1e-5)


@pytest.mark.slow
def test_the_time_for_requests_under_way_is_bounded(workshop):
    with running(workshop, "--model", "m", "--drain-seconds", "1", seconds=60.0) as server:
        answers = []
        body = {"model": "m", "input": TEXT}
        ask = threading.Thread(
            target=lambda: answers.append(httpx2.post(f"{server.url}/v1/embeddings", json=body, timeout=100))
        )
        ask.start()
        server.computing()
        code, said = server.end()
        ask.join()
    assert code == 0
    assert answers[0].status_code == 503
    assert "the server ended before the answer was there" in answers[0].json()["error"]["message"]


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(workshop):
    with running(workshop, "--model", "m", seconds=60.0) as server:
        failed = []

        def ask():
            try:
                httpx2.post(f"{server.url}/embed_all", json={"inputs": TEXT}, timeout=90)
            except httpx2.HTTPError as error:
                failed.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        server.computing()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)  # two signals within a second are one
        code, _ = server.end()
        asking.join()
    assert code == 128 + signal.SIGTERM
    assert len(failed) == 1


@pytest.mark.slow
def test_a_body_of_ten_megabytes_is_answered_and_the_key_is_never_said(workshop):
    with running(workshop, "--model", "m", "--host", "0.0.0.0", NUNER_EMBED_API_KEY=KEY) as server:
        url = f"http://127.0.0.1:{server.port}"
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {KEY}"}, 413)):
            answer = httpx2.post(f"{url}/embed_all", json={"inputs": "a" * 10_000_000}, headers=headers, timeout=60)
            assert answer.status_code == status
            assert json.loads(answer.text)["error"]["message"]
        assert httpx2.get(f"{url}/health").status_code == 200
        code, said = server.end()
    assert code == 0
    assert "Warning: 0.0.0.0 may be reached from other machines, without encryption\n" in said
    assert KEY not in said


@pytest.mark.slow
def test_a_signal_while_the_model_loads(workshop):
    with running(workshop, "--model", "m", ready=False) as server:
        code, _ = server.end()
    assert code in (0, 143)  # the signal may come before the server heeds signals


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_ends_the_process_with_one_line(workshop, tmp_path):
    (tmp_path / "empty").mkdir()
    with running(tmp_path, "--model", "empty", ready=False) as server:
        code, said = server.wait()
    assert code == 1
    assert [line for line in said.splitlines() if not line.startswith("listening")][-1].startswith("Error: ")


@pytest.mark.slow
def test_help_and_a_missing_extra(workshop):
    code = """
import sys
from nuner_embed.cli.__main__ import main
sys.argv = ["nuner-embed", *sys.argv[1:]]
try:
    main()
finally:
    heavy = {"fastapi", "uvicorn", "pydantic", "prometheus_client", "numpy"} & set(sys.modules)
    assert not heavy, heavy
"""
    for arguments in (["--help"], ["serve", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    blocked = "import sys; sys.modules['fastapi'] = None; " + code.split("try:")[0].strip().replace("\n", "; ")
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; main()", "serve", "--model", "m"],
        cwd=workshop, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the server needs fastapi; pip install ")
    assert done.stderr.count("\n") == 1
