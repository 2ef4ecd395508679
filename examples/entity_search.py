"""Encode a few texts of your own, index their mentions, and search for mentions that are used alike.

python examples/entity_search.py [FOLDER]
"""

import json
import re
import sys
import tempfile
from pathlib import Path

import pyarrow as pa

import nuner_embed

# double brackets mark the mentions, here and in a query
TEXTS = [
    "The [[kestrel]] hovered over the meadow and dropped on a [[vole]].",
    "A [[heron]] stood in the shallows until the [[trout]] came near.",
    "Two [[curlews]] called from the marsh before it was light.",
    "The [[tram]] to the old harbour leaves every ten minutes.",
    "[[Night buses]] replace the [[ferry]] when the wind is strong.",
    "She took the [[sleeper train]] to [[Lisbon]] and slept badly.",
    "[[Ghent]] has three breweries and one very good baker.",
    "The office in [[Osaka]] opens an hour before ours.",
]


def main(folder: Path) -> None:
    """Exports the default model, encodes the mentions, builds an index, and searches it in four ways."""
    corpus = folder / "corpus.jsonl"
    with corpus.open("w", encoding="utf-8") as lines:
        for text in TEXTS:
            plain = re.sub(r"\[\[|\]\]", "", text)
            mentions = re.findall(r"\[\[(.+?)\]\]", text)
            spans = [
                {"start": plain.index(mention), "end": plain.index(mention) + len(mention)} for mention in mentions
            ]
            lines.write(json.dumps({"text": plain, "spans": spans}) + "\n")

    if not (folder / "model").exists():
        nuner_embed.export_onnx("nuner-mini", folder / "model")
    encoder = nuner_embed.load_encoder(str(folder / "model"))
    store = nuner_embed.encode(corpus, folder / "store", model=str(folder / "model"), rows="mention", force=True)

    with nuner_embed.Index.build(store, folder / "index", force=True) as index:
        query = nuner_embed.marked_document("An [[owl]] was sitting on the gate.")
        show("like the owl", nuner_embed.find(index, nuner_embed.embed_mentions(index, encoder, [query]), k=3))

        examples = [
            nuner_embed.marked_document("The [[bicycle]] has a flat tyre."),
            nuner_embed.marked_document("We went there by [[coach]]."),
        ]
        vector, what = nuner_embed.examples_of(index, encoder, examples).query(index)
        show(f"like bicycle and coach ({what})", nuner_embed.find(index, vector, k=3))

        show("like the owl, in capitals", nuner_embed.find(
            index, nuner_embed.embed_mentions(index, encoder, [query]), k=3, filter="regexp_matches(text, '^[A-Z]')"
        ))  # fmt: skip

        concepts = nuner_embed.ConceptEncoder.open(str(folder / "model"))
        show("a vehicle, by name alone", nuner_embed.find_concepts(index, concepts, ["vehicle"], k=3))


def show(title: str, hits: pa.Table) -> None:
    """Prints hits with the text around them."""
    print(f"{title}:")
    for hit in hits.to_pylist():
        print(f"  {hit['score']:.3f}  {hit['text']:<14}  {hit['context']}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
