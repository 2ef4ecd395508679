import numpy as np
import onnxruntime
import pytest

from nuner_embed.doctor import _ONE_NODE, clashes, diagnose


@pytest.mark.parametrize(
    ("owners", "mend"),
    [
        (
            {"onnxruntime": ["onnxruntime-gpu", "onnxruntime"]},
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        ),
        ({"faiss": ["faiss_cpu", "faiss-gpu"]}, "pip uninstall -y faiss-cpu faiss-gpu && pip install faiss-gpu"),
        ({"faiss": ["faiss-cpu", "faiss-gpu-cu12"], "numpy": ["numpy"]}, "pip install faiss-gpu-cu12"),
    ],
)
def test_two_wheels_of_one_module_are_found_with_their_mend(owners, mend):
    (problem,) = clashes(owners)
    assert problem.endswith(mend)


def test_one_wheel_of_each_is_fine():
    assert clashes({"onnxruntime": ["onnxruntime", "onnxruntime"], "faiss": ["faiss-cpu"]}) == []


def test_the_one_node_graph_runs():
    session = onnxruntime.InferenceSession(_ONE_NODE, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": np.float32([7])})[0], [7])


def test_the_diagnosis_is_of_this_machine():
    found = diagnose()
    assert found.providers_running[-1] == "CPUExecutionProvider"
    assert found.versions["onnxruntime"] == onnxruntime.__version__
    assert found.memory_bytes > 2**28


def test_a_provider_that_a_session_does_not_get_is_a_problem(monkeypatch):
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda graph, options, providers: real(graph, options, providers=providers[1:])
    )
    assert any("a session did not get it" in problem for problem in diagnose().problems)
