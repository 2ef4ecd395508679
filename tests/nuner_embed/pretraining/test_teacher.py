"""A teacher: its vectors of the tokens of a corpus, what they add to the loss, and whole runs with one."""

import json
import shutil

import numpy as np
import pytest
import torch
from fakes import tiny_model, wordpiece
from pretraining_runs import metrics, run, same, stop_now_and_then, weights
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from nuner_embed import load_encoder
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.errors import ModelError, PretrainingError
from nuner_embed.pretraining.examples import make_examples
from nuner_embed.pretraining.facts import read_model
from nuner_embed.pretraining.objectives import BiEncoder
from nuner_embed.pretraining.settings import PretrainSettings
from nuner_embed.pretraining.teacher import Teacher


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return tiny_model("mpnet", tmp_path_factory.mktemp("teacher") / "mpnet", seed=3)


@pytest.fixture(scope="module")
def renumbered(teacher, tmp_path_factory):
    """The same teacher with other numbers of its tokens."""
    directory = tmp_path_factory.mktemp("teacher") / "renumbered"
    shutil.copytree(teacher, directory)
    definition = json.loads((directory / "tokenizer.json").read_text())
    vocabulary = definition["model"]["vocab"]
    specials = {one["content"] for one in definition["added_tokens"]}
    inner = sorted(number for token, number in vocabulary.items() if token not in specials)
    other = dict(zip(inner, reversed(inner), strict=True))
    definition["model"]["vocab"] = {token: other.get(number, number) for token, number in vocabulary.items()}
    (directory / "tokenizer.json").write_text(json.dumps(definition))
    tensors = load_file(directory / "model.safetensors")
    (name,) = (name for name in tensors if name.endswith("word_embeddings.weight"))
    rows = torch.arange(len(tensors[name]))
    rows[torch.tensor(list(other.values()))] = torch.tensor(list(other))
    tensors[name] = tensors[name][rows].contiguous()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


def opened(directory):
    return Teacher.open(str(directory), wordpiece(), "cpu", 1, "f32")


def token_vectors(model, texts):
    """The vectors of the tokens of each text, a (t, dim) array each."""
    return [one.vectors for one in load_encoder(str(model), precision="f32").encode(texts)]


def test_the_vectors_are_those_of_the_teachers_tokens(teacher, renumbered, data, tmp_path):
    documents = list(read_annotated([data])[0])
    examples = make_examples(documents, wordpiece(), 40)
    expected = token_vectors(teacher, [one.text for one in documents])
    pieces, seen = np.array([7, 0, 31]), []
    for number, directory in enumerate((teacher, renumbered), start=1):
        taught = opened(directory).learnt_from(
            examples, tmp_path / f"{number}.npy", lambda *told: seen.append(told), fill=True
        )
        assert seen == [("vectors of the teacher", 60, 60)] * number
        wanted = np.concatenate([expected[piece] for piece in pieces])
        np.testing.assert_allclose(taught.vectors(pieces), wanted, atol=2e-3)  # float16


class Given(nn.Module):
    """Stands for a half: its tokens, or its pooled concepts, are given."""

    def __init__(self, states):
        super().__init__()
        self.states, self.network = states, type("Network", (), {"config": type("C", (), {"hidden_size": 3})})

    def tokens(self, _):
        return self.states

    def pooled(self, *_):
        return self.states

    def set_training(self, _):
        pass


def test_the_distance_counts_while_training_alone():
    torch.manual_seed(0)
    tokens, concepts, taught = torch.randn(4, 3), torch.randn(2, 3), torch.randn(4, 5)
    settings = PretrainSettings(teacher_weight=2.5)
    model = BiEncoder(Given(tokens), Given(concepts), settings, 0.1, 5)
    pairs = torch.tensor([0, 2]), torch.tensor([1, 0])
    model.set_training(False)
    plain = model(None, [None], *pairs, None, taught)
    model.set_training(True)
    both = model(None, [None], *pairs, None, taught)
    seen = tokens @ model.to_teacher.weight.T + model.to_teacher.bias
    expected = plain.loss + 2.5 * (1 - F.cosine_similarity(seen, taught, dim=1)).mean()
    assert torch.allclose(both.loss, expected)
    assert not torch.allclose(both.loss, plain.loss)
    assert (both.correct, both.labelled) == (plain.correct, plain.labelled)


@pytest.fixture(scope="module")
def learnt(data, base, teacher, tmp_path_factory):
    output = tmp_path_factory.mktemp("learnt") / "m"
    return output, run(data, base, output, options={"teacher": str(teacher)})


def test_a_run_with_a_teacher(learnt, teacher, trained):
    output, facts = learnt
    assert facts["settings"]["teacher_weight"] == 5
    assert read_model(output).teacher == facts["teacher"] == load_encoder(str(teacher)).semantic_hash
    assert "a teacher" in (output / "README.md").read_text()
    assert not any("teacher" in name for name in weights(output))  # the linear layer is thrown away
    assert weights(output).keys() == weights(trained[0]).keys()
    assert not same(weights(output), weights(trained[0]))
    assert "teacher" not in trained[1]
    assert "teacher_weight" not in trained[1]["settings"]  # the fingerprint of earlier versions
    assert "teacher" not in (trained[0] / "README.md").read_text()


def test_it_brings_the_encoder_nearer_to_the_teacher(base, teacher, data, tmp_path):
    """Cosines between pairs of tokens are more like the teacher's than without one."""
    texts = [one.text for one in read_annotated([data])[0]]

    def similar(model):
        vectors = np.concatenate(token_vectors(model, texts))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (unit @ unit.T)[np.triu_indices(len(unit), 1)]

    nearness = {}
    for name, options in {"with": {"teacher": str(teacher)}, "without": {}}.items():
        run(data, base, tmp_path / name, epochs=10, learning_rate=5e-3, options=options)
        nearness[name] = np.corrcoef(similar(tmp_path / name), similar(teacher))[0, 1]
    assert nearness["with"] > nearness["without"] + 0.05


def test_interrupted_with_a_teacher_it_ends_in_the_same_weights(learnt, data, base, teacher, tmp_path, monkeypatch):
    stop_now_and_then(monkeypatch)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(data, base, tmp_path / "m", options={"teacher": str(teacher)})
    with pytest.raises(PretrainingError, match=r"begun with another .*teacher"):
        run(data, base, tmp_path / "m")
    run(data, base, tmp_path / "m", options={"teacher": str(teacher)})
    assert same(weights(tmp_path / "m"), weights(learnt[0]))
    assert metrics(tmp_path / "m") == metrics(learnt[0])


def test_what_is_refused(data, base, teacher, tmp_path):
    def refused(why, *, error=PretrainingError, **given):
        options = {"teacher": str(given.pop("teacher", teacher))}
        with pytest.raises(error, match=why):
            run(data, base, tmp_path / "m", options=options if options["teacher"] != "None" else {}, **given)

    refused("teacher_weight goes with a teacher; give one with --teacher MODEL", teacher=None, teacher_weight=1.0)
    refused("a teacher goes with the objective contrastive, not with token", objective="token-classification")
    refused("no directory and no known model is called", teacher="nowhere", error=ModelError)
    roberta = tiny_model("roberta", tmp_path / "roberta")
    refused(
        r"roberta cuts 'boat' into other tokens than .*; a teacher needs the vocabulary of the base", teacher=roberta
    )


def test_a_text_that_is_too_long_for_the_teacher(base, teacher, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(teacher, short)
    (short / "recipe.json").write_text(json.dumps({"max_length": 8, "stride": 2}))
    text = "the ferry number 7 left kiel and the raft left oslo"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text, "spans": [{"start": 4, "end": 9, "label": "boat"}]}))
    with pytest.raises(PretrainingError, match=r"short takes 6 tokens at most; set --max-length 8"):
        run(tmp_path / "a.jsonl", base, tmp_path / "m", validation=0.0, options={"teacher": str(short)})
