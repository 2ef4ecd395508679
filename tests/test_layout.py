"""The house: folders, layers, and what lands in a wheel."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from wheel_contents import MAPPING, ROOT, problems

SOURCES = [path for folder in MAPPING for path in (ROOT / folder).rglob("*.py")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def test_every_package_is_listed():
    folders = {
        ".".join([*MAPPING[room(path)].split("/"), *path.relative_to(ROOT).parts[1:-1]])
        for path in SOURCES
        if path.name == "__init__.py"
    }
    assert folders == set(PROJECT["tool"]["setuptools"]["packages"])


def test_no_module_clashes_with_a_mapped_folder():
    for name in ("cli", "export", "indexes"):
        assert not (ROOT / "nuner_embed" / f"{name}.py").exists()
        assert not (ROOT / "nuner_embed" / name).exists()


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("nuner_embed", ["nuner_embed.cli", "nuner_embed.export", "nuner_embed.indexes", "click", "rich"]),
        ("export", ["nuner_embed.cli", "nuner_embed.indexes", "click", "rich"]),
        ("indexes", ["nuner_embed.cli", "nuner_embed.export", "click", "rich"]),
    ],
)
def test_layers(folder, forbidden):
    for path in SOURCES:
        if room(path) != folder or path == ROOT / "nuner_embed" / "__init__.py":  # the lazy front door
            continue
        wrong = [name for name in imports(path) if any(name == f or name.startswith(f + ".") for f in forbidden)]
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_no_mapped_folder_is_imported_by_its_bare_name():
    bare = re.compile(r"^\s*(?:from|import)\s+(?:cli|export|indexes)\b", re.MULTILINE)
    for path in [*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/*.py")]:
        assert not bare.search(path.read_text()), path


def test_stages_read_in_the_order_of_the_data():
    order = [
        "errors",
        "files",
        "cache",
        "machine",
        "documents",
        "tags",
        "corpora",
        "annotation",
        "models",
        "runtimes",
        "encoders",
        "store",
        "jobs",
        "heads",
        "evaluation",
        "pretraining",
        "serving",
        "integrations",
    ]
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] != "nuner_embed" or parts[1] not in order:
            continue
        for name in imports(path):
            target = name.split(".")
            if target[0] == "nuner_embed" and len(target) > 1 and target[1] in order:
                assert order.index(target[1]) <= order.index(parts[1]), f"{'/'.join(parts)} imports {name}"


def test_no_two_files_of_neighbouring_rooms_are_named_alike():
    """Commands may be called as the rooms' files are."""
    names = [path.name for path in SOURCES if room(path) != "cli" and path.name not in ("__init__.py", "base.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_files_stay_small():
    assert [f"{path}" for path in SOURCES if len(path.read_text().splitlines()) > 400] == []


def test_nothing_is_pickled():
    for path in SOURCES:
        assert not {"pickle", "joblib", "dill"} & imports(path), path
        assert "allow_pickle=True" not in path.read_text()


def test_extras_keep_cpu_and_gpu_apart():
    extras = PROJECT["project"]["optional-dependencies"]
    names = {extra: {re.split(r"[<>=]", entry)[0] for entry in entries} for extra, entries in extras.items()}
    assert names["cpu"] == {"onnxruntime", "faiss-cpu"}
    assert names["gpu"] == {"onnxruntime-gpu", "faiss-gpu"}
    for extra in set(names) - {"cpu", "gpu"}:
        assert not names[extra] & (names["cpu"] | names["gpu"]), extra


@pytest.mark.slow
@pytest.mark.parametrize("forgotten", [None, "nuner_embed.corpora"])
def test_the_wheel_holds_everything_and_nothing_else(tmp_path, forgotten):
    source = tmp_path / "source"
    source.mkdir()
    for name in (*MAPPING, "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        path = ROOT / name
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(path, source / name, ignore=ignore) if path.is_dir() else shutil.copy(path, source / name)
    if forgotten:
        project = (source / "pyproject.toml").read_text()
        (source / "pyproject.toml").write_text(project.replace(f'    "{forgotten}",\n', ""))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "out").glob("*.whl")
    found = problems(wheel)
    if forgotten:
        assert "missing: nuner_embed/corpora/__init__.py" in found
    else:
        assert found == []


def test_every_bound_is_documented():
    from nuner_embed import limits

    page = (ROOT / "SECURITY.md").read_text()
    bounds = [name for name in vars(limits) if name.isupper() and name != "MIB"]
    assert len(bounds) > 30
    assert [name for name in bounds if f"`{name}`" not in page] == []
