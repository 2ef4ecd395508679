"""Measures encoding on a GPU: against the CPU's numbers, a bare matrix product and sentence-transformers.

    python benchmarks/gpu.py [--texts 18740]

Two models take part: nuner-mini, and a network of the shape of RoBERTa-base with random weights, which borrows
nuner-mini's tokenizer. Numbers must be those of the CPU, jobs must be repeatable to the byte, and features computed on
the GPU must give the few-shot scores of those from the CPU.

End to end, this project reads a corpus, loads the model, and writes its store; sentence-transformers has the model
loaded and holds arrays in memory. TFLOP/s counts the matrix products of the network over real tokens only; the bare
product beside it is measured in the same run.
"""

import argparse
import gzip
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import WORK, data_file, keep, machine

from nuner_embed import Document, FewShotProtocol, encode, export_onnx, load_encoder, read_set, verify
from nuner_embed.encoders.text import TextEncoder
from nuner_embed.evaluation.fewshot import measure, needed, plan
from nuner_embed.heads.features import FeatureCache
from nuner_embed.models.resolver import locate
from nuner_embed.store.shard import write_shard
from nuner_embed.tables import RowEmbeddings, TokenTable

DEVICE = "cuda"
BUDGETS = (4096, 16384, 65536, 262144)
PEER_BATCHES = (32, 128, 512)  # sentences
ROUNDS = 3
MATMUL_WIDTH = 8192
# kinds of operations on the device, by a part of their names in torch's profiler; the first that fits
KINDS = {
    "copies to the host": ("memcpy dtoh",),
    "copies to the GPU": ("memcpy htod",),
    "attention": ("flash", "fmha", "attention"),
    "matrix products": ("gemm", "cutlass", "cublas", "nvjet", "xmma", "addmm", "matmul"),
}
OTHERS = "other operations"
STEPS = ("tokenizing", "encoding", "writing")
Result = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=18740, help="number of texts")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU here")
    work = WORK / "gpu"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    texts = sample_texts(arguments.texts)
    models = {"nuner-mini": "nuner-mini", "RoBERTa-base's shape": str(random_roberta(work / "roberta"))}
    rates = matmul_rates()
    result: Result = {"gpu": torch.cuda.get_device_name(), "texts": len(texts), "matmul_tflops": rates}
    result["models"] = {name: compare(name, model, texts, work) for name, model in models.items()}
    result["few_shot"] = few_shot(work, "nuner-mini")
    packages = ("torch", "transformers", "onnxruntime-gpu", "sentence-transformers", "numpy")
    result["machine"] = machine(*packages)
    keep("gpu", result, report(result))


def sample_texts(count: int) -> list[str]:
    """Sentences of twenty kinds of text."""
    with gzip.open(data_file("llm-annotated/annotated.jsonl.gz"), "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in stream][:count]


def random_roberta(directory: Path, **shape: int) -> Path:
    """A network of the shape of RoBERTa-base with random weights, and nuner-mini's tokenizer."""
    import transformers

    source = locate("nuner-mini")
    torch.manual_seed(0)
    vocabulary, pad_id = source.config.vocabulary, source.config.pad_id
    config = transformers.RobertaConfig(
        vocab_size=vocabulary, pad_token_id=pad_id, max_position_embeddings=513 + pad_id, **shape
    )
    transformers.AutoModel.from_config(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (source.directory / name).exists():
            shutil.copy(source.directory / name, directory)
    return directory


def matmul_rates() -> dict[str, float]:
    """TFLOP/s of a bare square product, by precision; f32 without TF32, as the encoders run."""
    rates = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        a, b = (torch.randn(MATMUL_WIDTH, MATMUL_WIDTH, device=DEVICE).to(dtype) for _ in range(2))
        seconds = [timed(lambda a=a, b=b: a @ b) for _ in range(12)][2:]
        rates[name] = 2 * MATMUL_WIDTH**3 / float(np.median(seconds)) / 1e12
    return rates


def timed(run: Callable[[], object]) -> float:
    """Seconds until everything that `run` queues is done."""
    wait()
    began = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - began


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def compare(name: str, model: str, texts: list[str], work: Path) -> Result:
    """One model: each runtime's numbers and speeds, where its time goes, and the time end to end."""
    work = work / name.split()[0].split("'")[0]
    work.mkdir(parents=True, exist_ok=True)
    found: Result = {"verify": export(model, work)}
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    source = load_encoder(model, runtime="torch", device="cpu")
    table = source.tokenize(documents, "token")
    few = source.tokenize(documents[:: max(1, len(documents) // 300)], "token")
    reference = source.encode_rows(few, "token").vectors
    config = json.loads((locate(model).directory / "config.json").read_text())
    work_per_pass = flops(config, table.counts + source.tokenizer.specials)
    found["tokens"] = int((table.counts + source.tokenizer.specials).sum())
    found["tflop"] = work_per_pass / 1e12
    found["runtimes"] = {}
    for runtime, how in runtimes_of(model, work).items():
        encoder = load_encoder(**how)
        found["runtimes"][runtime] = {
            "description": encoder.runtime.description,
            **agreement(encoder, few, reference),
            "seconds": speeds(encoder, table),
        }
        if runtime.startswith("torch"):
            found["runtimes"][runtime]["time"] = where_the_time_goes(encoder, documents)
    found["end_to_end"] = end_to_end(model, texts, work)
    return found


def export(model: str, work: Path) -> Result:
    """Exports the model in fp32 and fp16, and verifies both on the device."""
    verified = {}
    for precision in ("fp32", "fp16"):
        export_onnx(model, work / precision, precision=precision, force=True)
        verified[precision] = verify(work / precision, device=DEVICE).to_dict()
    return verified


def runtimes_of(model: str, work: Path) -> dict[str, Result]:
    return {
        "torch f32": {"model": model, "runtime": "torch", "device": DEVICE},
        "torch bf16": {"model": model, "runtime": "torch", "device": DEVICE, "precision": "bf16"},
        "torch fp16": {"model": model, "runtime": "torch", "device": DEVICE, "precision": "fp16"},
        "onnx f32": {"model": str(work / "fp32"), "runtime": "onnx", "device": DEVICE},
        "onnx fp16": {"model": str(work / "fp16"), "runtime": "onnx", "device": DEVICE},
    }


def flops(config: Result, lengths: np.ndarray) -> float:
    """Operations of the network's matrix products over the windows: projections, feed-forward, attention."""
    layers, hidden, inner = (config[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
    dense = int(lengths.sum()) * layers * 2 * (4 * hidden**2 + 2 * hidden * inner)
    return float(dense + int((lengths**2).sum()) * layers * 4 * hidden)


def agreement(encoder: TextEncoder, table: TokenTable, reference: np.ndarray) -> Result:
    """The rows beside those of torch in f32 on the CPU, and those of texts alone beside those of texts together."""
    mine = encoder.encode_rows(table, "token").vectors
    again = encoder.encode_rows(table, "token").vectors
    parts = [encoder.encode_rows(table.slice(i, i + 1), "token").vectors for i in range(min(50, len(table.documents)))]
    alone = np.concatenate(parts)
    cosine = cosines(mine, reference)
    return {
        "min_cosine": float(cosine.min()),
        "mean_cosine": float(cosine.mean()),
        "max_abs": float(np.abs(mine - reference).max()),
        "alone_min_cosine": float(cosines(mine[: len(alone)], alone).min()),
        "repeatable": bool((mine == again).all()),
    }


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    found: np.ndarray = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return found


def speeds(encoder: TextEncoder, table: TokenTable) -> dict[str, float]:
    """Seconds of the encoder alone, rows in float16, by batch budget; the median of three."""
    found = {}
    for budget in BUDGETS:
        encoder.batch_tokens = budget
        times = []
        for _ in range(ROUNDS + 1):  # the first warms up
            times.append(timed(lambda: encoder.encode_rows(table, "token", dtype="float16")))
        found[str(budget)] = float(np.median(times[1:]))
        print(encoder.runtime.description, budget, f"{found[str(budget)]:.3f} s", flush=True)
    encoder.batch_tokens = encoder.runtime.batch_tokens
    return found


def where_the_time_goes(encoder: TextEncoder, documents: list[Document]) -> Result:
    """Seconds of each step alone, and what the device does in one pass of the encoder, from torch's profiler.

    In a job the steps overlap. Operations on the device may overlap too, so their seconds may exceed the pass.
    """
    from torch.profiler import ProfilerActivity, profile

    def encode_once() -> RowEmbeddings:
        return encoder.encode_rows(table, "token", dtype="float16")

    began = time.perf_counter()
    table = encoder.tokenize(documents, "token")
    seconds = {"tokenizing": time.perf_counter() - began}
    embedded = encode_once()  # warms up
    seconds["encoding"] = timed(encode_once)
    with tempfile.TemporaryDirectory(dir=WORK) as directory:
        began = time.perf_counter()
        write_shard(Path(directory), "shard-00000", table, embedded, "token")
        seconds["writing"] = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CUDA if DEVICE == "cuda" else ProfilerActivity.CPU]) as profiled:
        timed(encode_once)
    on_device = dict.fromkeys([*KINDS, OTHERS], 0.0)
    for event in profiled.key_averages():
        micro = event.self_device_time_total if DEVICE == "cuda" else event.self_cpu_time_total
        on_device[kind_of(event.key)] += micro / 1e6
    return {**seconds, "on_device": on_device}


def kind_of(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name.lower() for part in parts)), OTHERS)


def end_to_end(model: str, texts: list[str], work: Path) -> Result:
    """Seconds from texts to kept embeddings, and whether the store has the same bytes each time."""
    from sentence_transformers import SentenceTransformer

    corpus = work / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    peer = SentenceTransformer(str(locate(model).directory), device=DEVICE)
    if DEVICE == "cuda":
        peer = peer.half()

    def theirs(batch: int) -> Callable[[], object]:
        how = {"output_value": "token_embeddings", "batch_size": batch, "show_progress_bar": False}
        return lambda: [one.cpu().numpy() for one in peer.encode(texts, **how)]

    def ours(model: str, **options: Any) -> Callable[[], object]:
        return lambda: encode(corpus, work / "store", rows="token", force=True, model=model, **options)

    contenders = {
        **{f"sentence-transformers, fp16, batch {batch}": theirs(batch) for batch in PEER_BATCHES},
        **{f"nuner-embed, {name}": ours(**how) for name, how in runtimes_of(model, work).items()},
    }
    found: Result = {}
    for name, run in contenders.items():
        run()  # warms up
        times, hashes = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            kept = run()
            times.append(time.perf_counter() - began)
            hashes.append([shard.sha256 for shard in getattr(kept, "shards", ())])
        found[name] = {"seconds": float(np.median(times)), "repeatable": all(one == hashes[0] for one in hashes)}
        print(name, found[name], flush=True)
    return found


def few_shot(work: Path, model: str) -> Result:
    """Token macro-F1 on MIT Restaurant at k = 1, 4, 16, from features of the CPU and of the GPU."""
    parts = ("typed/mit-restaurant/train.txt", "typed/mit-restaurant/test.txt")
    typed = read_set("MIT Restaurant", *map(data_file, parts), format="conll")
    protocol = FewShotProtocol(k=(1, 4, 16))
    draws = plan(typed, protocol)
    found = {}
    ours = runtimes_of(model, work / "nuner-mini")
    for name, how in {"torch f32 on the CPU": {"model": model, "device": "cpu"}, **ours}.items():
        cache = FeatureCache(work / "features", load_encoder(**how))
        train, test = cache.features([typed.train[i] for i in needed(draws)]), cache.features(typed.test)
        cells = measure(name, typed, draws, protocol, train, test, threads=4)
        found[name] = {str(cell.k): cell.scores for cell in cells}
    return found


def report(result: Result) -> str:
    rates = result["matmul_tflops"]
    bare = ", ".join(f"{rate:.0f} TFLOP/s in {name}" for name, rate in rates.items())
    lines = [
        f"{result['gpu']}. {result['texts']:,} sentences of twenty kinds of text.",
        f"A bare matrix product {MATMUL_WIDTH:,} wide: {bare}.",
    ]
    for name, model in result["models"].items():
        lines += ["", f"## {name}", *alone(model, rates), *time_table(model), *end_table(model)]
    return "\n".join([*lines, *few_shot_table(result["few_shot"])]) + "\n"


def alone(model: Result, rates: dict[str, float]) -> list[str]:
    lines = [
        "",
        "The encoder alone, tokens a second by batch budget in tokens; the best in TFLOP/s and beside the bare product "
        "in bf16; its numbers beside torch in f32 on the CPU, and those of texts alone beside texts together:",
        "",
        f"| runtime | {' | '.join(f'{budget:,}' for budget in BUDGETS)} | TFLOP/s | share of bf16 matmul "
        "| min cosine | mean cosine | max difference | alone, min cosine | same bytes |",
        "|---" * (len(BUDGETS) + 8) + "|",
    ]
    for name, row in model["runtimes"].items():
        cells = " | ".join(f"{model['tokens'] / row['seconds'][str(budget)]:,.0f}" for budget in BUDGETS)
        best = model["tflop"] / min(row["seconds"].values())
        lines.append(
            f"| {name} | {cells} | {best:.1f} | {best / rates['bf16']:.1%} | {row['min_cosine']:.6f} "
            f"| {row['mean_cosine']:.6f} | {row['max_abs']:.1e} | {row['alone_min_cosine']:.6f} "
            f"| {'yes' if row['repeatable'] else 'no'} |"
        )
    return lines


def time_table(model: Result) -> list[str]:
    kinds = [*KINDS, OTHERS]
    lines = [
        "",
        f"Where the time goes, seconds: each step alone, and the operations on the GPU during the encoding "
        f"({model['tokens']:,} tokens):",
        "",
        f"| runtime | {' | '.join(STEPS)} | {' | '.join(kinds)} |",
        "|---" * (len(STEPS) + len(kinds) + 1) + "|",
    ]
    for name, row in model["runtimes"].items():
        if "time" in row:
            steps = [row["time"][step] for step in STEPS]
            cells = " | ".join(f"{second:.3f}" for second in [*steps, *(row["time"]["on_device"][k] for k in kinds)])
            lines.append(f"| {name} | {cells} |")
    return lines


def end_table(model: Result) -> list[str]:
    rows = model["end_to_end"]
    best = min(row["seconds"] for name, row in rows.items() if not name.startswith("nuner"))
    lines = [
        "",
        f"End to end, the median of {ROUNDS}; the ratio is to the best batch size of sentence-transformers:",
        "",
        "| | seconds | tokens/s | ratio | same bytes each time |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        same = ("yes" if row["repeatable"] else "no") if name.startswith("nuner") else ""
        rate = model["tokens"] / row["seconds"]
        lines.append(f"| {name} | {row['seconds']:.2f} | {rate:,.0f} | {best / row['seconds']:.2f}x | {same} |")
    return lines


def few_shot_table(rows: Result) -> list[str]:
    lines = [
        "",
        "## Few-shot",
        "",
        "nuner-mini on MIT Restaurant, token macro-F1 with None left out, percent, the same ten support sets:",
        "",
        "| features from | k = 1 | k = 4 | k = 16 | largest difference in a draw |",
        "|---|---|---|---|---|",
    ]
    first = next(iter(rows.values()))
    for name, cells in rows.items():
        means = " | ".join(f"{100 * np.mean(scores):.2f}" for scores in cells.values())
        off = max(float(np.abs(np.subtract(cells[k], first[k])).max()) for k in cells)
        lines.append(f"| {name} | {means} | {100 * off:.2f} |")
    return lines


if __name__ == "__main__":
    main()
