"""Damages one file of an artefact, as accidents and strangers do; everything follows from a seeded generator."""

import hashlib
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from damage import BYTES, change_json, change_npy, change_safetensors, same_values


@dataclass(frozen=True)
class Mutation:
    """What was done.

    Attributes:
        kind: "flip", "truncate", "json", ...
        file: the changed file, relative to the artefact's folder's parent.
        what: in words, such as the place of a field and its new value.
        recomputed: checksums elsewhere in the artefact were made to agree.
        same: it says what it said: the same bytes by way of a link, or the same JSON with other white space.
    """

    kind: str
    file: str
    what: str
    recomputed: bool = False
    same: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.file}: {self.what}" + (", checksums recomputed" if self.recomputed else "")


def files_of(artefact: Path) -> list[Path]:
    """Every file of an artefact, which may be one file."""
    if artefact.is_file():
        return [artefact]
    return sorted(path for path in artefact.rglob("*") if path.is_file())


def mutate(artefact: Path, sentinel: Path, chance: random.Random, *, beside: tuple[str, ...] = ()) -> Mutation:
    """Changes one file of an artefact.

    Args:
        artefact: a folder or a file.
        sentinel: a folder outside it, which links are made to lead to; a copy of the changed file is put there.
        chance: the source of every choice.
        beside: names of further files of the artefact, next to it.
    """
    files = files_of(artefact) + [path for name in beside for path in files_of(artefact.parent / name)]
    path = _choose(files, chance)
    name = path.relative_to(artefact.parent).as_posix()
    if chance.random() < 0.12:
        kind, act = chance.choice(_PLACES)
        what = act(path, artefact, sentinel, chance)
        return Mutation(kind, name, what, same=what.endswith("elsewhere"))
    before = path.read_bytes()
    is_json = path.suffix in (".json", ".jsonl")
    if is_json and chance.random() < 0.75:
        kind, (what, after) = "json", change_json(before, path.suffix == ".jsonl", chance)
    elif path.suffix == ".npy" and chance.random() < 0.3:
        kind, (what, after) = "npy", change_npy(before, chance)
    elif path.suffix == ".safetensors" and chance.random() < 0.4:
        kind, (what, after) = "safetensors", change_safetensors(before, chance)
    else:
        kind, act = chance.choice(BYTES)
        what, after = act(before, files, chance)
    path.write_bytes(after)
    recomputed = chance.random() < 0.4 and after != before and recompute(artefact, path, before, after)
    return Mutation(kind, name, what, recomputed, is_json and same_values(before, after))


def _choose(files: list[Path], chance: random.Random) -> Path:
    """Metadata as often as all else: it says the most."""
    metadata = [path for path in files if path.suffix in (".json", ".jsonl")]
    return chance.choice(metadata if metadata and chance.random() < 0.5 else files)


def recompute(artefact: Path, changed: Path, before: bytes, after: bytes) -> bool:
    """Puts a file's new checksum and size in the place of the old, in all the artefact's JSON, and so on upwards."""
    if artefact.is_file():
        return False
    done, queue = False, [(changed, before, after)]
    for _ in range(6):
        if not queue:
            break
        path, old, new = queue.pop()
        was, now = hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest()
        for other in files_of(artefact):
            if other == path or other.suffix not in (".json", ".jsonl"):
                continue
            text = other.read_bytes()
            if was.encode() in text:
                changed_text = text.replace(was.encode(), now.encode())
                if len(old) != len(new):
                    changed_text = re.sub(rb"(:\s*)%d\b" % len(old), rb"\g<1>%d" % len(new), changed_text)
                other.write_bytes(changed_text)
                queue.append((other, text, changed_text))
                done = True
    return done


# Where a file is

Place = Callable[[Path, Path, Path, random.Random], str]


def _delete(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    path.unlink()
    return "gone"


def _folder(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / "mine.txt").write_text("mine\n")
        return "a folder with mine.txt"
    return "a folder"


def _fifo(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    path.unlink()
    os.mkfifo(path)
    return "a pipe"


def _link(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    target, what = sentinel / path.name, "a link to the same elsewhere"
    if chance.random() < 0.3:
        what, target = chance.choice(
            [
                ("zeros", Path("/dev/zero")),
                ("nothing", Path("/dev/null")),
                ("its folder", path.parent),
                ("itself", path),
            ]
        )
        what = f"a link to {what}"
    else:
        shutil.copy(path, target)
    path.unlink()
    path.symlink_to(target)
    return what


def _folder_link(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    """The folder that the file is in leads elsewhere, where more lies than the artefact's."""
    folder = path.parent
    if artefact.is_file() or not folder.is_relative_to(artefact):
        return _link(path, artefact, sentinel, chance)
    if folder == artefact:  # that one may be a link, as any folder that somebody names
        inner = [one for one in sorted(folder.iterdir()) if one.is_dir()]
        if not inner:
            return _link(path, artefact, sentinel, chance)
        folder = chance.choice(inner)
    target = sentinel / folder.name
    shutil.copytree(folder, target, dirs_exist_ok=True)
    (target / "thesis").mkdir(exist_ok=True)
    (target / "thesis" / "chapter.txt").write_text("mine\n")
    shutil.rmtree(folder)
    folder.symlink_to(target)
    return f"{folder.name} a link to a folder elsewhere"


def _huge(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    if path.suffix in (".gz", ".zst"):  # zeros behind such a file are padding, of which Python reads a byte at a time
        os.truncate(path, 8 << 20)
        return "8 MiB, a hole"
    os.truncate(path, 3 << 30)
    return "3 GiB, a hole"


def _unreadable(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    path.chmod(0)
    return "mode 000"


def _foreign(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    """A file of the user's within the artefact, under a name that could be taken for one of ours."""
    folder = path.parent if artefact.is_dir() else artefact.parent
    name = chance.choice(["mine.txt", "training/thesis.txt", "segments/mine/chapter.txt", "mine.bin", ".old/mine.txt"])
    mine = folder / name
    if any(parent.exists() and not parent.is_dir() for parent in mine.parents):
        return "nothing"
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine\n")
    return f"{name} beside it"


def _planted(path: Path, artefact: Path, sentinel: Path, chance: random.Random) -> str:
    """A link, under a name that a command writes, to a file that is not the command's."""
    folder = artefact if artefact.is_dir() else artefact.parent
    names = [
        ".lock",
        ".writer.json",
        "coverage.jsonl",
        "journal.jsonl",
        "rejects.jsonl",
        "manifest.json.tmp",
        "manifest.json",
        "segments",
        "tombstones-000003.npy",
        "training",
        "README.md",
        "verify.json",
        "fused",
        "probe.json.tmp",
        f"{artefact.stem}.report.json",
        f"{artefact.stem}.replies.jsonl",
        "segments/00002",
        "state.safetensors",
    ]
    name = chance.choice(names)
    target = sentinel / "victim"
    if "." not in name.lstrip("."):
        (target / "thesis").mkdir(parents=True)
        (target / "thesis" / "chapter.txt").write_text("mine\n")
    else:
        target.write_text("mine\n")
    planted = folder / name
    if os.path.lexists(planted) or not planted.parent.is_dir():
        return "nothing"
    planted.symlink_to(target)
    return f"{name} beside it, a link to something of the user's"


_PLACES: tuple[tuple[str, Place], ...] = (
    ("delete", _delete),
    ("delete", _delete),
    ("folder", _folder),
    ("fifo", _fifo),
    ("link", _link),
    ("link", _link),
    ("folder link", _folder_link),
    ("huge", _huge),
    ("unreadable", _unreadable),
    ("foreign", _foreign),
    ("planted", _planted),
    ("planted", _planted),
)
