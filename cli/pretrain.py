"""`nuner-embed pretrain`."""

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
from nuner_embed.corpora.base import FORMATS
from nuner_embed.models.known import DEFAULT_BASE, DEFAULT_MODEL
from nuner_embed.pretraining.settings import EARLIER_NAMES, PRESETS, PretrainSettings, read_settings


@click.command(
    epilog="Example: nuner-embed pretrain annotated.jsonl -o encoder --probe-set movie train.conll test.conll"
)
@click.argument("data", nargs=-1, required=True)
@output_folder_option("Directory to write the encoders to.")
@click.option(
    "--base",
    help="The model that both encoders start from, or that gets a span head.  "
    f"[default: {DEFAULT_BASE}; {DEFAULT_MODEL} with --objective spans]",
)
@click.option(
    "--preset",
    type=click.Choice(list(PRESETS)),
    help="small: values for about ten thousand sentences; paper: the values of section 3.3 of the paper; spans: values "
    "for a span head.  [default: small; spans with --objective spans]",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="A TOML file with values for the settings below, by name; flags override the file.",
)
@click.option(
    "--probe-set",
    nargs=3,
    metavar="NAME TRAIN TEST",
    help="A name and the training and test part of a typed corpus; each validation trains a quick probe on it.",
)
@click.option(
    "--probe-format",
    type=click.Choice(list(FORMATS)),
    help="Format of the corpora of --probe-set.  [default: by suffix]",
)
@click.option(
    "--thesaurus",
    metavar="FILE",
    help="Further names of the concepts, which hold for the same mentions, a line each: concept, synonyms and broader "
    "types, separated by tabs; several are separated by bars (|). For the objectives contrastive and spans.",
)
@click.option(
    "--teacher",
    metavar="MODEL",
    help="A larger model of the base's vocabulary, whose vectors of tokens the text encoder learns too.",
)
@device_option
@threads_option
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep the output of the frozen layers for every text in a file instead of computing it in every epoch.",
)
@reading_options
@click.option("--force", is_flag=True, help="Start over, even if the directory holds an earlier run or model.")
@json_option
@settings_options(PretrainSettings, EARLIER_NAMES)
def pretrain(
    data: tuple[str, ...],
    output: Path,
    base: str | None,
    preset: str | None,
    config: Path | None,
    probe_set: tuple[str, str, str] | None,
    probe_format: str | None,
    thesaurus: str | None,
    teacher: str | None,
    device: str,
    threads: int,
    cache: bool,
    reading: dict[str, Any],
    force: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Pre-train a text encoder and a concept encoder on DATA, a corpus whose spans have concepts as labels.

    With --objective spans, the encoders of --base are kept, and a span head is trained on them.

    The command may be interrupted at any time; the same command continues the run.
    """
    require_apart(output, [*data, base, config, thesaurus, teacher, *(probe_set or ())[1:]], folder=True)
    require_training("pre-training")
    settings = _settings(preset, config, flags)
    from nuner_embed.files import expand
    from nuner_embed.pretraining.folder import require_free

    require_free(expand(output), force=force)  # said before torch is imported, which takes seconds

    from nuner_embed.cli.progress import RowProgress, conclude, note
    from nuner_embed.evaluation.fewshot_run import read_set

    typed = read_set(*probe_set, **reading | {"format": probe_format}) if probe_set else None
    from nuner_embed.pretraining.run import pretrain as run

    with RowProgress("") as progress:
        facts = run(
            data, output, settings, base=base, probe_set=typed, thesaurus=thesaurus, teacher=teacher, **reading,
            device=device, threads=threads, cache=cache, force=force, progress=progress, note=note,
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":  # of several processes one speaks
        return
    if as_json:
        print_json(facts)
        return
    _show(facts)
    conclude(
        read=f"{', '.join(data)}, {counted(facts['data']['texts'], 'text')}",
        made=f"{output}, trained for {counted(facts['steps'], 'step')}",
        then=f"nuner-embed tag TEXTS --types city,person --model {output}"
        if settings.objective == "spans"
        else f"nuner-embed export {output} -o model",
    )


def _show(facts: dict[str, Any]) -> None:
    print_facts(
        {
            "texts": f"{facts['data']['texts']:,}",
            "annotations": f"{facts['data']['mentions']:,}",
            facts["data"]["kind"]: f"{facts['data']['labels']:,}",
            "steps": f"{facts['steps']:,}",
            **{
                name: f"{facts[key]:.4g}"
                for name, key in (
                    ("held-out loss", "validation_loss"),
                    ("held-out top-1", "validation_top1"),
                    ("probe F1", "probe_f1"),
                )
                if facts[key] is not None
            },
        }
    )


def _settings(preset: str | None, config: Path | None, flags: dict[str, Any]) -> PretrainSettings:
    """The preset, then the file, then the flags: the later goes before the earlier."""
    from nuner_embed.errors import PretrainingError

    given = read_settings(config) if config else {}
    objective = flags.get("objective") or given.get("objective")
    name = preset or given.pop("preset", "spans" if objective == "spans" else "small")
    given.pop("preset", None)
    try:
        PretrainSettings.preset(name, **given)  # a wrong value of the file is the file's
    except (ValueError, TypeError) as error:
        raise PretrainingError(f"{config}: {error}") from None
    try:
        return PretrainSettings.preset(
            name, **{**given, **{key: value for key, value in flags.items() if value is not None}}
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
