"""The origin of this installation, for messages that say how to install an extra."""

import importlib.metadata
import json
import shlex
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def install_command(extra: str) -> str:
    """The pip command that adds an extra to this installation.

    The command names the checkout or wheel that pip recorded as the origin, or the package itself if it came from an
    index. Where the checkout is gone, or the package was never installed, it is a command to run in a checkout.
    """
    # an egg-info in the working directory comes first, but was not installed
    installed = [one for one in importlib.metadata.distributions(name="nuner-embed") if one.read_text("INSTALLER")]
    if not installed:
        return _in_a_checkout(extra)
    noted = installed[0].read_text("direct_url.json")
    if noted is None:
        return f"pip install {shlex.quote(f'nuner-embed[{extra}]')}"
    origin = json.loads(noted)
    address = urlsplit(origin["url"])
    if address.scheme != "file":
        kind = f"{origin['vcs_info']['vcs']}+" if "vcs_info" in origin else ""
        return f"pip install {shlex.quote(f'nuner-embed[{extra}] @ {kind}{address.geturl()}')}"
    path = Path(url2pathname(address.path))
    if not path.exists():
        return _in_a_checkout(extra)
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{shlex.quote(f'{path}[{extra}]')}"


def _in_a_checkout(extra: str) -> str:
    return f"pip install {shlex.quote(f'.[{extra}]')} in a checkout of nuner-embed"
