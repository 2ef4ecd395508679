"""Encode a corpus of your own and ask which words stand nearest to one of it.

python examples/encode_corpus.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import nuner_embed

TEXTS = [
    "The kestrel hovered over the meadow and dropped on a vole.",
    "A heron stood in the shallows until the trout came near.",
    "The tram to the old harbour leaves every ten minutes.",
    "Night buses replace the ferry when the wind is strong.",
]


def main(folder: Path) -> None:
    """Exports the default model, encodes the texts word by word, and looks up the neighbours of "kestrel"."""
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(TEXTS) + "\n", encoding="utf-8")

    nuner_embed.export_onnx("minilm-l6", folder / "model", force=True)
    store = nuner_embed.encode(corpus, folder / "store", model=str(folder / "model"), rows="word", force=True)

    rows = store.table().to_pandas()
    kestrel = rows.index[rows.text == "kestrel"]
    found = nuner_embed.nearest(store, store.vectors(kestrel), k=4)
    for score, row in zip(found.scores[0], found.rows[0], strict=True):
        print(f"{score:.3f}  {rows.text[row]}  ({rows.document_id[row]})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
