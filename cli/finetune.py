"""`nuner-embed finetune`."""

import os
from pathlib import Path
from typing import Any

import click

from nuner_embed.cli.options import (
    counted,
    device_option,
    json_option,
    output_folder_option,
    print_facts,
    print_json,
    reading_options,
    require_apart,
    threads_option,
)
from nuner_embed.cli.training_options import require_training, settings_options
from nuner_embed.cli.type_names import k_option, short_types_option, types_option
from nuner_embed.models.known import DEFAULT_MODEL
from nuner_embed.pretraining.finetune_settings import FINETUNE_PRESETS, FinetuneSettings


@click.command(epilog="Example: nuner-embed finetune train.conll -o tuned --k 64")
@click.argument("data", nargs=-1, required=True)
@output_folder_option("Directory to write the model to.")
@click.option("--base", default=DEFAULT_MODEL, show_default=True, help="The model to train further.")
@k_option
@types_option("Types to learn, instead of all types of DATA; words of other types count as words of no type.")
@short_types_option
@click.option(
    "--preset",
    type=click.Choice(list(FINETUNE_PRESETS)),
    default="small",
    show_default=True,
    help="small: the defaults below, for a small encoder; paper: the 30 epochs of section 6 of the paper, with the "
    "learning rate of its pre-training, which suits encoders of its size.",
)
@device_option
@threads_option
@reading_options
@click.option("--force", is_flag=True, help="Start over, even if the directory holds an earlier run or model.")
@json_option
@settings_options(FinetuneSettings)
def finetune(
    data: tuple[str, ...],
    output: Path,
    base: str,
    k: int | None,
    types: tuple[str, ...] | None,
    short_types: Any,
    preset: str,
    device: str,
    threads: int,
    reading: dict[str, Any],
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train an encoder and a head on DATA, a corpus with spans or BIO tags: all layers, not only a probe on top.

    The result is a model with a head: probe predict, probe evaluate, export and encode take the directory. The command
    may be interrupted at any time; the same command continues the run.
    """
    require_apart(output, [*data, base], folder=True)
    require_training("fine-tuning")
    try:
        settings = FinetuneSettings.preset(
            preset, **{name: value for name, value in flags.items() if value is not None}
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    from nuner_embed.files import expand
    from nuner_embed.pretraining.folder import require_free

    require_free(expand(output), force=force)  # said before torch is imported, which takes seconds

    from nuner_embed.cli.progress import RowProgress, conclude, note
    from nuner_embed.pretraining.finetuning import finetune as run

    with RowProgress("") as progress:
        facts = run(
            data, output, settings, base=base, types=types, k=k, short_types=short_types, device=device,
            threads=threads, force=force, progress=progress, note=note, **reading,
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":  # of several processes one speaks
        return
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    conclude(
        read=f"{', '.join(data)}, {counted(facts['data']['texts'], 'sentence')}",
        made=f"{output}, with a head for {counted(len(facts['support']['types']), 'type')}",
        then=f"nuner-embed probe predict {output} CORPUS",
    )


def _show(facts: dict[str, Any]) -> None:
    print_facts(
        {
            "sentences": f"{facts['data']['texts']:,}, {facts['data']['held_out']:,} held out",
            "mentions": f"{facts['data']['mentions']:,}",
            "types": ", ".join(facts["support"]["types"]),
            "steps": f"{facts['steps']:,}, the model is that of step {facts['best_step']:,}",
            **{
                name: shown.format(facts[key])
                for name, key, shown in (
                    ("held-out loss", "validation_loss", "{:.4g}"),
                    ("held-out words right", "validation_top1", "{:.1%}"),
                )
                if facts[key] is not None
            },
        }
    )
