"""The files of a map of concepts: by what they are known, and what is never overwritten."""

import numpy as np
import pytest

from nuner_embed.errors import ModelError
from nuner_embed.evaluation.concept_map import ConceptMap, require_own

OLD_PICTURE = b"\x89PNG\r\n\x1a\n" + b"....IHDR...tEXtSoftware\0Matplotlib version3.9"


@pytest.fixture(scope="module")
def drawn():
    places = np.linspace(0, 1, 24).reshape(12, 2)
    colours = np.full((12, 3), 0.5)
    return ConceptMap(tuple(f"concept {i}" for i in range(12)), np.arange(12, 0, -1), places, colours, "m")


def test_a_map_takes_the_place_of_a_map(drawn, tmp_path):
    page, picture = tmp_path / "c.html", tmp_path / "c.png"
    require_own(page, picture)
    page.write_bytes(drawn.page())
    picture.write_bytes(drawn.picture())
    require_own(page, picture)
    picture.write_bytes(OLD_PICTURE)  # of a version that did not sign it, beside its page
    require_own(page, picture)
    page.unlink()
    with pytest.raises(
        ModelError, match=r"c.png is not a map of concepts, and would be overwritten; move it away or name"
    ):
        require_own(page, picture)


@pytest.mark.parametrize("name", ["c.html", "c.png"])
@pytest.mark.parametrize("put", ["file", "folder", "empty", "link"])
def test_what_is_no_map_is_not_overwritten(drawn, tmp_path, name, put):
    (tmp_path / "c.html").write_bytes(drawn.page())
    (tmp_path / "c.png").write_bytes(drawn.picture())
    path = tmp_path / name
    path.unlink()
    {
        "file": lambda: path.write_bytes(b"<!doctype html><title>thesis</title>"),
        "folder": path.mkdir,
        "empty": path.touch,
        "link": lambda: path.symlink_to("nowhere"),
    }[put]()
    with pytest.raises(ModelError, match=f"{name} is not a map of concepts"):
        require_own(tmp_path / "c.html", tmp_path / "c.png")
