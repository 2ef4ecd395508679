"""`nuner-embed doctor`."""

import sys

import click

from nuner_embed.cli.options import json_option, print_facts, print_json, size
from nuner_embed.cli.streams import say


@click.command(epilog="Example: nuner-embed doctor --json")
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, what really runs and what clashes; exit code 1 if something does."""
    from nuner_embed.doctor import diagnose

    found = diagnose()
    if as_json:
        print_json(found.to_dict())
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
            }
        )
    for problem in found.problems:
        say(f"problem: {problem}")
    if found.problems:
        sys.exit(1)
    if not as_json:
        say("no clashes")
