"""The protocol: the same draws for every model, blank cells, honest intervals, runs that go on."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from fakes import HashRuntime, hash_encoder
from scipy import stats

from nuner_embed import FewShotProtocol, LinearProbe, evaluate_fewshot, read_set
from nuner_embed.evaluation import fewshot_run as module
from nuner_embed.evaluation.comparison import AVERAGE, Grid, figure, table
from nuner_embed.evaluation.fewshot import Cell, TypedSet, measure, needed, plan
from nuner_embed.evaluation.metrics import Scores
from nuner_embed.heads.features import FeatureCache, embed_words
from nuner_embed.heads.labelled_words import WordLabels, runs_of
from nuner_embed.installation import install_command

SMALL = FewShotProtocol(k=(1, 2, 4), draws=3)
NAMES = {"time": ["seven", "nine", "ten"], "boat": ["ferry", "raft"], "city": ["Zürich", "Kiel", "Oslo"]}


def conll(path, sentences, seed, types=tuple(NAMES)):
    chance = random.Random(seed)
    with path.open("w", encoding="utf-8") as lines:
        for _ in range(sentences):
            for _ in range(chance.randint(3, 7)):
                type_ = chance.choice([*types, None, None])
                word = chance.choice(NAMES[type_]) if type_ else chance.choice(["the", "left", "in", "an", "at"])
                lines.write(f"{word}\t{'B-' + type_ if type_ else 'O'}\n")
            lines.write("\n")
    return path


@pytest.fixture
def sets(tmp_path):
    return [
        read_set(name, conll(tmp_path / f"{name}1.conll", 40, seed), conll(tmp_path / f"{name}2.conll", 25, seed + 9))
        for seed, name in enumerate(("one", "two"))
    ]


@pytest.fixture
def loaded(monkeypatch):
    """Models by name: how often each was loaded, and what the encoders had to do."""
    encoders = {"narrow": hash_encoder(runtime=HashRuntime(dim=4)), "wide": hash_encoder(runtime=HashRuntime(dim=32))}
    encoders["wide"].semantic_hash = "f" * 64
    monkeypatch.setattr(module, "load_encoder", lambda name, threads: encoders[name])
    return encoders


def test_every_model_gets_the_same_draws_and_they_come_back(sets):
    first, second = plan(sets[0], SMALL), plan(sets[0], SMALL)
    for one, other in zip(first, second, strict=True):
        assert [chosen.tolist() for chosen in one.sets] == [chosen.tolist() for chosen in other.sets]
        assert len({tuple(chosen.tolist()) for chosen in one.sets}) == 3
    assert [size.k for size in first] == [1, 2, 4]


def test_a_cell_is_what_probes_one_by_one_give(sets, tmp_path):
    """The grid reads the test part once for all probes; one by one must come to the same."""
    encoder = hash_encoder(runtime=HashRuntime(dim=16))
    draws = plan(sets[0], SMALL)
    chosen = [sets[0].train[i] for i in needed(draws)]
    train, test = embed_words(encoder, chosen), embed_words(encoder, sets[0].test)
    cells = measure("m", sets[0], draws, SMALL, train, test, threads=2)
    for cell, size in zip(cells, draws, strict=True):
        for number, sentences in enumerate(size.sets):
            documents = [sets[0].train[i] for i in sentences]
            features = embed_words(encoder, documents)
            labels = WordLabels.of(documents, features, size.types)
            probe = LinearProbe().fit(features.vectors, labels.codes)
            gold, codes = WordLabels.of(sets[0].test, test, size.types), probe.predict(test.vectors)
            scores = Scores.of(size.types, gold, codes, runs_of(codes, test.bounds), len(sets[0].test))
            assert cell.scores[number] == pytest.approx(scores.token_macro_f1)
            assert cell.others["span_micro_f1"][number] == pytest.approx(scores.span_micro_f1)
            assert cell.words[number] == len(features.start)


def test_a_run_writes_what_others_rely_on(sets, loaded, tmp_path):
    found = evaluate_fewshot(["narrow", "wide"], sets, tmp_path / "out", SMALL, cache=tmp_path / "cache")
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == found
    assert (found["metric"], found["k"]) == ("token_macro_f1", [1, 2, 4])
    assert len(found["cells"]) == 2 * 2 * 3
    for cell in found["cells"]:
        assert len(cell["scores"]) == 3
        assert cell["mean"] == pytest.approx(np.mean(cell["scores"]))
        assert cell["std"] == pytest.approx(np.std(cell["scores"], ddof=1))
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "out" / "table.md").read_text()
    assert "Token macro-F1 over the types, None left out" in text
    assert "adjacent words of one type are one mention" in text
    assert "## average of one, two" in text


def test_an_interrupted_run_goes_on_and_ends_the_same(sets, loaded, tmp_path, monkeypatch):
    whole = evaluate_fewshot(["narrow", "wide"], sets, tmp_path / "whole", SMALL, cache=tmp_path / "cache")
    real, calls = module.measure, []

    def breaks(*arguments, **keywords):
        calls.append(arguments[:2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, "measure", breaks)
    with pytest.raises(KeyboardInterrupt):
        evaluate_fewshot(["narrow", "wide"], sets, tmp_path / "out", SMALL, cache=tmp_path / "cache")
    calls[:] = [None] * 10
    again = evaluate_fewshot(["narrow", "wide"], sets, tmp_path / "out", SMALL, cache=tmp_path / "cache")
    assert len(calls) == 12  # two of four parts were done
    assert again == whole
    evaluate_fewshot(["narrow", "wide"], sets, tmp_path / "out", SMALL, cache=tmp_path / "cache")
    assert len(calls) == 12
    evaluate_fewshot(
        ["wide"], sets, tmp_path / "out", FewShotProtocol(k=(1, 2, 4), draws=3, C=1.0), cache=tmp_path / "cache"
    )
    assert len(calls) == 14  # another protocol is measured anew


def parts_of(directory):
    return sorted(path for path in (directory / "parts").iterdir() if len(path.stem) == 64)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": [{"a": 1}], "lost": 0}', '{"cells": [], "lost": 0}'])
def test_a_damaged_part_is_measured_again(sets, loaded, tmp_path, content):
    whole = evaluate_fewshot(["wide"], sets[:1], tmp_path / "out", SMALL, cache=tmp_path / "cache")
    (part,) = parts_of(tmp_path / "out")
    part.write_text(content)
    assert evaluate_fewshot(["wide"], sets[:1], tmp_path / "out", SMALL, cache=tmp_path / "cache") == whole


def test_a_second_run_encodes_nothing(sets, loaded, tmp_path):
    evaluate_fewshot(["wide"], sets, tmp_path / "a", SMALL, cache=tmp_path / "cache")
    before = len(loaded["wide"].runtime.batches)
    evaluate_fewshot(["wide"], sets, tmp_path / "b", SMALL, cache=tmp_path / "cache")
    assert len(loaded["wide"].runtime.batches) == before
    assert FeatureCache(tmp_path / "cache", loaded["wide"]).path.exists()


def test_a_cell_that_a_set_cannot_fill_stays_blank_and_says_why(tmp_path, loaded):
    train = conll(tmp_path / "rare.conll", 30, 3, types=("time", "boat"))
    with train.open("a", encoding="utf-8") as lines:
        lines.write("Kiel\tB-city\nOslo\tB-city\n\n")
    rare = read_set("rare", train, conll(tmp_path / "test.conll", 10, 4))
    notes = []
    found = evaluate_fewshot(["wide"], [rare], tmp_path / "out", SMALL, cache=tmp_path / "c", note=notes.append)
    by_k = {cell["k"]: cell for cell in found["cells"]}
    assert by_k[2]["scores"]
    assert by_k[4]["scores"] == []
    assert by_k[4]["mean"] is None
    assert by_k[4]["blank"] == "too few mentions: city has 2 of 4"
    assert "rare, k = 4: too few mentions: city has 2 of 4; the cell stays blank" in notes
    assert "- rare, k = 4: blank, too few mentions: city has 2 of 4." in (tmp_path / "out" / "table.md").read_text()
    assert found["averaged"] == []
    dropped = plan(rare, FewShotProtocol(k=(4,), draws=2, short_types="drop"))[0]
    assert (dropped.types, dropped.left_out) == (("boat", "time"), ("city",))
    kept = plan(rare, FewShotProtocol(k=(4,), draws=2, short_types="keep"))[0]
    assert (kept.types, len(kept.sets)) == (("boat", "city", "time"), 2)


ALONE = {
    # one type and nothing else: each of the 3 test words is a city, 2 rightly; F1 2 * 2 / (3 + 2), of None 0
    "one": ("Kiel\tB-city\n\nOslo\tB-city\n\n", "Kiel\tB-city\nis\tO\nOslo\tB-city\n\n", 0.8, 0.4),
    # two: "is" is taken for one of them
    "two": (
        "Kiel\tB-city\n\nferry\tB-boat\n\n",
        "Kiel\tB-city\nis\tO\nferry\tB-boat\n\n",
        (1 + 2 / 3) / 2,
        (1 + 2 / 3 + 0) / 3,
    ),
}


@pytest.mark.parametrize("types", ALONE)
def test_draws_that_hold_entity_words_alone(tmp_path, loaded, types):
    train, test, score, with_none = ALONE[types]
    (tmp_path / "train.conll").write_text(train)
    (tmp_path / "test.conll").write_text(test)
    typed = read_set("alone", tmp_path / "train.conll", tmp_path / "test.conll")
    protocol = FewShotProtocol(k=(1,), draws=2)
    (cell,) = evaluate_fewshot(["wide"], [typed], tmp_path / "out", protocol, cache=tmp_path / "c")["cells"]
    assert cell["scores"] == pytest.approx([score] * 2)
    assert cell["others"]["token_macro_f1_with_none"] == pytest.approx([with_none] * 2)


def test_exactly_k_words(sets):
    for size in plan(sets[0], FewShotProtocol(k=(3,), draws=2, unit="words")):
        for chosen in size.sets:
            documents = [sets[0].train[i] for i in chosen]
            counts = dict.fromkeys(NAMES, 0)
            for document in documents:
                for span in document.spans:
                    counts[span.label] += 1  # every mention here is one word
            assert set(counts.values()) == {3}


def test_repeated_sentences_are_counted(sets):
    both = TypedSet("x", sets[0].train, (*sets[0].test[:3], sets[0].train[0], sets[0].train[0]), "0")
    known = {document.text for document in sets[0].train}
    assert both.repeated() == 2 + sum(document.text in known for document in sets[0].test[:3])


def cell(model, name, k, scores):
    return Cell(model, name, k, scores, float(np.mean(scores)) if scores else None, None, [], 2, [], None)


def test_the_interval_is_students_for_paired_differences():
    first, second = [0.30, 0.35, 0.28, 0.33], [0.36, 0.37, 0.35, 0.34]
    grid = Grid([cell("a", "s", 1, first), cell("b", "s", 1, second)])
    found = grid.difference("b", "a", "s", 1)
    expected = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert str(found) == f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def test_the_average_leaves_sets_with_blank_cells_out_and_says_so():
    cells = [
        cell("a", "s", 1, [0.2, 0.4]), cell("a", "t", 1, [0.6, 0.6]), cell("a", "u", 1, []),
        cell("b", "s", 1, [0.3, 0.5]), cell("b", "t", 1, [0.7, 0.7]), cell("b", "u", 1, []),
    ]  # fmt: skip
    grid = Grid(cells)
    assert grid.averaged == ["s", "t"]
    assert grid.scores("a", AVERAGE, 1).tolist() == pytest.approx([0.4, 0.5])
    assert "## average of s, t (without u: cells are blank)" in table(cells, [], FewShotProtocol(k=(1,), draws=2))
    assert figure(cells).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"k": ()}, "k must lie between 1 and 1,000,000"),
        ({"k": (0,)}, "k must lie"),
        ({"k": (10**7,)}, "k must lie"),
        ({"draws": 0}, "draws must lie between 1 and 10,000, not 0"),
        ({"draws": 10**5}, "draws must lie"),
        ({"seed": 2**63}, "seed must lie"),
    ],
)
def test_protocols_out_of_bounds(values, said):
    with pytest.raises(ValueError, match=said):
        FewShotProtocol(**values)


@pytest.mark.parametrize("name", ["average", "a|b", "a\nb"])
def test_names_that_tables_cannot_show(sets, tmp_path, name):
    with pytest.raises(ValueError, match="a set cannot be called"):
        evaluate_fewshot(["a"], [replace(sets[0], name=name)], tmp_path)


def test_names_must_differ(sets, tmp_path):
    with pytest.raises(ValueError, match="each set must have a name of its own"):
        evaluate_fewshot(["a"], [sets[0], sets[0]], tmp_path)


def test_without_matplotlib_the_run_ends_and_says_how_to_get_the_figure(sets, loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    notes = []
    evaluate_fewshot(
        ["wide"], sets[:1], tmp_path / "out", FewShotProtocol(k=(1,), draws=1), cache=tmp_path / "c", note=notes.append
    )
    assert (tmp_path / "out" / "results.json").exists()
    assert notes == [f"no figure.png: it needs matplotlib ({install_command('plots')}); run again, nothing is lost"]
