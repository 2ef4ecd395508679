"""OpenVINO without its telemetry.

Importing OpenVINO sends a message to its maker, unless the user has declined: from a process that is forked for it, and
with a folder made in the user's home, without which the import fails. OpenVINO does none of this where the package
`openvino_telemetry` is not installed, and here it is treated as if it were not.
"""

import importlib
import sys
from types import ModuleType

_PACKAGE = "openvino_telemetry"


def import_openvino() -> ModuleType:
    """OpenVINO's package; if something else has imported its telemetry before, as it is."""
    if _PACKAGE in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[_PACKAGE] = None  # type: ignore[assignment]  # importing it fails, as if it were not installed
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[_PACKAGE]
