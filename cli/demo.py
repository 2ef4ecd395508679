"""`nuner-embed demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nuner_embed import metadata
from nuner_embed.artifacts import Kind
from nuner_embed.cli import streams
from nuner_embed.errors import NunerEmbedError
from nuner_embed.models.known import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nuner_embed.cli.demo_samples import Learnt
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.store.reader import Store


def _read(directory: Path) -> None:
    cure = "name another directory, or remove that one yourself"
    path = directory / "demo.json"
    values = metadata.read_object(path, version=1, error=NunerEmbedError, what="the marker file of a demo", cure=cure)
    if values.get("kind") != "demo":
        raise NunerEmbedError(f"{path} is not the marker file of a demo; {cure}")


# Model, store, index and probes in it are of kinds of their own, and are checked as such.
DEMO: Final = Kind("a demo", "demo.json", _read, ("*", "*/*", "*/*/*", "*/*/*/*"), NunerEmbedError, NunerEmbedError)


@click.command(epilog="Example: nuner-embed demo -o demo")
@click.option(
    "-o",
    "--output",
    default="demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Directory to write the model, the store, the index, the probes and an HTML report to.",
)
def demo(output: Path) -> None:
    """Run export, verify, detect, encode, index, search and probe on a small bundled corpus."""
    from nuner_embed.artifacts import is_free, require_ours
    from nuner_embed.bundled import SENTENCES
    from nuner_embed.cli.demo_page import MentionMap, write_page
    from nuner_embed.cli.demo_samples import SHOTS, found_in, learn
    from nuner_embed.cli.options import counted
    from nuner_embed.cli.progress import conclude, note
    from nuner_embed.cli.tagged import Highlights
    from nuner_embed.corpora.corpus import read_annotated
    from nuner_embed.encoders.concepts import ConceptEncoder
    from nuner_embed.files import atomic_write, write_json

    if not is_free(output):
        require_ours(output, DEMO)
    model = output / "model"
    known = _is_current(model)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / DEMO.marker, {"schema_version": 1, "kind": "demo"})  # first of all: by it the folder is known
    note(f"1. export {DEFAULT_MODEL} to ONNX, and verify that it computes what its source computes")
    _export(model, known)
    note("2. read the bundled corpus (self-written toy data) as plain text: find the mentions, and embed each of them")
    store = _encode(model, output / "store", known)
    detected = found_in(store, read_annotated([SENTENCES])[0])
    Highlights().show(detected)
    note("3. index the mentions, and measure the index")
    concepts = ConceptEncoder.open(str(model))
    found = _index_and_search(store, output / "index", model, concepts)
    note("5. a map of the mentions, each with the type whose name is nearest")
    seen = MentionMap.of(store, concepts)
    streams.show(*seen.lines())
    examples = ", ".join(f"{k} to {2 * k} examples" for k in SHOTS)
    note(f"6. types of one's own, in a logbook: their names alone, {examples}")
    learnt = learn(str(model), output / "features")
    _save(learnt, output)
    with atomic_write(output / "map.svg", follow=False) as stream:
        stream.write(seen.svg().encode())
    page = write_page(output / "index.html", store, seen, detected, found, learnt)
    _show_next_steps(page, model)
    conclude(
        read=f"the bundled corpus, {counted(store.documents, 'document')}, and the logbook",
        made=f"{output}, with model, store, index, {', '.join(one.folder for one in learnt)} and index.html; "
        f"{counted(len(store), 'mention')}",
        then=f"open {page} in a browser",
    )


def _export(model: Path, known: bool) -> None:
    """Exports the default model, or verifies an earlier export of it (`known`), and prints the figures."""
    from nuner_embed.cli.export import show
    from nuner_embed.errors import ExportError
    from nuner_embed.export import export_onnx, verify

    result = verify(model) if known else export_onnx(DEFAULT_MODEL, model, force=True)
    show(result)
    if not result.passed:
        raise ExportError(
            f"{model} does not compute what its source computes any more: {result.failures()}; remove the directory "
            "and run the demo again"
        )


def _encode(model: Path, directory: Path, known: bool) -> "Store":
    """Encodes the mentions that the model's detector finds in the bundled corpus; `known` continues an earlier job."""
    from nuner_embed.bundled import DOCUMENTS, SENTENCES
    from nuner_embed.cli.progress import JobReporter
    from nuner_embed.heads.detector import load_detector
    from nuner_embed.jobs.encoding import encode

    detector = load_detector(model)
    with JobReporter(directory) as reporter:
        return encode(
            [SENTENCES, DOCUMENTS], directory, model=str(model), rows="mention", detector=detector, force=not known,
            reporter=reporter,
        )  # fmt: skip


def _index_and_search(
    store: "Store", directory: Path, model: Path, concepts: "ConceptEncoder"
) -> list[list[dict[str, Any]]]:
    """Indexes the mentions, runs the sample searches, and prints both; returns the hits of each search."""
    from nuner_embed.cli.demo_samples import SEARCHES
    from nuner_embed.cli.hits import show_hits
    from nuner_embed.cli.index import show_index
    from nuner_embed.cli.progress import note
    from nuner_embed.encoders.loader import load_encoder
    from nuner_embed.indexes import Index

    encoder = load_encoder(str(model))
    with Index.build(store, directory, force=True) as index:
        show_index(index)
        note("4. search: by a mention in its context, with a filter, by examples, by the name of a type")
        found = [search.run(index, encoder, concepts) for search in SEARCHES]
    for search, hits in zip(SEARCHES, found, strict=True):
        streams.show("", search.command)
        show_hits(hits)
    return found


def _save(learnt: "Sequence[Learnt]", output: Path) -> None:
    """Saves the logbook and each head, and prints how it was made, how well it does, and what it finds."""
    from nuner_embed.bundled import LOGBOOK, UNSEEN_LOGBOOK
    from nuner_embed.cli.tagged import Highlights
    from nuner_embed.files import atomic_write

    for path in (LOGBOOK, UNSEEN_LOGBOOK):
        with atomic_write(output / path.name, follow=False) as stream:
            stream.write(path.read_bytes())
    for one in learnt:
        one.tagger.save(output / one.folder, force=True)
        streams.show("", one.command, f"{one} (toy data)")
        Highlights().show(one.shown)


def _show_next_steps(page: Path, model: Path) -> None:
    streams.show(
        "",
        f"The report, with a map to point at: {page}",
        "Then, on your own corpus:",
        f"  nuner-embed encode corpus.txt -o store --rows mention --model {model}",
        "  nuner-embed index build store -o index",
        '  nuner-embed search index "He signed for the [[Falcons]] in 2018."',
        '  nuner-embed search index --concept "football club"',
        f"  nuner-embed probe train annotated.jsonl -o probe --model {model}",
        "From Python: nuner_embed.Index.open('index').search(vectors); see README.md",
    )


def _is_current(model: Path) -> bool:
    """Whether an earlier demo exported the very model that is the default now."""
    from nuner_embed.errors import ModelError
    from nuner_embed.models.resolver import locate

    if not model.is_dir():
        return False
    try:
        return locate(str(model)).weights_sha256 == locate(DEFAULT_MODEL).weights_sha256
    except ModelError:
        return False
