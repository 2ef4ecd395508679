"""Looks into a wheel: python tests/support/wheel_contents.py dist/*.whl."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# folder of the checkout -> place in an installation
MAPPING = {
    "nuner_embed": "nuner_embed",
    "cli": "nuner_embed/cli",
    "export": "nuner_embed/export",
    "indexes": "nuner_embed/indexes",
}
SUFFIXES = (".py", ".typed", ".jsonl", ".txt", ".html", ".svg", ".onnx")
SHIPPED = "nuner_embed/bundled/nuner_*/**/*"


def expected_files(root: Path = ROOT) -> set[str]:
    """What an installation must hold: modules, the typing marker, templates, small graphs, a corpus, the models."""
    shipped = set(root.glob(SHIPPED))
    return {
        f"{place}/{path.relative_to(root / folder).as_posix()}"
        for folder, place in MAPPING.items()
        for path in (root / folder).rglob("*")
        if path.suffix in SUFFIXES or (path.is_file() and path in shipped)
    }


def problems(wheel: Path) -> list[str]:
    """What is missing from a wheel or has no business in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    code = names - info
    wanted = expected_files()
    found = [f"missing: {name}" for name in sorted(wanted - code)]
    found += [f"not expected: {name}" for name in sorted(code - wanted)]
    for name in ("licenses/LICENSE", "licenses/NOTICE", "entry_points.txt"):
        if not any(entry.endswith(name) for entry in info):
            found.append(f"missing: {name}")
    return found


if __name__ == "__main__":
    wheels = [Path(name) for name in sys.argv[1:]]
    complaints = [f"{wheel.name}: {line}" for wheel in wheels for line in problems(wheel)]
    print("\n".join(complaints) or f"{', '.join(wheel.name for wheel in wheels)}: all there")
    sys.exit(bool(complaints) or not wheels)
