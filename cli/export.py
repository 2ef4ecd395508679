"""`nuner-embed export` and `nuner-embed verify`."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nuner_embed.cli import streams
from nuner_embed.cli.options import (
    counted,
    device_option,
    json_option,
    layers_option,
    output_folder_option,
    print_json,
    reading_options,
    require_apart,
    size,
)

if TYPE_CHECKING:
    from nuner_embed.export import Verification


@click.command(epilog="Example: nuner-embed export numind/NuNER-v2.0 -o model")
@click.argument("model")
@output_folder_option("Directory to write the exported model to.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Precision of the weights; fp16 is meant for CUDA, int8 for processors with VNNI or AMX.",
)
@layers_option
@click.option(
    "--head",
    metavar="PROBE",
    type=click.Path(path_type=Path),
    help="A probe of MODEL to write into the graph, which then also gives the probability of each type; see head.json.",
)
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@json_option
def export(
    model: str,
    output: Path,
    precision: str,
    layers: tuple[int, ...] | None,
    head: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Export the text encoder of MODEL as an ONNX graph to a directory that can be used without torch.

    The command first compares the graph with its source in every installed runtime, as nuner-embed verify does, and
    writes the directory only if the graph passes.
    """
    from nuner_embed.cli.progress import conclude, note
    from nuner_embed.export import export_onnx

    require_apart(output, [model, head], folder=True)
    note(f"exporting {model} in {precision}, then comparing with its source ...")
    result = export_onnx(
        model,
        output,
        precision=precision,  # type: ignore[arg-type]
        layers=layers,
        head=head,
        force=force,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)
    made = f"{output}, {size(result.rows[0].bytes)}, " if result.rows else f"{output}, "
    conclude(
        read=model,
        made=f"{made}{precision}, {'passed' if result.passed else 'FAILED'} the comparison with its source",
        then=f"nuner-embed encode CORPUS -o STORE --model {output}",
    )


@click.command(epilog="Example: nuner-embed verify model corpus.jsonl --source nuner-mini")
@click.argument("directory")
@click.argument("corpus", nargs=-1)
@click.option(
    "--source",
    help="The model that DIRECTORY was exported from; used only with CORPUS.  [default: the known or hub name of that "
    "model]",
)
@device_option
@click.option(
    "--threads",
    type=click.IntRange(0, 1024),
    default=0,
    help="Number of threads of each runtime.  [default: one per core]",
)
@reading_options
@json_option
@click.pass_context
def verify(
    context: click.Context,
    directory: str,
    corpus: tuple[str, ...],
    source: str | None,
    device: str,
    threads: int,
    reading: dict[str, Any],
    as_json: bool,
) -> None:
    """Compare the exported model in DIRECTORY with its source in every installed runtime.

    Without CORPUS, the comparison uses a text and the output of the source for this text, both stored in DIRECTORY;
    neither the source nor torch is needed. The command also measures the speed of each runtime, by which --runtime auto
    chooses. The exit code is 1 if a runtime fails its gate.
    """
    from nuner_embed.cli.progress import conclude
    from nuner_embed.corpora.corpus import Corpus
    from nuner_embed.export import verify as run
    from nuner_embed.models.onnx_export import VERIFY_FILE

    with Corpus(corpus, **reading) if corpus else contextlib.nullcontext() as opened:
        result = run(directory, opened, source=source, device=device, threads=threads)
    if as_json:
        print_json(result.to_dict())
    else:
        show(result)
    file, passed = Path(directory) / VERIFY_FILE, sum(row.passed for row in result.rows)
    conclude(
        read=f"{', '.join((directory, *corpus))}, {counted(result.tokens, 'token')}",
        made=f"{file if file.is_file() else 'standard output'}, {passed} of {len(result.rows)} ways to run it passed",
        then=(
            f"nuner-embed encode CORPUS -o STORE --model {directory}"
            if result.passed
            else "nuner-embed export MODEL -o DIR makes another graph; do not run this one in the ways that failed"
        ),
    )
    if not result.passed:
        context.exit(1)


def show(result: "Verification") -> None:
    """Prints the figures as a table."""
    from rich.text import Text

    from nuner_embed.cli.tables import Table, result_console
    from nuner_embed.runtimes.parity import rounded_down

    table = Table()
    for name in ("runtime", "min cosine", "mean cosine", "max diff", "10-NN overlap", "tokens/s", "speed", "gate"):
        table.add_column(name, justify="left" if name in ("runtime", "gate") else "right")
    for row in result.rows:
        name = f"{row.runtime} {row.precision}"
        if row.agreement is None:
            table.add_row(name, "-", "-", "-", "-", "-", "-", Text("does not run", "red"))
            continue
        agreement, ratio = row.agreement, result.speed_ratio(row)
        table.add_row(
            name,
            rounded_down(agreement.min_cosine),
            rounded_down(agreement.mean_cosine),
            f"{agreement.max_abs:.1e}",
            rounded_down(agreement.neighbour_overlap),
            f"{row.best[1]:,.0f}",
            f"{ratio:.2f}x",
            Text("passed", "green") if row.passed else Text("failed", "red"),
        )
    result_console().print(table)
    gates = "; ".join(
        f"{precision} " + ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in gate.items())
        for precision, gate in result.gates.items()
    )
    streams.show(
        f"{result.tokens:,} tokens in {result.windows} windows, each alone, sorted by length and badly padded",
        f"speed against {result.baseline[0]} ({result.baseline[1]:,.0f} tokens/s)",
        f"gate: {gates}",
        f"graph: {size(result.rows[0].bytes)}, {result.fusion}" if result.rows else "",
        *(f"{row.runtime} {row.precision}: {row.description}" for row in result.rows),
        *([f"head: {result.head}"] if result.head else []),
        "passed" if result.passed else f"FAILED: {result.failures()}",
    )
