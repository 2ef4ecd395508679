import importlib.metadata
import json
import shlex
from types import SimpleNamespace

import pytest

from nuner_embed.installation import install_command


@pytest.fixture
def installed_from(monkeypatch):
    """Lets a test say what pip noted down of where the package came from; None: it came from an index."""

    def noted(origin):
        files = {"INSTALLER": "pip\n", **({} if origin is None else {"direct_url.json": json.dumps(origin)})}
        found = [SimpleNamespace(read_text=kept.get) for kept in ({}, files)]  # an egg-info comes first
        monkeypatch.setattr(importlib.metadata, "distributions", lambda name: found)

    return noted


def test_from_a_checkout(installed_from, tmp_path):
    checkout = tmp_path / "my work" / "nuner-embed"
    checkout.mkdir(parents=True)
    for editable, option in ((True, ["-e"]), (False, [])):
        installed_from({"url": checkout.as_uri(), "dir_info": {"editable": editable}})
        assert shlex.split(install_command("train")) == ["pip", "install", *option, f"{checkout}[train]"]


def test_from_a_wheel(installed_from, tmp_path):
    wheel = tmp_path / "nuner_embed-0.1.0-py3-none-any.whl"
    wheel.touch()
    installed_from({"url": wheel.as_uri(), "archive_info": {}})
    assert shlex.split(install_command("cpu")) == ["pip", "install", f"{wheel}[cpu]"]


def test_from_a_repository_or_an_index(installed_from):
    installed_from({"url": "https://example.org/n.git", "vcs_info": {"vcs": "git", "commit_id": "0"}})
    assert install_command("cpu") == "pip install 'nuner-embed[cpu] @ git+https://example.org/n.git'"
    installed_from(None)
    assert install_command("cpu") == "pip install 'nuner-embed[cpu]'"


def test_from_a_checkout_that_is_gone_or_nowhere(installed_from, tmp_path, monkeypatch):
    installed_from({"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    assert install_command("cpu") == "pip install '.[cpu]' in a checkout of nuner-embed"
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [SimpleNamespace(read_text={}.get)])
    assert install_command("cpu") == "pip install '.[cpu]' in a checkout of nuner-embed"
