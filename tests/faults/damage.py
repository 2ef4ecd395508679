"""Damage to the bytes of a file: blind, or knowing JSON, NumPy's and safetensors' headers."""

import json
import random
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DEEP = "\u241edeep\u241e"  # stands for what Python's own JSON writer cannot write
_LITERALS = {"\u241enan\u241e": "NaN", "\u241einf\u241e": "-Infinity", "\u241ehuge\u241e": "1e999"}
_NESTED = "[" * 50_000 + "]" * 50_000

Changed = tuple[str, bytes]


def _place(data: bytes, chance: random.Random) -> int:
    """Anywhere, but more often near the beginning or the end, where headers and footers are."""
    if not data:
        return 0
    where = chance.random()
    if where < 0.3:
        return chance.randrange(min(len(data), 160))
    if where < 0.5:
        return len(data) - 1 - chance.randrange(min(len(data), 1000))
    return chance.randrange(len(data))


def flip(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    if not data:
        return append(data, files, chance)
    changed, places = bytearray(data), [_place(data, chance) for _ in range(chance.choice([1, 1, 1, 4, 32]))]
    for place in places:
        changed[place] ^= 1 << chance.randrange(8)
    return f"bits at {places[:4]}", bytes(changed)


def _integer(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    """What sizes and counts in binary headers are."""
    place = _place(data, chance)
    value = chance.choice([0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, -(2**63), 255])
    raw = struct.pack("<q", value) if chance.random() < 0.5 else struct.pack("<I", value & 0xFFFFFFFF)
    return f"{value} as {len(raw)} bytes at {place}", data[:place] + raw + data[place + len(raw) :]


def _truncate(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    left = chance.choice([0, max(len(data) - 1, 0), len(data) // 2, _place(data, chance)])
    return f"to {left} of {len(data)} bytes", data[:left]


def append(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    more = chance.choice([b"\n", b"\0", b"\0" * 5000, chance.randbytes(100), data, b'{"a": 1}\n', b"garbage\n"])
    return f"{len(more)} bytes: {more[:20]!r}", data + more


def _zero(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    place = _place(data, chance)
    size = min(chance.choice([1, 16, 512, 4096, len(data)]), len(data) - place)
    return f"{size} bytes at {place}", data[:place] + bytes(size) + data[place + size :]


def _cut_out(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    place, size = _place(data, chance), chance.choice([1, 8, 512])
    return f"{size} bytes at {place}", data[:place] + data[place + size :]


def _random(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    size = chance.choice([1, 100, len(data), 3000])
    return f"{size} random bytes in place of all", chance.randbytes(size)


def _other(data: bytes, files: list[Path], chance: random.Random) -> Changed:
    other = chance.choice(files)
    return f"with the content of {other.name}", other.read_bytes()


BYTES: tuple[tuple[str, Callable[[bytes, list[Path], random.Random], Changed]], ...] = (
    ("flip", flip),
    ("flip", flip),
    ("flip", flip),
    ("integer", _integer),
    ("truncate", _truncate),
    ("truncate", _truncate),
    ("append", append),
    ("zero", _zero),
    ("cut out", _cut_out),
    ("random", _random),
    ("swap", _other),
)


def change_json(data: bytes, lines: bool, chance: random.Random) -> Changed:
    """One field anywhere is changed, removed, renamed or doubled."""
    try:
        records = [json.loads(line) for line in data.splitlines()] if lines else [json.loads(data)]
    except ValueError:
        return flip(data, [], chance)
    if not records:
        return append(data, [], chance)
    number = chance.randrange(len(records))
    places = list(_places(records[number], ()))
    place = chance.choice(places)
    if not place:
        records[number], what = _value(records[number], chance)
        where = "the whole"
    else:
        parent = records[number]
        for key in place[:-1]:
            parent = parent[key]
        where = ".".join(map(str, place))
        what = _change(parent, place[-1], chance)
    text = "".join(_dump(record, None if lines else 2) + "\n" for record in records)
    return f"line {number + 1}, {where}: {what}" if lines else f"{where}: {what}", text.encode("utf-8", "surrogatepass")


def same_values(one: bytes, other: bytes) -> bool:
    """Whether two JSON texts say the same, whatever white space they have."""
    try:
        return repr(_parsed(one)) == repr(_parsed(other))
    except (ValueError, RecursionError):
        return False


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def _dump(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent).replace(f'"{_DEEP}"', _NESTED)
    for sign, literal in _LITERALS.items():
        text = text.replace(f'"{sign}"', literal)
    return text


def _places(value: Any, at: tuple[Any, ...]) -> Any:
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _places(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:6]):
            yield from _places(inner, (*at, number))


def _change(parent: Any, key: Any, chance: random.Random) -> str:
    how = chance.random()
    if how < 0.1:
        del parent[key]
        return "removed"
    if how < 0.15 and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
        return "renamed"
    if how < 0.18 and isinstance(parent, list):
        parent.insert(key, parent[key])
        return "doubled"
    if how < 0.2 and isinstance(parent, list):
        parent.extend(parent * 2000)
        return "2,000 times as long"
    parent[key], what = _value(parent[key], chance)
    return what


def _value(value: Any, chance: random.Random) -> tuple[Any, str]:
    fresh: list[Any] = [
        None,
        True,
        False,
        0,
        1,
        -1,
        3,
        0.5,
        -0.0,
        2**31,
        2**53 + 1,
        2**63,
        2**64,
        10**30,
        "",
        "x",
        [],
        {},
        [[]],
        {"a": 1},
        ["x"],
        [None],
        "\u241enan\u241e",
        "\u241einf\u241e",
        "\u241ehuge\u241e",
        _DEEP,
        "x" * 100_000,
        "../../sentinel/victim",
        "/etc/passwd",
        "..",
        "a/b",
        "a\0b",
        "\x1b[31mred\x1b[0m\x07",
        "\u202eevil\u061c",
        "\ud800",
        "\n\nError: all is well\n",
        "https://example.invalid/model",
        "example/model",
        "1",
        "0" * 64,
        "é" * 300,
        "=cmd|' /C calc'!A1",
    ]
    if isinstance(value, bool):
        near: list[Any] = [not value]
    elif isinstance(value, int | float):
        near = [value + 1, value - 1, -value, value * 1000, float(value), str(value), value + 0.5]
    elif isinstance(value, str):
        near = [
            value + "x",
            value[:-1],
            value.upper(),
            value[::-1],
            f"../{value}",
            f"{value}\x1b[2J",
            [value],
            value * 1000,
        ]
    else:
        near = [[value], [value, value], str(value)]
    new = chance.choice(near if chance.random() < 0.35 else fresh)
    return new, f"{value!r:.40} becomes {new!r:.60}"


def change_npy(data: bytes, chance: random.Random) -> Changed:
    """Another header over the same numbers."""
    header = re.search(rb"\{.*?\}", data[:200], re.DOTALL)
    if not header or data[:6] != b"\x93NUMPY":
        return flip(data, [], chance)
    shape = chance.choice(
        [b"(1, 8)", b"(1099511627776, 16)", b"(-1, 16)", b"()", b"(0, 16)", b"(4, 4, 4)", b"(100000000,)"]
    )
    dtype = chance.choice(
        [b"'<f2'", b"'<f4'", b"'>f2'", b"'|O'", b"'<i8'", b"[('a', '<f2')]", b"'<U100000000'", b"'|V16'"]
    )
    which = chance.randrange(3)
    text = header[0]
    if which != 1:
        text = re.sub(rb"'shape': \([^)]*\)", lambda _: b"'shape': " + shape, text)
    if which != 0:
        text = re.sub(rb"'descr': '[^']*'", lambda _: b"'descr': " + dtype, text)
    if chance.random() < 0.1:
        text = b"(" * 3000
    room = struct.unpack("<H", data[8:10])[0]
    body = text.ljust(room - 1) + b"\n"
    start = data[:8] + struct.pack("<H", min(len(body), 65535))
    return f"header {text[:90]!r}", start + body + data[10 + room :]


def change_safetensors(data: bytes, chance: random.Random) -> Changed:
    """Another header over the same numbers."""
    size = struct.unpack("<Q", data[:8])[0] if len(data) > 8 else 0
    if not 0 < size < len(data):
        return flip(data, [], chance)
    what, header = change_json(data[8 : 8 + size].rstrip(), False, chance)
    return f"header, {what}", struct.pack("<Q", len(header)) + header + data[8 + size :]
