"""`nuner-embed doctor`."""

import sys
from typing import TYPE_CHECKING

import click

from nuner_embed.cli.options import counted, json_option, print_facts, print_json, size
from nuner_embed.cli.streams import say, show

if TYPE_CHECKING:
    from nuner_embed.leftovers import Leftover


@click.command(epilog="Example: nuner-embed doctor --json")
@click.argument("folders", nargs=-1, metavar="[FOLDER]...")
@click.option("--clean", is_flag=True, help="Remove what killed commands left in each FOLDER and in the cache folder.")
@json_option
def doctor(folders: tuple[str, ...], clean: bool, as_json: bool) -> None:
    """Show what is installed and what runs, and report problems such as packages that clash.

    The exit code is 1 if there is a problem. The command also lists the files that killed commands left in the cache
    folder and in each FOLDER, down to three levels below it; the default is the current folder. --clean removes only
    these files, and no file of a command that is still running.
    """
    if clean:
        _clean(folders or (".",), as_json)
        return
    from nuner_embed.doctor import diagnose
    from nuner_embed.leftovers import find_leftovers

    found, left = diagnose(), find_leftovers(folders or (".",))
    if as_json:
        print_json({**found.to_dict(), "leftovers": _listed(left)})
    else:
        none = "none"
        print_facts(
            {
                **{name: version or "not installed" for name, version in found.versions.items()},
                "Python": found.python,
                "platform": found.platform,
                "processor": found.cpu,
                "features": " ".join(found.cpu_features) or none,
                "cores": found.cores,
                "memory": size(found.memory_bytes),
                "providers offered": ", ".join(found.providers_offered) or none,
                "providers running": ", ".join(found.providers_running) or none,
                "OpenVINO runs in": ", ".join(found.openvino_precisions) or none,
                "GPUs": "; ".join(found.gpus) or none,
                "CUDA in torch": found.torch_cuda or none,
                "leftovers": _summed(left) if left else none,
            }
        )
    if left:
        say(
            f"{_summed(left)} of killed or running commands; nuner-embed doctor --clean {' '.join(folders)}".rstrip()
            + " removes what no running command uses"
        )
    for problem in found.problems:
        say(f"problem: {problem}")
    if found.problems:
        sys.exit(1)
    if not as_json:
        say("no clashes")


def _clean(folders: tuple[str, ...], as_json: bool) -> None:
    from nuner_embed.leftovers import clean

    removed = clean(folders)
    if as_json:
        print_json({"removed": _listed(removed)})
        return
    for leftover in removed:
        show(f"removed {leftover.path}, {size(leftover.bytes)}")
    say(f"{_summed(removed)} removed" if removed else "nothing to remove")


def _listed(leftovers: "list[Leftover]") -> list[dict[str, str | int]]:
    return [{"path": str(leftover.path), "bytes": leftover.bytes} for leftover in leftovers]


def _summed(leftovers: "list[Leftover]") -> str:
    return f"{counted(len(leftovers), 'leftover')}, {size(sum(leftover.bytes for leftover in leftovers))}"
