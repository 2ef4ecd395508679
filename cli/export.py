"""`nuner-embed export`."""

from pathlib import Path

import click

from nuner_embed.cli.options import json_option, layers_option, print_json


@click.command(epilog="Example: nuner-embed export numind/NuNER-v2.0 -o model")
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Directory to make.")
@layers_option
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def export(model: str, output: Path, layers: tuple[int, ...] | None, force: bool, as_json: bool) -> None:
    """Write MODEL's text encoder as an fp32 ONNX graph into a directory that runs without torch.

    The directory appears only once the graph was compared with its source.
    """
    from nuner_embed.cli.progress import note
    from nuner_embed.export import export_onnx

    note(f"exporting {model} and comparing the graph with its source ...")
    difference = export_onnx(model, output, layers=layers, force=force)
    note(
        f"{output}: equal to its source over {difference.tokens:,} tokens "
        f"(minimum cosine {difference.min_cosine:.7f}, largest difference {difference.max_abs:.1e})"
    )
    note(f"next: nuner-embed encode CORPUS -o STORE --model {output}")
    if as_json:
        print_json(difference.to_dict())
