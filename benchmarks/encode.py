"""Measures the speed of encoding end to end, with results kept, beside other libraries on the same texts and model.

    pip install -e '.[bench]' optimum-intel
    python benchmarks/encode.py [--texts 10000] [--threads 2] [--rounds 3] [--keep NAME]

sentence-transformers' own backends take part where they can be loaded: ONNX needs optimum-onnx, which excludes
transformers 5 and with it sentence-transformers 6; OpenVINO needs optimum-intel. "Plain ONNX batches" is what fastembed
does: batches of 256 texts in their order, padded to the longest, through one session of ONNX Runtime.

Each contender turns the same sentences into token embeddings of all-MiniLM-L6-v2, with the same number of threads, and
keeps them: this project writes its store, the others hold arrays in memory. Contenders take turns, and the median of
the rounds is reported. GFLOP/s counts the matrix products of the network over real tokens only; the matmul beside it is
the same arithmetic without a network, measured in the same run. A second table shows the encoder alone, by batch
budget, on a thousand of the texts.
"""

import argparse
import gzip
import importlib
import json
import os
import shutil
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import WORK as ALL_WORK
from common import data_file, exported, keep, machine

from nuner_embed import Document, encode, load_encoder
from nuner_embed.machine import cpu_features, has_bf16
from nuner_embed.models.resolver import locate
from nuner_embed.models.tokenizer import TextTokenizer
from nuner_embed.runtimes.openvino_int8 import has_vnni

WORK = ALL_WORK / "encode"
LAYERS, HIDDEN, INNER = 6, 384, 1536
PEER = "sentence-transformers, torch f32"
BUDGETS = (256, 512, 1024, 2048, 4096, 16384)
# without such units bf16 is emulated, a hundred times slower than f32, and nobody would use it
HAS_BF16 = has_bf16()
ALONE = 1000  # texts for the encoder alone
PLAIN_BATCH = 256  # fastembed's default


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=10_000, help="number of texts")
    parser.add_argument("--threads", type=int, default=2, help="threads of every contender")
    parser.add_argument("--rounds", type=int, default=3, help="the median of these is reported")
    parser.add_argument("--keep", default="encode", metavar="NAME", help="write the figures to benchmarks/results/NAME")
    arguments = parser.parse_args()
    texts = sample_texts(arguments.texts)
    model = locate("minilm-l6")
    lengths = [len(ids) + 2 for ids, _ in TextTokenizer.from_directory(model.directory).encode(texts)]
    assert max(lengths) <= 256, "a text that a contender would cut"
    WORK.mkdir(parents=True, exist_ok=True)
    corpus = WORK / "corpus.jsonl"
    for path, part in ((corpus, texts), (WORK / "few.jsonl", texts[:64])):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    contenders = make_contenders(texts, corpus, model.directory, arguments.threads)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    loads = [os.getloadavg()[0]]
    for name, run in contenders.items():
        print(f"warming up: {name}")
        run(True)
    for number in range(arguments.rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            run(False)
            times[name].append(time.perf_counter() - began)
            loads.append(os.getloadavg()[0])
            print(f"round {number + 1}: {name}: {times[name][-1]:.2f} s")
    some = slice(None, None, max(1, len(texts) // ALONE))
    report(times, lengths, loads, encoder_alone(texts[some], lengths[some], arguments.threads), arguments)


def sample_texts(count: int) -> list[str]:
    """Sentences of twenty kinds of text, drawn evenly."""
    with gzip.open(data_file("llm-annotated/annotated.jsonl.gz"), "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream]
    return texts[:: max(1, len(texts) // count)][:count]


def make_contenders(texts: list[str], corpus: Path, directory: Path, threads: int) -> dict[str, Callable[[bool], None]]:
    """The contenders by name; each function takes True for a small warm-up."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer, pipeline

    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    exported("minilm-l6", WORK / "model")
    exported("minilm-l6", WORK / "int8", precision="int8")
    features = pipeline(
        "feature-extraction",
        model=AutoModel.from_pretrained(directory).eval(),
        tokenizer=AutoTokenizer.from_pretrained(directory, model_max_length=256),
        device="cpu",
    )

    def sentence_transformers(model: Any) -> Callable[[bool], None]:
        def run(warm: bool) -> None:
            model.encode(texts[:64] if warm else texts, output_value="token_embeddings", show_progress_bar=False)

        return run

    def own_export(backend: str, **how: Any) -> Callable[[bool], None]:
        shutil.copytree(directory, WORK / backend, dirs_exist_ok=True)
        how["export"] = True
        return sentence_transformers(
            SentenceTransformer(str(WORK / backend), device="cpu", backend=backend, model_kwargs=how)
        )

    def torch_model(**how: Any) -> Callable[[bool], None]:
        return sentence_transformers(SentenceTransformer(str(directory), device="cpu", model_kwargs=how))

    def hf_pipeline(batch: int) -> Callable[[bool], None]:
        def run(warm: bool) -> None:
            part = texts[:64] if warm else texts
            kept = [np.asarray(out[0]) for out in features(part, batch_size=batch)]
            assert len(kept) == len(part)

        return run

    def ours(model: str, **options: Any) -> Callable[[bool], None]:
        def run(warm: bool) -> None:
            source = WORK / "few.jsonl" if warm else corpus  # the first run on a machine measures the runtimes
            encode(source, WORK / "store", model=model, rows="token", threads=threads, force=True, **options)

        return run

    made = {
        "HF pipeline, batch 32": hf_pipeline(32),
        f"plain ONNX batches of {PLAIN_BATCH}": plain_batches(texts, threads),
        PEER: torch_model(),
    }
    if HAS_BF16:
        made["sentence-transformers, torch bf16"] = torch_model(dtype=torch.bfloat16)
    if importable("optimum.onnxruntime", "ORTModelForFeatureExtraction"):
        made["sentence-transformers, onnx"] = own_export("onnx", session_options=onnx_options(threads))
    if importable("optimum.intel", "OVModelForFeatureExtraction"):
        made["sentence-transformers, openvino"] = own_export(
            "openvino", ov_config={"INFERENCE_NUM_THREADS": str(threads)}
        )
    made["nuner-embed, torch f32"] = ours("minilm-l6", precision="f32")
    if HAS_BF16:
        made["nuner-embed, torch, all defaults"] = ours("minilm-l6")
    made["nuner-embed, exported, all defaults"] = ours(str(WORK / "model"))
    made["nuner-embed, onnx f32"] = ours(str(WORK / "model"), runtime="onnx")
    for precision in ("f32", "bf16") if HAS_BF16 else ("f32",):
        name = f"nuner-embed, openvino {precision}"
        made[name] = ours(str(WORK / "model"), runtime="openvino", precision=precision)
    if has_vnni():
        made["nuner-embed, exported, int8 on request"] = ours(str(WORK / "model"), precision="int8")
    made["nuner-embed, exported in int8, all defaults"] = ours(str(WORK / "int8"))
    return made


def importable(module: str, name: str) -> bool:
    """Whether a class of an optional package can be imported; with the wrong transformers it is there and fails."""
    try:
        return hasattr(importlib.import_module(module), name)
    except Exception:
        return False


def plain_batches(texts: list[str], threads: int) -> Callable[[bool], None]:
    """The exported graph as it is, run on batches of texts in their order."""
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(WORK / "model" / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    session = onnxruntime.InferenceSession(str(WORK / "model" / "model.onnx"), onnx_options(threads))
    names = [port.name for port in session.get_inputs()]

    def run(warm: bool) -> None:
        kept = []
        for begin in range(0, 64 if warm else len(texts), PLAIN_BATCH):
            encodings = tokenizer.encode_batch(texts[begin : begin + (64 if warm else PLAIN_BATCH)])
            mask = np.array([one.attention_mask for one in encodings], np.int64)
            ids = np.array([one.ids for one in encodings], np.int64)
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            (states,) = session.run(None, {name: given[name] for name in names})
            kept += [state[: one.sum()].copy() for state, one in zip(states, mask, strict=True)]
        assert len(kept) == (64 if warm else len(texts))

    return run


def encoder_alone(texts: list[str], lengths: list[int], threads: int) -> dict[str, dict[int, dict[str, float]]]:
    """Tokens a second and GFLOP/s, without reading, tokenizing and writing, by runtime and batch budget."""
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    model, int8 = str(WORK / "model"), str(WORK / "int8")
    runtimes: dict[str, dict[str, Any]] = {
        "torch f32": {"model": "minilm-l6", "precision": "f32"},
        **({"torch bf16": {"model": "minilm-l6", "precision": "bf16"}} if HAS_BF16 else {}),
        "onnx f32": {"model": model, "runtime": "onnx"},
        "openvino f32": {"model": model, "runtime": "openvino", "precision": "f32"},
        **({"openvino bf16": {"model": model, "runtime": "openvino", "precision": "bf16"}} if HAS_BF16 else {}),
        "onnx int8": {"model": int8, "runtime": "onnx"},
        "openvino int8": {"model": int8, "runtime": "openvino"},
    }
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, how in runtimes.items():
        encoder = load_encoder(**how, threads=threads)
        table = encoder.tokenize(documents, "token")
        for budget in BUDGETS:
            encoder.batch_tokens = budget
            seconds = []
            for _ in range(2):
                began = time.perf_counter()
                encoder.encode_rows(table, "token")
                seconds.append(time.perf_counter() - began)
            rates = {"tokens_per_second": sum(lengths) / min(seconds), "gflops": flops(lengths) / min(seconds) / 1e9}
            found.setdefault(name, {})[budget] = rates
            print(f"{name}, batches of {budget}: {rates['tokens_per_second']:,.0f} tokens/s")
    return found


def onnx_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return options


def matmul_rates(threads: int) -> dict[str, float]:
    """GFLOP/s of a bare square product, 2048 wide, in the precisions for which the processor has units."""
    import torch

    torch.set_num_threads(threads)
    rates = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        if name == "bf16" and not HAS_BF16:
            continue
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        times = []
        for _ in range(12):
            began = time.perf_counter()
            a @ b
            times.append(time.perf_counter() - began)
        rates[name] = 2 * 2048**3 / statistics.median(times[2:]) / 1e9
    return rates


def flops(lengths: list[int]) -> float:
    """Operations of the network's matrix products over the windows: projections, feed-forward, attention."""
    tokens = sum(lengths)
    dense = tokens * LAYERS * 2 * (4 * HIDDEN**2 + 2 * HIDDEN * INNER)
    attention = sum(length**2 for length in lengths) * LAYERS * 4 * HIDDEN
    return dense + attention


def report(
    times: dict[str, list[float]],
    lengths: list[int],
    loads: list[float],
    alone: dict[str, dict[int, dict[str, float]]],
    arguments: argparse.Namespace,
) -> None:
    tokens, work = sum(lengths), flops(lengths)
    base = statistics.median(times[PEER])
    rates = matmul_rates(arguments.threads)
    rows = [
        {
            "contender": name,
            "seconds": seconds,
            "tokens_per_second": tokens / statistics.median(seconds),
            "ratio": base / statistics.median(seconds),
            "gflops": work / statistics.median(seconds) / 1e9,
        }
        for name, seconds in times.items()
    ]
    packages = ("torch", "transformers", "sentence-transformers", "onnxruntime", "openvino", "tokenizers", "numpy")
    table = f"| end to end | real tokens/s | against {PEER} | GFLOP/s | rounds, s |\n"
    table += "|---|---|---|---|---|\n"
    for row in rows:
        rounds = " ".join(f"{second:.2f}" for second in row["seconds"])
        table += (
            f"| {row['contender']} | {row['tokens_per_second']:,.0f} | {row['ratio']:.2f}x | {row['gflops']:.0f} "
            f"| {rounds} |\n"
        )
    table += (
        f"\n{len(lengths):,} sentences, {tokens:,} tokens (mean {tokens / len(lengths):.1f}), "
        f"{arguments.threads} threads. "
        f"Bare matmul in the same run: {', '.join(f'{rate:.0f} GFLOP/s in {name}' for name, rate in rates.items())}. "
        f"This processor has {', '.join(cpu_features())}; the load of the machine was {loads[0]:.1f} before the run "
        f"and {statistics.median(loads[1:]):.1f} during it. "
        "Our times include reading the corpus, loading the model, the survey and writing the synced store; "
        "the others' models are loaded beforehand and their results stay in memory.\n\n"
    )
    table += (
        f"| the encoder alone, tokens/s in batches of | {' | '.join(map(str, BUDGETS))} | best, share of matmul |\n"
    )
    table += "|---" * (len(BUDGETS) + 2) + "|\n"
    for name, cells in alone.items():
        best = max(cell["gflops"] for cell in cells.values())
        rate = rates.get(name.split()[-1])
        share = f"{best:.0f} GFLOP/s, {best / rate:.0%}" if rate else f"{best:.0f} GFLOP/s"
        speeds = " | ".join(f"{cell['tokens_per_second']:,.0f}" for cell in cells.values())
        table += f"| {name} | {speeds} | {share} |\n"
    result = {"matmul_gflops": rates, "loads": loads, "tokens": tokens, "rows": rows, "encoder_alone": alone}
    keep(arguments.keep, {"machine": machine(*packages), **result}, table)


if __name__ == "__main__":
    main()
