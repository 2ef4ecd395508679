"""Pushes to a stand-in of the hub on this machine, and dry runs, which reach nothing."""

import base64
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from command import run
from huggingface_hub import ModelCard

from nuner_embed import load_encoder
from nuner_embed.errors import ModelError
from nuner_embed.models.hub import push_model

CARD = "---\nlicense: mit\ntags:\n- mine\n---\n# A card\n"


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does; keeps what was asked, and the files of the commit."""

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else b"".join(self._chunks())
        self.server.asked.append((self.path, self.headers.get("Authorization"), content))
        if self.server.refuse:
            self._answer(403, {"error": "You don't have the rights"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.address}/somebody/m", "name": "somebody/m"})
        elif "/preupload/" in self.path:
            named = [one["path"] for one in json.loads(content)["files"]]
            self._answer(
                200, {"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in named]}
            )
        else:
            self._answer(200, {"commitUrl": f"{self.server.address}/somebody/m/commit/1", "commitOid": "1"})

    def do_GET(self):
        self._answer(200, {"id": "somebody/m", "sha": "1", "siblings": []})

    def _chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()

    def _answer(self, code, value):
        content = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.refuse = [], False
    server.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def push(hub, *arguments):
    own = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_secret", "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "nuner_embed.cli", "models", "push", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})


def test_a_model_is_pushed(copy, hub, tmp_path):
    (copy / "README.md").write_text(CARD)
    done = push(hub, copy, "somebody/m")
    assert done.returncode == 0, done.stderr
    assert "somebody/m/commit/1" in done.stderr
    assert {token for _, token, _ in hub.asked} == {"Bearer hf_secret"}
    assert "hf_secret" not in done.stderr + done.stdout
    (created,) = (json.loads(content) for path, _, content in hub.asked if path == "/api/repos/create")
    assert created["name"] == "m"
    assert created.get("private") is True or created.get("visibility") == "private"  # of huggingface_hub 1, and 2
    (commit,) = (content for path, _, content in hub.asked if "/commit/" in path)
    lines = [json.loads(line) for line in commit.splitlines()]
    sent = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} < set(sent)
    assert "nuner-embed-model.json" not in sent
    for name, content in sent.items():
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_bytes(content)
    assert load_encoder(str(tmp_path / "again")).semantic_hash == load_encoder(str(copy)).semantic_hash


def test_the_hub_refuses(bert, hub):
    hub.refuse = True
    done = push(hub, bert, "somebody/m", "--public")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert line.startswith("Error: somebody/m was not uploaded: ")
    assert "a token that may write comes from" in line
    assert "hf_secret" not in done.stderr


def test_a_dry_run(copy):
    (copy / "README.md").write_text(CARD)
    done = run("models", "push", copy, "somebody/m", "--dry-run", check=0)
    files, _, card = done.stdout.partition("\n\n")
    assert files.startswith("README.md  ")
    data = ModelCard(card).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("mit", "nuner-embed", "feature-extraction")
    assert data.tags == ["mine", "nuner", "named-entity-recognition", "embeddings"]
    assert "# A card" in card
    assert "would be uploaded to somebody/m" in done.stderr
    assert (copy / "README.md").read_text() == CARD


def test_a_model_without_a_card(bert):
    upload = push_model(str(bert), "m", dry_run=True)
    assert upload.address is None
    assert ModelCard(upload.card).data.library_name == "nuner-embed"
    assert "config.json" in upload.files


@pytest.mark.parametrize("repo", ["a/b/c", "", "a b", "--x"])
def test_no_name_of_a_repository(bert, repo):
    with pytest.raises(ModelError, match="is no name of a repository, such as USER/NAME"):
        push_model(str(bert), repo, dry_run=True)
