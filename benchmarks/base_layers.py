"""Compares the layers of a base: whose features are best, and so where to cut it.

    python benchmarks/base_layers.py [MODEL ...]     # mpnet-base and minilm-l6 by default

Measured on development parts only: a fifth of the training part of each set, selected by a hash of the sentence, at
most 400 sentences; support sets are drawn from the remaining sentences. Test parts are not used. All layers of a model
are taken from one pass. Measurements are kept, and an interrupted run continues.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
from common import WORK, keep, machine
from recipe import by_mention, development
from strength import SETS

from nuner_embed import load_encoder
from nuner_embed.evaluation.fewshot import FewShotProtocol, TypedSet, measure, needed, plan
from nuner_embed.heads.features import embed_words
from nuner_embed.indexes.vectors import prepared
from nuner_embed.machine import cores
from nuner_embed.models.resolver import locate

MODELS = ("mpnet-base", "minilm-l6")
PROTOCOL = FewShotProtocol(k=(1, 4, 16), draws=4)
DEVELOPMENT = 400
FOLDER = WORK / "base_layers"
WHAT = (*(f"k = {k}" for k in PROTOCOL.k), "mention P@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=MODELS, help="names or directories of models")
    FOLDER.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, list[list[float]]]] = {}
    for model in parser.parse_args().models:
        weights = locate(model).weights_sha256[:16]
        for set_name in SETS:
            kept = FOLDER / f"{weights}, {set_name}.json"
            if not kept.exists():
                typed = development(set_name)
                kept.write_text(json.dumps(measured(model, replace(typed, test=typed.test[:DEVELOPMENT]))))
                print(model, set_name, "measured", flush=True)
            for layer, scores in json.loads(kept.read_text()).items():
                found.setdefault(f"{model}, layer {layer}", {}).setdefault("sets", []).append(scores)
    rows = {name: np.mean(one["sets"], axis=0).tolist() for name, one in found.items()}
    keep("base_layers", {"machine": machine("torch", "numpy", "scikit-learn"), "mean over sets": rows}, report(rows))


def measured(model: str, typed: TypedSet) -> dict[int, list[float]]:
    """Of each layer from a third of the depth on: the few-shot scores of each k, and the precision at 10."""
    depth = locate(model).config.layers
    layers = tuple(range(depth // 3, depth + 1))
    encoder = load_encoder(model, runtime="torch", precision="f32", layers=layers)
    draws = plan(typed, PROTOCOL)
    train = embed_words(encoder, [typed.train[i] for i in needed(draws)])
    test = embed_words(encoder, typed.test)
    mentions = encoder.encode_rows(encoder.tokenize(typed.test, "mention"), "mention")
    places = zip(mentions.rows.document, mentions.rows.index, strict=True)
    labels = np.array([typed.test[d].spans[i].label or "" for d, i in places])
    width = encoder.dim // len(layers)
    found = {}
    for number, layer in enumerate(layers):
        part = slice(number * width, (number + 1) * width)

        def of(vectors: Any, part: slice = part) -> Any:
            return np.ascontiguousarray(vectors[:, part])

        cells = measure(
            model,
            typed,
            draws,
            PROTOCOL,
            replace(train, vectors=of(train.vectors)),
            replace(test, vectors=of(test.vectors)),
            threads=cores(),
        )
        near = by_mention(prepared(of(mentions.vectors), "cosine"), labels, mentions.rows.document)
        found[layer] = [*(float(np.mean(cell.scores)) for cell in cells), float(np.mean(near))]
    return found


def report(rows: dict[str, list[float]]) -> str:
    lines = [
        f"Development parts of {', '.join(SETS)}, percent, mean over sets. k = ...: token macro-F1 with None left out,",
        f"{PROTOCOL.draws} draws; mention P@10: how many of the 10 nearest mentions are of the same type, mean over",
        "types. Layer n is the output of the n-th layer.",
        "",
        f"| features | {' | '.join(WHAT)} | mean |",
        "|---" * (len(WHAT) + 2) + "|",
    ]
    for name, scores in rows.items():
        shown = " | ".join(f"{100 * score:.1f}" for score in scores)
        lines.append(f"| {name} | {shown} | {100 * np.mean(scores):.1f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
