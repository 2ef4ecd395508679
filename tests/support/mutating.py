"""Damages to a directory of ours, drawn at random, as a disk, a program or a stranger may do them."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

_ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    2**70,
    1.5,
    1e308,
    "",
    "x",
    "../x",
    "/etc/passwd",
    "a\x1b[31m",
    [],
    {},
    [[]],
]
_HEADERS = [
    b"{'descr': '|O', 'fortran_order': False, 'shape': (3, 8), }",
    b"{'descr': '<f2', 'fortran_order': True, 'shape': (3, 8), }",
    b"{'descr': '<f2', 'fortran_order': False, 'shape': (1000000000000, 8), }",
    b"{'descr': '<f2', 'fortran_order': False, 'shape': (-1, 8), }",
    b"{'descr': '<f2', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
    b"{'descr': '<f2', 'fortran_order': False, 'shape': (), }",
    b"{'descr': [('a', '<f2')], 'fortran_order': False, 'shape': (3, 8), }",
    b"{'descr': '<U9', 'fortran_order': False, 'shape': (3, 8), }",
    b"{'descr': '<f2', 'fortran_order': False, 'shape': ((((((",
    b"{" * 90,
]


def mutate(directory: Path, chance: random.Random, kinds: tuple[str, ...] = ()) -> str:
    """Damages one file of a directory; says what was done.

    Args:
        directory: with files.
        chance: draws.
        kinds: of damage to draw from; all of them if none is named.
    """
    path = chance.choice(sorted(path for path in directory.rglob("*") if path.is_file() and path.stat().st_size))
    applicable = ["flip", "flips", "truncate", "append", "zero", "delete", "folder", "pipe", "link", "empty", "swap"]
    applicable += ["json"] * 8 if path.suffix in (".json", ".jsonl") else []
    applicable += ["header"] * 4 if path.suffix == ".npy" else []
    kind = chance.choice([kind for kind in applicable if not kinds or kind in kinds] or ["flip"])
    data = bytearray(path.read_bytes())
    place = chance.randrange(len(data))
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else 20):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == "truncate":
        del data[place:]
    elif kind == "append":
        data += bytes(chance.randrange(256) for _ in range(9))
    elif kind == "zero":
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == "empty":
        data.clear()
    elif kind == "header":
        header = chance.choice(_HEADERS)
        data[10:128] = header.ljust(117)[:117] + b"\n"
    elif kind == "json":
        what = _mutate_json(data, path, chance)
        path.write_bytes(data)
        return f"{path.name}: {what}"
    elif kind == "swap":
        other = chance.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
        data[:] = other.read_bytes()
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(chance.choice([path.name, "nowhere", "/dev/zero", "/dev/full", "/etc/hostname", "."]))
        return f"{path.name}: {kind}"
    path.write_bytes(data)
    return f"{path.name}: {kind} at {place} of {len(data)}"


def _mutate_json(data: bytearray, path: Path, chance: random.Random) -> str:
    """Changes, removes or adds a value of a JSON file, or of a line of one."""
    lines = bytes(data).split(b"\n") if path.suffix == ".jsonl" else [bytes(data)]
    number = chance.randrange(max(1, len(lines) - 1))
    values = json.loads(lines[number])
    places = list(_places(values))
    holder, key = chance.choice(places)
    old, new = holder[key], chance.choice([*_ODD, "nested", "delete", "add"])
    if new == "delete":
        del holder[key]
    elif new == "add" and isinstance(holder, dict):
        holder["more"] = 1
    elif new == "nested":
        holder[key] = "NESTED"
    elif isinstance(old, int) and chance.random() < 0.5:
        holder[key] = new = old + chance.choice([-1, 1, 1000])
    else:
        holder[key] = new
    text = json.dumps(values, indent=None if path.suffix == ".jsonl" else 2, ensure_ascii=False)
    lines[number] = text.replace('"NESTED"', "[" * 20000 + "]" * 20000).encode()
    data[:] = b"\n".join(lines) + (b"" if path.suffix == ".jsonl" else b"\n")
    return f"{key!r} was {old!r:.40}, is {new!r:.40}"


def _places(value: Any) -> Any:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from _places(inner)


def copied(directory: Path, target: Path) -> Path:
    """A fresh copy of a directory in the place of another, whatever became of that."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(directory, target)
    return target
