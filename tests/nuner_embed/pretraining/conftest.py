"""Fixtures of this room: a tiny base model, sixty sentences, and a model that was trained on them."""

import json

import numpy as np
import pytest
from fakes import tiny_model
from pretraining_runs import run

from nuner_embed.documents import join_words

CITIES, BOATS = ["kiel", "oslo", "rome", "bonn"], ["ferry", "raft", "ship"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model("bert", tmp_path_factory.mktemp("base") / "bert")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Sixty sentences that a network of two layers can learn."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "annotated.jsonl"
    lines = []
    for _ in range(60):
        words = ["the", rng.choice(BOATS), "number", str(rng.integers(1000)), "left", rng.choice(CITIES)]
        text, offsets = join_words(words[: rng.integers(3, 7)])
        labels = {1: "boat", 5: "baltic city"}
        spans = [{"start": a, "end": b, "label": labels[i]} for i, (a, b) in enumerate(offsets) if i in labels]
        lines.append(json.dumps({"text": text, "spans": spans}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def trained(data, base, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "encoder"
    return output, run(data, base, output)
