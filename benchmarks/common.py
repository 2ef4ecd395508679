"""The parts that all benchmarks share: the data, the description of the machine, and the writing of results."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nuner_embed import export_onnx
from nuner_embed.machine import cores, cpu_features, cpu_name, memory_bytes
from nuner_embed.models.resolver import locate

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("NUNER_EMBED_DATA", ROOT.parent / "shared" / "data"))
WORK = ROOT / "benchmarks" / "work"
RESULTS = ROOT / "benchmarks" / "results"


def exported(model: str, directory: Path, layers: tuple[int, ...] = (-1,), precision: str = "fp32") -> str:
    """A directory with the exported model, written again if the model has changed since."""
    if not directory.exists() or locate(str(directory)).weights_sha256 != locate(model).weights_sha256:
        export_onnx(model, directory, layers=layers, precision=precision, force=True)
    return str(directory)


def data_file(name: str) -> Path:
    """The path of a file of a data set; ends the program with one line if the file is missing."""
    path = DATA / name
    if not path.exists():
        raise SystemExit(f"{path} is not there; name the folder of the data sets with NUNER_EMBED_DATA")
    return path


def machine(*packages: str) -> dict[str, Any]:
    """The machine and the versions of packages, to be printed with every figure."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "features": cpu_features(),
        "cores": cores(),
        "memory_gb": round(memory_bytes() / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "commit": commit.stdout.strip() or None,
    }


def keep(name: str, result: dict[str, Any], table: str) -> None:
    """Writes a result as JSON and as a Markdown table to benchmarks/results/, and prints the table."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    where = result["machine"]
    versions = ", ".join(f"{key} {value}" for key, value in where["versions"].items())
    head = f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {versions}; {where['date']}\n\n"
    (RESULTS / f"{name}.md").write_text(head + table)
    print(head + table)
