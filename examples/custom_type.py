"""Teach a type of your own with eight examples: mark the mentions, train a probe, find more of the type.

python examples/custom_type.py [FOLDER]
"""

import re
import sys
import tempfile
from pathlib import Path

import nuner_embed
from nuner_embed import Document, Span

# double brackets mark the mentions of the type; all other words are examples of no type
EXAMPLES = [
    "Her [[oboe]] was louder than the whole brass section.",
    "He sold the [[cello]] to pay for the trip.",
    "The [[drums]] came in two bars late.",
    "A [[harp]] stood under a sheet in the corner of the hall.",
    "She practises the [[trumpet]] in the garage, to the dog's despair.",
    "They tuned the [[piano]] before the concert.",
    "My brother plays the [[violin]] and my aunt the [[flute]].",
    "Nobody had touched the [[guitar]] since the summer.",
]
TEXTS = [
    "The clarinet was left on the night train.",
    "He carried a banjo and a suitcase across the border.",
    "The mayor opened the bridge at noon.",
    "An accordion was playing somewhere behind the market.",
]


def marked(text: str, number: int) -> Document:
    """Converts a text with mentions in double brackets to a document with spans."""
    spans, plain, done = [], "", 0
    for found in re.finditer(r"\[\[(.+?)\]\]", text):
        plain += text[done : found.start()]
        spans.append(Span(len(plain), len(plain) + len(found[1]), "instrument"))
        plain += found[1]
        done = found.end()
    return Document(f"example-{number}", plain + text[done:], spans=tuple(spans))


def main(folder: Path) -> None:
    """Exports the default model, trains a probe on the examples, saves it and tags some texts with it."""
    if not (folder / "model").exists():
        nuner_embed.export_onnx("nuner-mini", folder / "model")
    encoder = nuner_embed.load_encoder(str(folder / "model"))
    examples = [marked(text, number) for number, text in enumerate(EXAMPLES)]
    trained = nuner_embed.train_probe(examples, encoder, cache=folder / "features")
    trained.save(folder / "instruments", force=True)

    tagger = nuner_embed.Tagger.open(folder / "instruments")
    for document in tagger.tag([Document(str(number), text) for number, text in enumerate(TEXTS)]):
        found = [f"{document.text[span.start : span.end]} ({span.score:.2f})" for span in document.spans]
        print(f"{', '.join(found) or '-':<24} {document.text}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
