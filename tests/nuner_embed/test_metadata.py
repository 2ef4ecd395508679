"""Metadata on disk ends in a value of its type, or in one line that names the file and the field."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from nuner_embed import metadata
from nuner_embed.errors import StoreError
from nuner_embed.files import parse_json, read_json
from nuner_embed.metadata import Count, FileName, Fraction, Sha256


@dataclass(frozen=True)
class Part:
    name: FileName
    rows: Count
    sha256: dict[str, Sha256]


@dataclass(frozen=True)
class Facts:
    parts: tuple[Part, ...]
    share: Fraction
    note: str | None = None


GOOD = '{"schema_version": 3, "parts": [{"name": "a", "rows": 1, "sha256": {"npy": "%s"}}], "share": 0.5}' % ("0" * 64)


def read(path: Path) -> Facts:
    return metadata.read(path, Facts, version=3, error=StoreError, what="facts", cure="make them anew")


def test_what_fits_is_read(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(GOOD)
    assert read(tmp_path / "facts.json") == Facts((Part("a", 1, {"npy": "0" * 64}),), 0.5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"rows": 1', '"rows": "1"', r"parts\[0\]\.rows: expected int, got str"),
        ('"rows": 1', '"rows": true', r"parts\[0\]\.rows: expected int, got bool"),
        ('"rows": 1', '"rows": -1', r"parts\[0\]\.rows: expected int >= 0"),
        ('"rows": 1', '"rows": 1e400', r"parts\[0\]\.rows: expected int, got float"),
        ('"rows": 1', '"rows": 99999999999999999999999', r"parts\[0\]\.rows"),
        ('"rows": 1, ', "", r"parts\[0\]: object missing required field rows"),
        ('"a"', '"../a"', r"parts\[0\]\.name: expected str matching"),
        ('"a"', '".."', r"parts\[0\]\.name: expected str matching"),
        ("000", "xyz", r"parts\[0\]\.sha256\[\.\.\.\]: expected str matching"),
        ("0.5", "NaN", "share: expected float"),
        ("0.5", "1.5", "share: expected float <= 1"),
        ('"share": 0.5', '"share": 0.5, "note": {}', "note: expected str | null, got object"),
        ('{"schema_version": 3, ', "{", "is not facts"),
        ('"schema_version": 3', '"schema_version": 3.0', "has schema version 3.0, this program reads 3"),
        ('"schema_version": 3', '"schema_version": [3]', "has schema version"),
        ("}]", "}", "cannot be read as facts"),
        (GOOD, "", "cannot be read as facts"),
        (GOOD, "[]", "is not facts"),
        (GOOD, "[" * 5000, "nested more than 100 levels deep"),
        (GOOD, "9" * 5000, "cannot be read as facts"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = tmp_path / "facts.json"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(StoreError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("make them anew")
    assert "\n" not in str(caught.value)


def test_pipes_devices_and_large_files_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_json(Path("/dev/zero"))
    (tmp_path / "large").write_text("1" * 100)
    with pytest.raises(ValueError, match="at most"):
        read_json(tmp_path / "large", limit=99)


def test_depth_counts_brackets_outside_strings() -> None:
    assert parse_json('["' + "[" * 500 + '\\"[["]') == ["[" * 500 + '"[[']
    assert len(parse_json("[" + "[],{}," * 500 + "1]")) == 1001
    assert parse_json("[" * 100 + "]" * 100)
    for deep in ("[" * 101 + "]" * 101, '{"a":' * 101 + "1" + "}" * 101):
        with pytest.raises(ValueError, match="nested"):
            parse_json(deep)
