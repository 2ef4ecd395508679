"""Nothing that is installed beside the package sends anything anywhere."""

import os
import subprocess
import sys

import pytest


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
