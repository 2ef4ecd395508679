"""What docs/integrations.md shows in Python runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command import run

PAGE = (Path(__file__).parents[3] / "docs" / "integrations.md").read_text()
SNIPPETS = re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
PYTHON = {title: "\n".join(re.findall(r"```python\n(.*?)```", text, re.S)) for title, text in SNIPPETS}
LIBRARIES = {
    "spaCy": ["spacy"],
    "scikit-learn": [],
    "Hugging Face datasets": ["datasets"],
    "pandas, polars and DuckDB": ["pandas", "polars"],
    "Shells and logs": [],
}
NOTES = [
    "The ferry Astrid leaves Port Ellery for Halden at seven.",
    "Dr. Ines Varga counted puffins on Skerry Rock.",
    "Kestrel Shipping bought the old harbour of Halden in 2019.",
    "A storm kept the boats of Port Ellery at home.",
]
TRAIN = """The [[ferry Astrid|ship]] leaves [[Port Ellery|harbour]] at seven.
They repaired the [[trawler Moyra|ship]] in [[Halden|harbour]].
Nobody saw the [[tug Samson|ship]] leave [[Skerry Haven|harbour]].
"""


@pytest.fixture(scope="module")
def folder(default_model, tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    (place / "model").symlink_to(default_model)
    (place / "notes.txt").write_text("".join(f"{line}\n" for line in NOTES))
    (place / "train.txt").write_text(TRAIN)
    run("probe", "train", "train.txt", "-o", "probe", "--model", "model", cwd=place, check=0)
    run("encode", "notes.txt", "-o", "store", "--model", "model", "--rows", "mention", cwd=place, check=0)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("title", [title for title, code in PYTHON.items() if code])
def test_python(folder, title):
    for library in LIBRARIES[title]:
        pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PYTHON[title]],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout or "print(" not in PYTHON[title]


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[3] / "docs" / target).exists(), target
