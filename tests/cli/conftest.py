import pytest
from command import run


@pytest.fixture(scope="session")
def minilm(tmp_path_factory):
    """The default model, exported once for all tests that only use it."""
    directory = tmp_path_factory.mktemp("minilm") / "model"
    run("export", "minilm-l6", "-o", directory, check=0)
    return directory
