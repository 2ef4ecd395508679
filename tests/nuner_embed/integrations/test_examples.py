"""The examples for libraries that are not among those of `make test`; run where somebody has installed them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"
TEXTS = "The ferry left Zürich at seven .\nKiel\n"


def output_of(example, *arguments, cwd):
    (cwd / "texts.txt").write_text(TEXTS)
    quiet = {"HAYSTACK_TELEMETRY_ENABLED": "False"}
    command = [sys.executable, EXAMPLES / example, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **quiet})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_langchain(exported_bert, tmp_path):
    pytest.importorskip("langchain_core")
    first, second = output_of("langchain_embeddings.py", exported_bert, "texts.txt", "Kiel", cwd=tmp_path)
    assert first.split() == ["1.000", "Kiel", "texts.txt:2"]
    assert second.endswith("The ferry left Zürich at seven .  texts.txt:1")


@pytest.mark.slow
def test_haystack(default_model, tmp_path):
    pytest.importorskip("haystack")
    lines = output_of("haystack_entities.py", default_model, "texts.txt", "city", "ship", cwd=tmp_path)
    assert lines[0].startswith("The ferry left Zürich at seven . [")
    assert "('Zürich', 'city')" in lines[0]
