"""Whatever is changed in an index: one line, never a traceback, a crash, or a verification that passes."""

import hashlib
import json
import os
import random
import shutil

import faiss
import numpy as np
import pytest
from children import in_child
from stores import make_store

from nuner_embed.errors import NunerEmbedError
from nuner_embed.files import hash_of
from nuner_embed.indexes import Index, find

VALUES = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 0.5, 1e300, "", "x", "../x", "\x1b[31m", [], [1], {}, {"a": 1}]
# A change of what no other file says, such as the name of the model, can be told by nobody who makes the checksum too.
_FREE = frozenset({
    "model", "why", "kind", "target_recall", "max_memory", "generation", "stores", "numeric_hashes", "trials", "recall",
    "how",     "semantic_hash", "recipe", "parts",
})  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An index of two segments, of which rows were removed, and a store to add."""
    faiss.omp_set_num_threads(1)  # the children are forked
    folder = tmp_path_factory.mktemp("mutations")
    store = make_store(folder / "store", 1, documents=2)
    index = Index.build(store, folder / "index", kind="IVF4,PQ4x4fsr")
    index.add(make_store(folder / "other", 2, documents=1))
    index.remove([3, 5])
    more = Index.build(store, folder / "graph", kind="HNSW8")
    flat = Index.build(store, folder / "flat", kind="PCA8,IVF4,SQ8")
    return store, [index.path, more.path, flat.path]


def _places(value, path=()):
    """Every place of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _mutate_manifest(path, chance):
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    place = chance.choice([place for place in _places(manifest) if place])
    inner = manifest
    for key in place[:-1]:
        inner = inner[key]
    before = json.dumps(inner[place[-1]])
    deleted = chance.random() < 0.2
    if deleted:
        del inner[place[-1]]
    elif isinstance(inner[place[-1]], int) and chance.random() < 0.5:
        inner[place[-1]] += chance.choice([-1, 1])
    else:
        inner[place[-1]] = chance.choice(VALUES)
    path.write_text(json.dumps({**manifest, "sha256": hash_of(manifest)}))
    harmless = (deleted and before in ("null", "0", "[]")) or bool(_FREE.intersection(place))
    after = "nothing" if deleted else json.dumps(inner[place[-1]])
    return f"manifest {place} {before:.40} -> {after:.40}", before == after or harmless


def _mutate_file(path, chance):
    data = bytearray(path.read_bytes())
    how = chance.choice(["flip", "set", "long", "cut", "grow", "remove", "folder", "pipe", "link", "swap", "sealed"])
    place = chance.randrange(min(len(data), 400)) if chance.random() < 0.5 else chance.randrange(len(data))
    if how in ("remove", "folder", "pipe", "link"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
        elif how == "link":
            path.symlink_to("/dev/zero")
        return f"{path.name} {how}", False
    before = bytes(data)
    if how == "cut":
        del data[place:]
    elif how == "grow":
        data += b"x"
    elif how == "long":
        data[place : place + 8] = chance.choice([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", (1 << 40).to_bytes(8)])
    elif how == "set":
        data[place] = chance.choice([0, 1, 127, 128, 255])
    elif how == "swap":
        data = bytearray(bytes(chance.randrange(256) for _ in range(len(data))))
    else:
        data[place] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
    return f"{path.name} {how} at {place} of {len(before)}", bytes(data) == before


def _reseal(folder):
    """A stranger makes the checksums too."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["segments"]:
        for name, facts in entry["files"].items():
            file = folder / "segments" / entry["name"] / name
            if file.is_file() and not file.is_symlink():
                data = file.read_bytes()
                facts["bytes"] = len(data)
                facts["sha256"] = hashlib.sha256(data).hexdigest()
    if manifest["tombstones"] and (folder / manifest["tombstones"]).is_file():
        data = (folder / manifest["tombstones"]).read_bytes()
        manifest["tombstones_sha256"] = hashlib.sha256(data).hexdigest()
    del manifest["sha256"]
    path.write_text(json.dumps({**manifest, "sha256": hash_of(manifest)}))


def _use(folder, store):
    """Every operation; each may end in an error of ours."""
    said = []

    def attempt(call):
        try:
            return call()
        except NunerEmbedError as error:
            said.append(str(error))
            return None

    def search(index):
        query = np.linspace(-1, 1, index.bundle.dim)
        find(index, query, 5, filter="start >= 0 and text <> ''", unique="surface", exclude=[{"a"}])
        index.search(query, 700)
        index.vectors(index.ids()[:9])
        index.rows(index.ids(), texts=True)

    def facts():
        from nuner_embed.cli.index import _facts, show_index

        with Index.open(folder) as index:
            json.dumps(_facts(index))
            show_index(index)

    passed = attempt(lambda: Index.open(folder).verify())
    attempt(facts)
    attempt(lambda: search(Index.open(folder)))
    attempt(lambda: Index.open(folder).remove([7]))
    attempt(lambda: Index.open(folder).remove_where("text > 'm'"))
    attempt(lambda: Index.open(folder).add(store, again=True))
    attempt(lambda: Index.open(folder).compact())
    attempt(lambda: search(Index.open(folder)))
    assert not [words for words in said if "\n" in words], said
    return passed == []


def mutate_and_use(made, tmp_path, seed):
    """One change of one file of an index, and everything that can be done with it: what is wrong with that, or None."""
    store, folders = made
    chance = random.Random(seed)
    folder = tmp_path / "index"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(chance.choice(folders), folder)
    file = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"))
    sealed = False
    if file.name == "manifest.json" or chance.random() < 0.2:
        if chance.random() < 0.8:
            what, harmless = _mutate_manifest(folder / "manifest.json", chance)
        else:
            what, harmless = _mutate_file(folder / "manifest.json", chance)
    else:
        what, harmless = _mutate_file(file, chance)
        sealed = chance.random() < 0.5
        if sealed:
            _reseal(folder)
    code, words = in_child(lambda: "passed" if _use(folder, store) else "refused")
    if code:
        return f"{seed}: {what}, sealed {sealed}: ended with {code}"
    if words not in ("passed", "refused"):
        return f"{seed}: {what}, sealed {sealed}: {words}"
    if words == "passed" and not harmless and not sealed:
        return f"{seed}: {what}: verify passed"
    return None


@pytest.mark.parametrize("first", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(12, 504, 12))])
def test_changed_anywhere(made, tmp_path, first):
    wrong = [found for seed in range(first, first + 12) if (found := mutate_and_use(made, tmp_path, seed))]
    assert not wrong, "\n".join(wrong)
