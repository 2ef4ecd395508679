import logging
import shutil
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import HashRuntime, tiny_model, wordpiece

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.encoders.loader import ModelSpec
from nuner_embed.errors import OutOfMemory, RuntimeUnavailable
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes import parity, selection
from nuner_embed.runtimes.base import RuntimeOptions, WindowBatch
from nuner_embed.runtimes.measurements import Measurement
from nuner_embed.runtimes.parity import GATES, Agreement, Reference, compare, neighbour_overlap, speed, tuned_speeds
from nuner_embed.runtimes.selection import choose, measure, remembered

DOCUMENTS = [Document(str(i), "the ferry left at seven " * (1 + i % 7)) for i in range(60)]

pytestmark = pytest.mark.usefixtures("all_cores")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    export_onnx(str(tiny_model("roberta", folder / "roberta")), folder / "out")
    return folder / "out"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def speeds(monkeypatch, cache):
    """Lets a test say what is measured: `speeds(onnx=(5000, True), ...)`."""

    def set_speeds(**measured):
        rows = [
            Measurement(
                name.split("_")[0], name.split("_")[1], name, Agreement(0.9, 0.9, 1.0, 0.5), 1,
                {256: pace - 1, 512: pace}, passed, 1,
            )
            for name, (pace, passed) in measured.items()
        ]  # fmt: skip
        monkeypatch.setattr(selection, "measure", lambda *_: rows)

    return set_speeds


def test_the_fastest_that_passes_is_taken(made, speeds, caplog):
    speeds(onnx_f32=(5000, True), openvino_f32=(4000, True), openvino_bf16=(9000, False))
    with caplog.at_level(logging.INFO, "nuner_embed"):
        choice = choose(locate(str(made)), "auto", RuntimeOptions(), None)
    assert (choice.runtime, choice.precision, choice.batch_tokens) == ("onnx", "f32", 512)
    assert caplog.messages == [
        "fastest here: onnx f32, 5000 tokens/s in batches of 512 (openvino f32 4,000, openvino bf16 fails its gate)"
    ]
    speeds(onnx_f32=(5000, True), openvino_f32=(4000, True), openvino_bf16=(9000, True))
    choice = choose(locate(str(made)), "auto", RuntimeOptions(), 99)
    assert (choice.runtime, choice.precision, choice.batch_tokens) == ("openvino", "bf16", 99)
    choice = choose(locate(str(made)), "auto", RuntimeOptions(precision="f32"), None)
    assert (choice.runtime, choice.precision) == ("onnx", "f32")
    choice = choose(locate(str(made)), "openvino", RuntimeOptions(precision="f32"), None)
    assert (choice.runtime, choice.precision) == ("openvino", "f32")


def test_the_fastest_is_named_once_a_machine_and_later_only_as_a_detail(made, speeds, caplog, monkeypatch):
    speeds(onnx_f32=(5000, True), openvino_f32=(4000, True))
    caplog.set_level(logging.DEBUG, "nuner_embed")
    choose(locate(str(made)), "auto", RuntimeOptions(), None)
    rows = selection.measure()
    monkeypatch.setattr(selection, "remembered", lambda *_: rows)
    choose(locate(str(made)), "auto", RuntimeOptions(), None)
    assert [(record.levelname, record.getMessage().partition(":")[0]) for record in caplog.records] == [
        ("INFO", "fastest here"), ("DEBUG", "fastest here")
    ]  # fmt: skip


def test_what_fails_its_gate_is_not_run(made, speeds):
    speeds(onnx_f32=(5000, False))
    with pytest.raises(RuntimeUnavailable, match=r"f32 fails its gate \(min cosine 0.9999\): minimum cosine 0.9"):
        load_encoder(str(made))
    # said in full it is the user's word
    assert load_encoder(str(made), runtime="onnx", precision="f32", batch_tokens=64).dim == 16


def test_measured_once(made, cache, monkeypatch, caplog):
    model = locate(str(made))
    rows = measure(model, RuntimeOptions())
    assert remembered(model, RuntimeOptions()) == rows
    assert all(row.passed and set(row.tokens_per_second) == {512} for row in rows)
    assert remembered(model, RuntimeOptions(threads=1)) is None
    monkeypatch.setattr(selection, "cpu_name", lambda: "another processor")
    assert remembered(model, RuntimeOptions()) is None
    monkeypatch.undo()
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(cache))
    with caplog.at_level(logging.INFO, "nuner_embed"):
        load_encoder(str(made))
    assert not any("measuring" in message for message in caplog.messages)


def test_a_cache_that_cannot_be_written_or_read(made, cache, monkeypatch):
    model = locate(str(made))
    cache.mkdir()
    (cache / "runtimes").write_text("a file in its way")
    assert measure(model, RuntimeOptions())
    assert remembered(model, RuntimeOptions()) is None
    (cache / "runtimes").unlink()
    measure(model, RuntimeOptions())
    (path,) = (cache / "runtimes").iterdir()
    path.write_text("[{}]")
    assert remembered(model, RuntimeOptions()) is None


def test_what_was_chosen_is_pinned(made, speeds):
    speeds(onnx_f32=(4000, True), openvino_f32=(5000, True))
    spec = ModelSpec(str(made))
    numerics = spec.load().numerics
    speeds(onnx_f32=(9000, True), openvino_f32=(5000, True))
    again = spec.pinned(numerics).load()
    assert again.numerics == numerics
    assert (numerics["runtime"], numerics["batch_tokens"]) == ("openvino", 512)


def test_runtimes_and_streams_agree(made):
    exact = load_encoder(str(made), runtime="onnx", batch_tokens=64)
    runs = [load_encoder(str(made), runtime="openvino", precision="f32", threads=n, batch_tokens=64) for n in (1, 2, 2)]
    assert [run.runtime.streams for run in runs] == [1, 2, 2]
    vectors = [np.concatenate([d.vectors for d in run.encode(DOCUMENTS)]) for run in (exact, *runs)]
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    np.testing.assert_array_equal(vectors[1], vectors[2])  # a stream is a thread: how many there are changes nothing
    np.testing.assert_array_equal(vectors[2], vectors[3])


def test_openvino_elsewhere(made):
    with pytest.raises(RuntimeUnavailable, match="openvino runtime runs on the CPU, not on cuda"):
        load_encoder(str(made), runtime="openvino", device="cuda")
    with pytest.raises(RuntimeUnavailable, match=r"OpenVINO runs .* in f32.*, not in fp16"):
        load_encoder(str(made), runtime="openvino", precision="fp16", batch_tokens=64)


def test_a_runtime_that_is_not_installed(made, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else object())
    with pytest.raises(RuntimeUnavailable, match=r"openvino is not installed; pip install .*\[openvino\]'"):
        load_encoder(str(made), runtime="openvino")


@pytest.mark.parametrize(("units", "able"), [(False, ["f32"]), (True, ["f32", "bf16"])])
def test_bf16_is_measured_where_the_processor_has_units_for_it(made, monkeypatch, units, able):
    from nuner_embed.runtimes import openvino

    monkeypatch.setattr(openvino, "has_bf16", lambda: units)
    with monkeypatch.context() as patch:  # nothing is run: this processor may have no such units
        patch.setattr(selection, "load_runtime", None)
        rows = measure(locate(str(made)), RuntimeOptions())
    assert [row.precision for row in rows if row.runtime == "openvino"] == able
    if not units:
        with pytest.raises(RuntimeUnavailable, match="OpenVINO runs .* in f32( or int8)?, not in bf16"):
            load_encoder(str(made), runtime="openvino", precision="bf16", batch_tokens=64)


@pytest.mark.parametrize(("said", "has"), [(["FP32", "BF16"], True), (["FP32", "INT8"], False)])
def test_what_openvino_says_of_the_processor_decides(monkeypatch, said, has):
    import openvino as ov

    from nuner_embed.runtimes.openvino import has_bf16

    monkeypatch.setattr(ov, "Core", lambda: SimpleNamespace(get_property=lambda *_: said))
    assert has_bf16() is has


@pytest.mark.parametrize("units", [False, True])
@pytest.mark.parametrize("where", ["loading", "running", "importing"])
def test_a_broken_runtime_leaves_the_others(made, cache, monkeypatch, where, units):
    from nuner_embed.runtimes import openvino

    monkeypatch.setattr(openvino, "has_bf16", lambda: units)

    def fail(*_):
        raise RuntimeError("a broken wheel")

    if where == "importing":
        monkeypatch.setitem(sys.modules, "nuner_embed.runtimes.openvino", None)
    else:
        monkeypatch.setattr(openvino.OpenVinoRuntime, "__init__" if where == "loading" else "states", fail)
    assert load_encoder(str(made)).runtime.name == "onnx"
    broken = [row for row in measure(locate(str(made)), RuntimeOptions()) if row.runtime == "openvino"]
    able = ["f32", "bf16"] if units and where != "importing" else ["f32"]  # what cannot be imported cannot be asked
    assert [row.precision for row in broken] == able
    assert not any(row.passed or row.agreement for row in broken)
    with pytest.raises(RuntimeUnavailable, match="openvino does not run"):
        load_encoder(str(made), runtime="openvino")


def test_what_did_not_run_is_not_remembered(made, cache, monkeypatch):
    from nuner_embed.runtimes import openvino

    def fail(*_):
        raise OutOfMemory("for now")

    monkeypatch.setattr(openvino.OpenVinoRuntime, "states", fail)
    measure(locate(str(made)), RuntimeOptions())
    assert remembered(locate(str(made)), RuntimeOptions()) is None


def test_the_first_call_is_made_alone(made, monkeypatch):
    """NumPy's bindings are set up by the first call; two streams that did so at once would wait for each other."""
    from nuner_embed.runtimes.openvino import OpenVinoRuntime

    states, threads = OpenVinoRuntime.states, []

    def recorded(self, ids, mask):
        threads.append(threading.current_thread())
        return states(self, ids, mask)

    monkeypatch.setattr(OpenVinoRuntime, "states", recorded)
    model = locate(str(made))
    runtime = OpenVinoRuntime(model, model.recipe, RuntimeOptions(threads=2))
    assert threads == [threading.main_thread()]
    runtime.rows(WindowBatch(np.arange(24) % 4, 4 * np.arange(7), np.arange(6), np.zeros(6, int), np.ones(6, int)), 1)
    assert threading.main_thread() not in threads[1:]


def test_a_job_goes_on_with_the_graph_that_it_began_with(made, tmp_path):
    """Also where the fused copy is made in between."""
    directory = shutil.copytree(made, tmp_path / "out")
    shutil.rmtree(directory / "fused")
    numerics = ModelSpec(str(directory), runtime="onnx").load().numerics
    shutil.copytree(made / "fused", directory / "fused")
    assert ModelSpec(str(directory), runtime="onnx").load().numerics != numerics
    assert ModelSpec(str(directory)).pinned(numerics).load().numerics == numerics
    fused = ModelSpec(str(directory), runtime="onnx").load().numerics
    assert ModelSpec(str(directory)).pinned(fused).load().numerics == fused


def test_gates():
    good = Agreement(min_cosine=0.99995, mean_cosine=1.0, max_abs=0.1, neighbour_overlap=0.99)
    assert good.passes(GATES["f32"])
    assert not replace(good, min_cosine=0.99985).passes(GATES["f32"])
    assert replace(good, min_cosine=0.9995).passes(GATES["bf16"])
    assert not replace(good, min_cosine=0.9985).passes(GATES["fp16"])
    rough = Agreement(min_cosine=0.9, mean_cosine=0.996, max_abs=1.0, neighbour_overlap=0.96)
    assert rough.passes(GATES["int8"])
    assert not replace(rough, mean_cosine=0.994).passes(GATES["int8"])
    assert not replace(rough, neighbour_overlap=0.94).passes(GATES["int8"])
    assert not replace(good, max_abs=float("nan")).passes(GATES["int8"])


def test_the_reference_travels(tmp_path):
    runtime = HashRuntime()
    texts = ["the ferry left at seven", "", "left", "Zürich " * 30]
    reference = Reference.make(runtime, wordpiece(), texts, 32, 0)
    assert reference.lengths[0] == 32
    assert len(reference.states) == reference.tokens - 2 * len(reference.lengths)
    reference.save(tmp_path / "r.npz")
    loaded = Reference.load(tmp_path / "r.npz", 320)
    agreement = compare(HashRuntime(), loaded)
    assert agreement.max_abs == 0.0
    assert agreement.min_cosine == pytest.approx(1)
    assert agreement.neighbour_overlap == 1.0
    assert speed(runtime, loaded, 64) > 0
    for states in (loaded.alone(runtime), loaded.paired(runtime)):
        np.testing.assert_array_equal(states, loaded.states)


def test_overlap_against_a_loop():
    chance = np.random.default_rng(0)
    a = chance.standard_normal((40, 8)).astype(np.float32)
    b = (a + 0.3 * chance.standard_normal(a.shape)).astype(np.float32)

    def neighbours(x):
        cosines = (x @ x.T) / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(x, axis=1))
        return [set(sorted(set(range(40)) - {i}, key=lambda j: -cosines[i, j])[:10]) for i in range(40)]

    shared = [len(x & y) / 10 for x, y in zip(neighbours(a), neighbours(b), strict=True)]
    assert neighbour_overlap(a, b) == pytest.approx(np.mean(shared))
    assert neighbour_overlap(a, a) == 1.0


@pytest.mark.parametrize(
    ("paces", "tried"),
    [
        ({512: 5, 1024: 4, 256: 6, 128: 7}, [512, 1024, 256, 128]),
        ({512: 5, 1024: 5, 256: 4}, [512, 1024, 256]),
        ({512: 5, 1024: 6, 2048: 7, 4096: 6}, [512, 1024, 2048, 4096]),
        ({512: 1, 1024: 2, 2048: 3, 4096: 4, 8192: 5}, [512, 1024, 2048, 4096, 8192]),
    ],
)
def test_the_budget_is_tuned_towards_the_faster(paces, tried, monkeypatch):
    asked = []
    monkeypatch.setattr(parity, "speed", lambda runtime, reference, budget: asked.append(budget) or paces[budget])
    assert tuned_speeds(None, None) == paces
    assert asked == tried


@pytest.mark.usefixtures("tuning")
def test_the_fastest_is_tuned_first_and_the_others_while_time_is_left(made, cache, monkeypatch):
    paces, tuned = {"onnx": 1000.0, "openvino": 2000.0}, []

    def tuned_speeds(runtime, reference):
        tuned.append(runtime.name)
        return {512: paces[runtime.name], 1024: 3000.0}

    monkeypatch.setattr(selection, "speeds", lambda runtime, *_: {512: paces[runtime.name]})
    monkeypatch.setattr(selection, "tuned_speeds", tuned_speeds)
    names = [(name, RuntimeOptions(precision="f32", streams=1)) for name in paces]
    monkeypatch.setattr(selection, "_candidates", lambda model, options: iter(names))
    rows = measure(locate(str(made)), RuntimeOptions())
    assert tuned == ["openvino", "onnx"]
    assert [(row.runtime, row.best) for row in rows] == [("onnx", (1024, 3000.0)), ("openvino", (1024, 3000.0))]
    monkeypatch.setattr(selection, "_UNHURRIED", 0)
    tuned.clear()
    rows = measure(locate(str(made)), RuntimeOptions())
    assert tuned == ["openvino"]
    assert [row.best for row in rows] == [(512, 1000.0), (1024, 3000.0)]


def test_the_faster_number_of_streams_is_taken_and_pinned(made, cache, monkeypatch):
    """ONNX Runtime runs one batch at a time in all threads, or one in each thread."""
    paces = {1: 1000.0, 2: 1500.0}
    monkeypatch.setattr(selection, "speeds", lambda runtime, *_: {512: paces.get(runtime.streams, 1.0)})
    monkeypatch.setattr(
        selection, "_candidates", lambda model, options: iter([("onnx", replace(options, precision="f32"))])
    )
    encoder = load_encoder(str(made), runtime="onnx", threads=2)
    assert encoder.runtime.streams == encoder.numerics["streams"] == 2
    assert "2 threads in 2 streams" in encoder.runtime.description
    again = ModelSpec(str(made)).pinned(encoder.numerics).load()
    assert again.numerics == encoder.numerics
    paces[2] = 900.0
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(cache / "other"))
    slower = load_encoder(str(made), runtime="onnx", threads=2)
    assert slower.runtime.streams == 1
    assert "streams" not in slower.numerics  # as in stores that were made before there was a choice
    assert ModelSpec(str(made)).pinned(slower.numerics).load().numerics == slower.numerics
    vectors = [one.encode(["the ferry left at seven"])[0].vectors for one in (encoder, slower)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_streams_are_left_open_on_a_cpu_only(monkeypatch):
    from nuner_embed.runtimes import onnx

    assert onnx.OnnxRuntime.stream_counts(RuntimeOptions(device="cpu", threads=4)) == (1, 4)
    assert onnx.OnnxRuntime.stream_counts(RuntimeOptions(device="cpu", threads=4, streams=2)) == (2,)
    monkeypatch.setattr(onnx.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert onnx.OnnxRuntime.stream_counts(RuntimeOptions(threads=4)) == (0,)
