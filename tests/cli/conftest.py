import os

import pytest
from command import run
from filelock import FileLock


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """The default model, exported once for all tests that only use it, whichever worker runs them."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    directory = folder / "minilm" / "model"
    with FileLock(folder / "minilm.lock"):
        if not directory.exists():
            directory.parent.mkdir()
            run("export", "minilm-l6", "-o", directory, check=0)
    return directory
