"""`nuner-embed demo`."""

from pathlib import Path

import click


@click.command(epilog="Example: nuner-embed demo -o demo")
@click.option(
    "-o",
    "--output",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory for the model, the store and a page to look at.",
)
def demo(output: Path) -> None:
    """The whole main job on a small bundled corpus: export, encode, look at the store."""
    from nuner_embed.bundled import DOCUMENTS, SENTENCES
    from nuner_embed.cli.demo_page import write_page
    from nuner_embed.cli.progress import JobReporter, note
    from nuner_embed.cli.sample import look
    from nuner_embed.encoding.encode import encode
    from nuner_embed.export import export_onnx
    from nuner_embed.models import locate
    from nuner_embed.models.locating import EXPORT_FILE

    model, directory = output / "model", output / "store"
    output.mkdir(parents=True, exist_ok=True)
    note("1. export the text encoder to ONNX")
    if (model / EXPORT_FILE).is_file():
        locate(str(model))
        note(f"   {model} is there from an earlier run, its sha256 is right")
    else:
        difference = export_onnx("minilm-l6", model)
        note(f"   {model}: equal to its source, largest difference {difference.max_abs:.1e}")
    note("2. encode the bundled corpus (self-written toy data), one embedding a mention")
    with JobReporter() as reporter:
        store = encode([SENTENCES, DOCUMENTS], directory, model=str(model), rows="mention", reporter=reporter)
    note("3. look at the store")
    seen = look(store)
    for line in seen.lines():
        click.echo(line)
    page = write_page(output / "index.html", store, seen)
    click.echo(
        f"\nThe picture: {page}\n"
        "Next, on your own corpus:\n"
        f"  nuner-embed encode corpus.txt -o store --model {model}\n"
        "  nuner-embed store info store\n"
        "From Python: nuner_embed.Store.open('store').table() and .vectors(rows); see README.md"
    )
