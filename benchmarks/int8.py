"""Measures accuracy and speed of int8 recipes against fp32; `export --precision int8` is based on the results.

    pip install nncf     # or the rows of NNCF are left out
    python benchmarks/int8.py [--rounds 3]

Every recipe quantises the products of activations by weights in the exported graphs of nuner-mini and minilm-l6;
embeddings and attention's own products stay in fp32, except where NNCF rounds them too. Accuracy is measured as by
`nuner-embed verify`, on one half of the bundled corpus, with every window alone, sorted by length and padded against
another. The other half is used for calibration. Speed is tokens a second of processor time in one thread, which other
programs on the machine disturb little, as a share of that of fp32 in the same round.
"""

import argparse
import shutil
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from common import WORK, exported, keep, machine
from int8_recipes import Recipe, recipes

from nuner_embed.bundled import bundled_texts
from nuner_embed.machine import cpu_features
from nuner_embed.models.onnx_export import graph_sha256
from nuner_embed.models.resolver import GraphModel, locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.base import Runtime, RuntimeOptions
from nuner_embed.runtimes.onnx import OnnxRuntime
from nuner_embed.runtimes.openvino import OpenVinoRuntime
from nuner_embed.runtimes.padding import PaddedIds, pad
from nuner_embed.runtimes.parity import GATES, Reference, compare, cut_windows

MODELS = ("nuner-mini", "minilm-l6")
ONE_THREAD = RuntimeOptions(device="cpu", threads=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the median of these is reported")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for name in MODELS:
        rows += measure(name, arguments.rounds)
        report(rows)  # the next model takes minutes


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    """Measures every recipe on one model, in every runtime that runs its graph."""
    model = locate(exported(name, WORK / name))
    assert isinstance(model, GraphModel)
    reference = Reference.load(model.reference, model.config.vocabulary)
    exact: dict[str, Runtime] = {
        "onnx": OnnxRuntime(model, model.recipe, ONE_THREAD),
        "openvino": OpenVinoRuntime(model, model.recipe, replace(ONE_THREAD, precision="f32")),
    }
    rows = []
    for recipe, made in recipes(model.graph, calibration_batches(model)).items():
        graph = quantised(model, made)
        size = sum(path.stat().st_size for path in graph.directory.iterdir())
        for kind in made.runtimes:
            row = {"model": name, "recipe": recipe, "runtime": kind.name, "bytes": size}
            rows.append({**row, **figures(kind(graph, graph.recipe, ONE_THREAD), exact, reference, rounds)})
            print(rows[-1], flush=True)
    return rows


def figures(runtime: Runtime, exact: dict[str, Runtime], reference: Reference, rounds: int) -> dict[str, Any]:
    """Agreement and speeds of one runtime; every round also measures the fp32 graph in both runtimes."""
    agreement = compare(runtime, reference)
    found = []
    for _ in range(rounds):
        speed = cpu_speed(runtime, reference)
        found.append([speed, *(speed / cpu_speed(exact[name], reference) for name in (runtime.name, "openvino"))])
    speeds, ratios, to_openvino = zip(*found, strict=True)
    return {
        "tokens": reference.tokens,
        "min_cosine": agreement.min_cosine,
        "mean_cosine": agreement.mean_cosine,
        "neighbour_overlap": agreement.neighbour_overlap,
        "passed": agreement.passes(GATES["int8"]),
        "tokens_per_cpu_second": median(speeds),
        "speed_ratio": median(ratios),
        "speed_ratio_to_openvino_fp32": median(to_openvino),
        "speed_ratios": list(ratios),
    }


def cpu_speed(runtime: Runtime, reference: Reference) -> float:
    """Tokens a second of processor time, special tokens included, at the runtime's own batch budget."""
    batch, began = reference.batch(), time.process_time()
    runtime.rows(batch, runtime.batch_tokens)
    return reference.tokens / (time.process_time() - began)


def calibration_batches(model: GraphModel) -> list[PaddedIds]:
    """The half of the bundled corpus that the reference does not use, one window per batch."""
    texts = bundled_texts()[1::2]
    windows = cut_windows(TextTokenizer.from_directory(model.directory), texts, model.recipe.max_length, 10_000)
    return [pad([window], model.config.pad_id) for window in windows]


def quantised(model: GraphModel, recipe: Recipe) -> GraphModel:
    """Writes the graph of a recipe into a folder of its own."""
    directory: Path = WORK / "int8"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = directory / recipe.file
    recipe.make(path)
    export = replace(model.export, precision="int8", graph_sha256=graph_sha256(path), file=recipe.file)
    return replace(model, directory=directory, export=export)


def report(rows: list[dict[str, Any]]) -> None:
    table = "| model | int8 recipe | runtime | mean cosine | minimum | overlap of 10 neighbours | speed "
    table += "| to OpenVINO fp32 | MB | gate |\n|---|---|---|---|---|---|---|---|---|---|\n"
    for row in rows:
        table += (
            f"| {row['model']} | {row['recipe']} | {row['runtime']} | {row['mean_cosine']:.4f} "
            f"| {row['min_cosine']:.3f} | {row['neighbour_overlap']:.4f} | {row['speed_ratio']:.2f}x "
            f"| {row['speed_ratio_to_openvino_fp32']:.2f}x | {row['bytes'] / 1e6:.0f} "
            f"| {'passes' if row['passed'] else 'fails'} |\n"
        )
    rounds = len(rows[0]["speed_ratios"])
    table += (
        f"\nAgainst torch in fp32, {rows[0]['tokens']:,} tokens. Speed: processor time in one thread, {rounds} rounds, "
        f"against the fp32 graph in the same runtime, and in OpenVINO. The gate: {GATES['int8']}. `second` is the "
        "second product of each feed-forward block, `values` and `output` are those of attention. NNCF also quantises "
        "the embeddings and attention's own products; its number is SmoothQuant's alpha. This processor has "
        f"{', '.join(cpu_features())}.\n"
    )
    versions = ["onnxruntime", "openvino", "onnx", "numpy", *(["nncf"] if find_spec("nncf") else [])]
    keep("int8", {"machine": machine(*versions), "rows": rows}, table)


if __name__ == "__main__":
    main()
