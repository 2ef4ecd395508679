"""Runs the paper's few-shot protocol (section 4.1) on the base model: its last layer, its middle layer, and both.

python benchmarks/layers.py

Six sets, k = 1 to 64, ten support sets of each size, whole test parts. Everything is measured twice: with this
package's default probe, and with scikit-learn's defaults (C = 1, no class weights), as in the field notes. An
interrupted run continues.
"""

import argparse
from typing import Any

from common import RESULTS, WORK, data_file, keep, machine
from fewshot import PAPER, SETS, tell

from nuner_embed import FewShotProtocol, evaluate_fewshot, export_onnx, read_set
from nuner_embed.evaluation.comparison import AVERAGE, Grid
from nuner_embed.evaluation.fewshot import Cell
from nuner_embed.evaluation.fewshot_run import FIGURE_FILE, TABLE_FILE

LAYERS = {"last layer": (-1,), "middle layer": (-4,), "last and middle": (-1, -4)}  # of six
PROTOCOLS = {"default": FewShotProtocol(), "plain": FewShotProtocol(C=1.0, class_weight=None)}
# Field notes, section 4: another machine, 4 draws, 600 test sentences, mean of the first three sets.
NOTED = {"last layer": {1: 15.7, 4: 33.1, 16: 44.0}, "last and middle": {1: 20.7, 4: 38.5, 16: 49.9}}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    folder = WORK / "probing"
    folder.mkdir(parents=True, exist_ok=True)
    for name, layers in LAYERS.items():
        if not (folder / name).exists():
            export_onnx("minilm-l6", folder / name, layers=layers)
    sets = [read_set(name, *map(data_file, parts), format="conll") for name, parts in SETS.items()]
    models = {name: str(folder / name) for name in LAYERS}
    found = {}
    for name, protocol in PROTOCOLS.items():
        found[name] = evaluate_fewshot(
            models, sets, folder / name, protocol, cache=folder / "features", progress=tell, note=print
        )
    result = {"machine": machine("numpy", "scipy", "scikit-learn", "onnxruntime"), **found}
    tables = {name: (folder / name / TABLE_FILE).read_text() for name in PROTOCOLS}
    for name, target in (("default", "layers.png"), ("plain", "layers-plain.png")):
        (RESULTS / target).write_bytes((folder / name / FIGURE_FILE).read_bytes())
    keep("layers", result, report(found, tables))


def report(found: dict[str, dict[str, Any]], tables: dict[str, str]) -> str:
    plain = Grid([Cell(**cell) for cell in found["plain"]["cells"]])
    main_ = Grid([Cell(**cell) for cell in found["default"]["cells"]])
    lines = [
        "all-MiniLM-L6-v2, 22M parameters, frozen, before any pre-training. BioNLP 2004's training part is the set's",
        "development part (its own was not at hand).",
        "",
        "# beside the paper",
        "",
        "Token macro-F1, percent. The paper's average is over four sets, with OntoNotes 5.0, not at hand here; ours",
        "is over the other three (MIT Movie, MIT Restaurant, BioNLP 2004): the columns cannot be compared one by one.",
        "",
        "| k | here, last layer | here, last and middle | paper, RoBERTa-base | paper, NuNER |",
        "|---|---|---|---|---|",
    ]
    for i, k in enumerate(main_.k):
        ours = [100 * main_.scores(name, AVERAGE, k).mean() for name in ("last layer", "last and middle")]
        lines.append(f"| {k} | {ours[0]:.1f} | {ours[1]:.1f} | {PAPER['RoBERTa'][i]:.1f} | {PAPER['NuNER'][i]:.1f} |")
    lines += [
        "",
        "# beside this project's field notes",
        "",
        "C = 1, no class weights, mean of the same three sets. The notes took 4 draws and 600 test sentences on",
        "another machine; ± is one standard deviation over our ten draws.",
        "",
        "| k | last layer | noted | last and middle | noted |",
        "|---|---|---|---|---|",
    ]
    for k in NOTED["last layer"]:
        cells = []
        for name in NOTED:
            scores = 100 * plain.scores(name, AVERAGE, k)
            cells.append(f"{scores.mean():.1f} ± {scores.std(ddof=1):.1f} | {NOTED[name][k]}")
        lines.append(f"| {k} | " + " | ".join(cells) + " |")
    lines += ["", "# with the default probe", "", tables["default"], "![curves](layers.png)", ""]
    lines += ["# with C = 1 and no class weights", "", tables["plain"], "![curves](layers-plain.png)", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
