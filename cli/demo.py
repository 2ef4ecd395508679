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
    help="Directory for the model, the store, the index and a page to look at.",
)
def demo(output: Path) -> None:
    """The whole main job on a small bundled corpus: export, verify, encode, index, search, probe."""
    from nuner_embed.bundled import DOCUMENTS, SENTENCES
    from nuner_embed.cli.demo_page import write_page
    from nuner_embed.cli.export import show
    from nuner_embed.cli.hits import show_hits
    from nuner_embed.cli.index import show_index
    from nuner_embed.cli.progress import JobReporter, note
    from nuner_embed.cli.sample import look
    from nuner_embed.cli.sample_probe import SHOTS, TYPES, run_probe
    from nuner_embed.cli.sample_searches import SEARCHES, run_searches
    from nuner_embed.cli.tagged import Highlights
    from nuner_embed.encoding.encode import encode
    from nuner_embed.encoding.load import load_encoder
    from nuner_embed.errors import ExportError
    from nuner_embed.export import export_onnx, verify
    from nuner_embed.indexes import Index
    from nuner_embed.models.exported import EXPORT_FILE
    from nuner_embed.probing.reading import read_annotated

    model, directory = output / "model", output / "store"
    output.mkdir(parents=True, exist_ok=True)
    note("1. export the text encoder to ONNX, and verify that it computes what its source computes")
    result = verify(model) if (model / EXPORT_FILE).is_file() else export_onnx("minilm-l6", model)
    show(result)
    if not result.passed:
        raise ExportError(f"{model} is not its source any more: {result.failures()}; remove it and run the demo again")
    note("2. encode the bundled corpus (self-written toy data), one embedding a mention")
    with JobReporter() as reporter:
        store = encode([SENTENCES, DOCUMENTS], directory, model=str(model), rows="mention", reporter=reporter)
    note("3. index the mentions, and measure the index")
    with Index.build(store, output / "index", force=True) as index:
        show_index(index)
        seen = look(index)
        for line in seen.lines():
            click.echo(line)
        note("4. search: by a mention in its context, with a filter, and by examples")
        found = run_searches(index, model)
        for search, hits in zip(SEARCHES, found, strict=True):
            click.echo(f"\n{search.command}")
            show_hits(hits)
    note(f"5. few-shot: a linear layer on frozen features, from {SHOTS} to {2 * SHOTS} examples a type")
    encoder = load_encoder(str(model))
    probed = run_probe(read_annotated([SENTENCES])[0], encoder, output / "features")
    probed.tagger.save(output / "probe")
    click.echo(
        f"\nnuner-embed probe train sentences.jsonl -o probe --k {SHOTS} --types {','.join(TYPES)}\n"
        f"{sum(probed.tagger.facts.training.mentions.values())} mentions in "
        f"{probed.tagger.facts.training.sentences} sentences; on {probed.scores.documents} unseen ones, token macro-F1 "
        f"with None left out {probed.scores.token_macro_f1:.1%}, span micro-F1 {probed.scores.span_micro_f1:.1%} "
        "(toy data, sentence encoder)"
    )
    Highlights().show(probed.shown)
    page = write_page(output / "index.html", store, seen, found, probed)
    click.echo(
        f"\nThe picture: {page}\n"
        "Next, on your own corpus:\n"
        f"  nuner-embed encode corpus.txt -o store --model {model}\n"
        "  nuner-embed index build store -o index\n"
        '  nuner-embed search index "He signed for the [[Falcons]] in 2018."\n'
        f"  nuner-embed probe train annotated.jsonl -o probe --model {model}\n"
        "From Python: nuner_embed.Index.open('index').search(vectors); see README.md"
    )
