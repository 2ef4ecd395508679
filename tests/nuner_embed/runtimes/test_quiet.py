"""Loading and running models prints nothing, and sends nothing anywhere."""

import logging
import os
import subprocess
import sys

import pytest
from fakes import tiny_model
from transformers.utils import logging as transformers_logging

from nuner_embed import Document, export_onnx, load_encoder
from nuner_embed.models.resolver import locate
from nuner_embed.pretraining.parts import save_network
from nuner_embed.runtimes.torch import load_network, quiet_transformers


def test_loading_saving_and_exporting_print_nothing(tmp_path, capfd):
    base = locate(str(tiny_model("bert", tmp_path / "bert")))
    capfd.readouterr()
    load_encoder(str(tmp_path / "bert"), runtime="torch").encode([Document("a", "the ferry left at seven")])
    save_network(base, load_network(base), tmp_path / "saved")
    export_onnx(str(tmp_path / "bert"), tmp_path / "exported")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bars", [True, False])
def test_it_leaves_the_log_and_the_progress_bars_as_they_were(monkeypatch, bars):
    log = logging.getLogger("transformers")
    level = log.level
    monkeypatch.setattr(transformers_logging, "_tqdm_active", bars)

    def fail():
        with quiet_transformers():
            assert not transformers_logging.is_progress_bar_enabled()
            raise OSError("in between")

    with pytest.raises(OSError, match="in between"):
        fail()
    assert transformers_logging.is_progress_bar_enabled() is bars
    assert log.level == level


def test_openvino_is_imported_without_its_telemetry_and_without_a_home(tmp_path):
    pytest.importorskip("openvino_telemetry")
    code = """
import os, pathlib, sys
from nuner_embed.runtimes import openvino
assert openvino.ov is openvino.import_openvino() is sys.modules["openvino"]
assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]
print(openvino.ov.Core().available_devices)
"""
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "CPU" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []  # the telemetry's first act is a folder in the home folder
