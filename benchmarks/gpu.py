"""Compares torch and ONNX Runtime on a GPU with the numbers of the CPU and the speed of sentence-transformers.

python benchmarks/gpu.py [MODEL] [--texts 18740]

MODEL is the name of the base model or its Hugging Face directory. The numbers must be those of the CPU, jobs on the GPU
must be repeatable to the byte, and features computed on the GPU must give the few-shot scores of those from the CPU.
"""

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import WORK, data_file, keep, machine

from nuner_embed import Document, FewShotProtocol, encode, export_onnx, load_encoder, read_set, verify
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.encoders.tokens import tokenize
from nuner_embed.evaluation.fewshot import measure, needed, plan
from nuner_embed.heads.features import FeatureCache
from nuner_embed.tables import TokenTable

BUDGETS = (4096, 16384, 65536, 262144)
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="minilm-l6", help="name or directory of the base model")
    parser.add_argument("--texts", type=int, default=18740, help="number of texts")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here")
    work = WORK / "gpu"
    work.mkdir(parents=True, exist_ok=True)
    texts = sample_texts(arguments.texts)
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    result: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "texts": len(texts)}
    for precision in ("fp32", "fp16"):
        if not (work / precision).exists():
            export_onnx(arguments.model, work / precision, precision=precision)
        result[f"verify {precision}"] = verify(work / precision, device="cuda").to_dict()
        print(precision, result[f"verify {precision}"]["runtimes"], flush=True)
    encoders = {
        "torch f32": load_encoder(arguments.model, runtime="torch", device="cuda"),
        "torch bf16": load_encoder(arguments.model, runtime="torch", device="cuda", precision="bf16"),
        "torch fp16": load_encoder(arguments.model, runtime="torch", device="cuda", precision="fp16"),
        "onnx f32": load_encoder(str(work / "fp32"), runtime="onnx", device="cuda"),
        "onnx fp16": load_encoder(str(work / "fp16"), runtime="onnx", device="cuda"),
    }
    source = load_encoder(arguments.model, runtime="torch", device="cpu")
    table = tokenize(documents, source.tokenizer, "token")
    few = tokenize(documents[:: max(1, len(documents) // 300)], source.tokenizer, "token")
    reference = source.encode_rows(few, "token").vectors
    result["runtimes"] = {
        name: {**agreement(encoder, few, reference), **speeds(encoder, table)} for name, encoder in encoders.items()
    }
    result["end to end"] = end_to_end(work, texts, arguments.model)
    result["few-shot"] = few_shot(work, arguments.model, encoders)
    packages = ("torch", "transformers", "onnxruntime-gpu", "sentence-transformers", "numpy")
    result["machine"] = machine(*packages)
    keep("gpu", result, report(result))


def sample_texts(count: int) -> list[str]:
    with gzip.open(data_file("llm-annotated/annotated.jsonl.gz"), "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in stream][:count]


def agreement(encoder: TextEncoder, table: TokenTable, reference: np.ndarray) -> dict[str, float]:
    mine = encoder.encode_rows(table, "token").vectors
    cosine = (mine * reference).sum(axis=1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(reference, axis=1)
    return {
        "min_cosine": float(cosine.min()),
        "mean_cosine": float(cosine.mean()),
        "max_abs": float(np.abs(mine - reference).max()),
    }


def speeds(encoder: TextEncoder, table: TokenTable) -> dict[str, Any]:
    """Tokens a second of the encoder alone, special tokens included, by batch budget; the median of three."""
    found = {}
    for budget in BUDGETS:
        encoder.batch_tokens = budget
        encoder.encode_rows(table.slice(0, min(2000, len(table.documents))), "word")
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            tokens = encoder.encode_rows(table, "token").statistics.tokens
            times.append(time.perf_counter() - began)
        found[str(budget)] = tokens / float(np.median(times))
        print(encoder.runtime.description, budget, round(found[str(budget)]), flush=True)
    return {"tokens_per_second": found}


def end_to_end(work: Path, texts: list[str], model: str) -> dict[str, Any]:
    """Seconds from texts to kept embeddings: our job writes its store, sentence-transformers keeps arrays in memory."""
    from sentence_transformers import SentenceTransformer

    from nuner_embed.models.resolver import locate

    corpus = work / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    peer = SentenceTransformer(str(locate(model).directory), device="cuda")

    def theirs(batch: int) -> Callable[[], object]:
        return lambda: peer.encode(texts, output_value="token_embeddings", batch_size=batch, show_progress_bar=False)

    def ours(name: str, **options: Any) -> Callable[[], object]:
        return lambda: encode(corpus, work / "store", model=name, rows="token", device="cuda", force=True, **options)

    contenders = {
        "sentence-transformers, torch, batch 32": theirs(32),
        "sentence-transformers, torch, batch 256": theirs(256),
        "nuner-embed, torch f32": ours(model, runtime="torch"),
        "nuner-embed, exported, f32": ours(str(work / "fp32")),
        "nuner-embed, exported, fp16": ours(str(work / "fp16")),
    }
    found: dict[str, Any] = {}
    for name, run in contenders.items():
        times, hashes = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            kept = run()
            times.append(time.perf_counter() - began)
            hashes.append([shard.sha256 for shard in getattr(kept, "shards", ())])
        found[name] = {"seconds": float(np.median(times)), "repeatable": all(one == hashes[0] for one in hashes)}
        print(name, found[name], flush=True)
    return found


def few_shot(work: Path, model: str, encoders: dict[str, TextEncoder]) -> dict[str, Any]:
    """Token macro-F1 on MIT Restaurant at k = 1, 4, 16, from features of the CPU and of the GPU."""
    parts = ("typed/mit-restaurant/train.txt", "typed/mit-restaurant/test.txt")
    typed = read_set("MIT Restaurant", *map(data_file, parts), format="conll")
    protocol = FewShotProtocol(k=(1, 4, 16))
    draws = plan(typed, protocol)
    found = {}
    for name, encoder in {"torch on the CPU": load_encoder(model, device="cpu"), **encoders}.items():
        cache = FeatureCache(work / "features", encoder)
        train, test = cache.features([typed.train[i] for i in needed(draws)]), cache.features(typed.test)
        cells = measure(name, typed, draws, protocol, train, test, threads=4)
        found[name] = {str(cell.k): cell.scores for cell in cells}
    return found


def report(result: dict[str, Any]) -> str:
    lines = [
        f"{result['gpu']}. {result['texts']:,} sentences of twenty kinds of text, all-MiniLM-L6-v2.",
        "",
        "The encoder alone, tokens a second by batch budget in tokens, and its numbers beside torch in f32 on the CPU:",
        "",
        "| runtime | "
        + " | ".join(f"{budget:,}" for budget in BUDGETS)
        + " | min cosine | mean cosine | max difference |",
        "|---" * (len(BUDGETS) + 4) + "|",
    ]
    for name, row in result["runtimes"].items():
        cells = " | ".join(f"{row['tokens_per_second'][str(budget)]:,.0f}" for budget in BUDGETS)
        lines.append(
            f"| {name} | {cells} | {row['min_cosine']:.6f} | {row['mean_cosine']:.6f} | {row['max_abs']:.1e} |"
        )
    lines += [
        "",
        "End to end, the median of three:",
        "",
        "| | seconds | ratio | same bytes each time |",
        "|---|---|---|---|",
    ]
    base = next(iter(result["end to end"].values()))["seconds"]
    for name, row in result["end to end"].items():
        same = ("yes" if row["repeatable"] else "no") if name.startswith("nuner") else ""
        lines.append(f"| {name} | {row['seconds']:.1f} | {base / row['seconds']:.2f}x | {same} |")
    lines += [
        "",
        "Few-shot, MIT Restaurant, token macro-F1 with None left out, percent, the same ten support sets:",
        "",
        "| features from | k = 1 | k = 4 | k = 16 | largest difference in a draw |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(result["few-shot"].values()))
    for name, cells in result["few-shot"].items():
        means = " | ".join(f"{100 * np.mean(scores):.2f}" for scores in cells.values())
        off = max(float(np.abs(np.subtract(cells[k], first[k])).max()) for k in cells)
        lines.append(f"| {name} | {means} | {100 * off:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
