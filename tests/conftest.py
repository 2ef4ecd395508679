import atexit
import contextlib
import os
import shutil
import tempfile
from itertools import islice
from unittest import mock

import pytest
from command import run
from fakes import TOKENIZERS, TRAIN, tiny_model
from filelock import FileLock
from hypothesis import HealthCheck, settings

import nuner_embed
from nuner_embed.bundled import bundled_texts
from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import read_json
from nuner_embed.models.concept_facts import Calibration, ConceptFacts
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes import measurements, parity, selection, weights_selection

# what the tests measure of their tiny models is nobody else's business; processes that they start inherit it
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything reads it
if "PYTEST_XDIST_WORKER" not in os.environ:  # whose workers inherit it: what one of them measured, the others need not
    os.environ["NUNER_EMBED_CACHE"] = tempfile.mkdtemp(prefix="nuner-embed-tests-")
    atexit.register(shutil.rmtree, os.environ["NUNER_EMBED_CACHE"], ignore_errors=True)


# A process that is killed loses nothing that it wrote, synced or not; that files are synced is tested in test_files.py.
os.fsync = os.fstat
parity._PASSES = 1  # nobody looks at how fast something was here
_TUNED = selection._tuned
selection._tuned = lambda model, name, options, row, reference: row  # but for tests with the fixture `tuning`
weights_selection.has_bf16 = lambda: False  # torch runs in f32 on every processor, but for tests that ask for bf16
_WRITE = measurements.write_json


def _keep_the_first(path, rows):
    """Another worker's measurement of the same model would change the fastest runtime in the midst of a test."""
    with contextlib.suppress(OSError, NunerEmbedError, ValueError):
        if isinstance(read_json(path), list):
            return
    _WRITE(path, rows)


measurements.write_json = _keep_the_first
_CANDIDATES = selection._candidates  # of which the tests' default model takes the first, ONNX Runtime


def _take_a_share_of_the_cores() -> None:
    """Gives each of several test processes cores of its own: threads that wait for each other's cores take ages."""
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", ""), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if worker and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(ImportError):
            from nuner_embed.runtimes.openvino import ov

            ov.Core().available_devices  # noqa: B018  # it counts the cores once, and its tests want several
        cores = sorted(os.sched_getaffinity(0))
        number = int(worker.removeprefix("gw")) % len(cores)
        share = set(cores[number::workers]) or {cores[number]}
        os.sched_setaffinity(0, share)
        os.environ["OMP_NUM_THREADS"] = str(len(share))  # OpenMP counts all cores all the same


_ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
_take_a_share_of_the_cores()  # before torch, ONNX Runtime and the rest count the cores

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("default")


@pytest.fixture
def tuning(monkeypatch):
    """Lets the batch budget of a runtime be tuned, which the other tests need not wait for."""
    monkeypatch.setattr(selection, "_tuned", _TUNED)


@pytest.fixture
def all_cores():
    """Every core, for tests of what is done on several."""
    if not _ALL_CORES:
        yield
        return
    share = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _ALL_CORES)
    yield
    os.sched_setaffinity(0, share)


@pytest.fixture(scope="session", params=list(TOKENIZERS))
def any_tokenizer(request: pytest.FixtureRequest) -> TextTokenizer:
    """WordPiece, byte-level BPE with and without prefix space, Unigram with and without splitting first."""
    tokenizer: TextTokenizer = TOKENIZERS[request.param]()
    return tokenizer


@pytest.fixture(scope="session")
def default_model(tmp_path_factory):
    """The default model, exported once for all tests that only use it, whichever worker runs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    directory = folder / "default" / "model"
    with FileLock(folder / "default-model.lock"):
        if not directory.exists():
            directory.parent.mkdir()
            few = bundled_texts()[::24]  # to compare on: the gate itself is tested elsewhere
            with (
                mock.patch("nuner_embed.export.exporter.bundled_texts", return_value=few),
                mock.patch.object(selection, "_candidates", lambda *given: islice(_CANDIDATES(*given), 1)),
            ):
                run("export", "nuner-mini", "-o", directory, check=0)
    return directory


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """A tiny transformer with random weights, which no test changes."""
    return tiny_model("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def exported_bert(bert, tmp_path_factory):
    """The export of the tiny transformer, which no test changes."""
    directory = tmp_path_factory.mktemp("exported") / "out"
    nuner_embed.export_onnx(str(bert), directory)
    return directory


@pytest.fixture
def copy(bert, tmp_path):
    """A copy of the tiny transformer, to be changed."""
    return shutil.copytree(bert, tmp_path / "copy")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """An export with a concept encoder and a detector, as the default model; its numbers mean nothing."""
    folder = tmp_path_factory.mktemp("small")
    source = tiny_model("bert", folder / "source")
    concepts = tiny_model("bert", source / "concept_encoder", seed=1)
    weights = nuner_embed.load_encoder(str(source)).weights_sha256
    ConceptFacts(weights, "mean", {"scale": 20.0}, Calibration(20.0, -10.0, "a guess")).write(concepts)
    run("export", "source", "-o", "m", cwd=folder, check=0)
    (folder / "train.conll").write_text(TRAIN)
    run("probe", "train", "train.conll", "-o", "probe", "--model", "m", cwd=folder, check=0)
    (folder / "probe").rename(folder / "m" / "detector")
    return folder / "m"
