"""Measures `nuner-embed serve` with 1, 8 and 32 clients, beside the batch engine with the same texts in the same run.

    python benchmarks/serve.py [--texts 4096] [--texts-per-request 16] [--clients 1,8,32]

Each client is a thread that sends a request, waits for the answer, and sends the next one; all clients are one process
beside the server, on the same cores. The texts are the first words of real paragraphs. The batch engine embeds each
text as a mention that covers it, which has the numbers of the server's vectors of texts, and writes nothing. Each
measurement is repeated, and the best throughput counts for both sides; the seconds of requests are of that repetition.
"""

import argparse
import gzip
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from common import WORK as ALL_WORK
from common import data_file, exported, keep, machine

from nuner_embed import Document, Span, load_encoder
from nuner_embed.encoders.text import TextEncoder

WORK = ALL_WORK / "serve"
_DOCUMENTS_AT_A_TIME = 2048  # as many texts as a job encodes in one table


@dataclass
class Load:
    """What some clients got from the server.

    Attributes:
        seconds: from the first request to the last answer.
        latencies: seconds of each request.
    """

    seconds: float
    latencies: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model; minilm-l6, exported, if none is given")
    parser.add_argument("--texts", type=int, default=4096, help="number of texts")
    parser.add_argument("--words", type=int, default=25, help="most words of a text")
    parser.add_argument("--texts-per-request", type=int, default=16, help="texts in a request")
    parser.add_argument("--clients", default="1,8,32", help="numbers of clients, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/serve.*")
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    model = arguments.model or exported("minilm-l6", WORK / "model")
    texts = read_texts(arguments.texts, arguments.words)
    encoder = load_encoder(model)
    tokens = len(encoder.tokenize([Document("", text) for text in texts], "token").ids)
    batch = min(batch_seconds(encoder, texts) for _ in range(arguments.repeats))
    rows = []
    with server(model) as url:
        name = httpx2.get(f"{url}/v1/models").json()["data"][0]["id"]
        for clients in map(int, arguments.clients.split(",")):
            loads = [load(url, name, texts, arguments.texts_per_request, clients) for _ in range(arguments.repeats)]
            best = min(loads, key=lambda one: one.seconds)
            rows.append({
                "clients": clients,
                "tokens_per_second": tokens / best.seconds,
                "of_batch": batch / best.seconds,
                "p50_ms": 1000 * float(np.percentile(best.latencies, 50)),
                "p99_ms": 1000 * float(np.percentile(best.latencies, 99)),
            })  # fmt: skip
    result = {
        "machine": machine("onnxruntime", "fastapi", "uvicorn", "httpx2"),
        "runtime": encoder.runtime.description,
        "texts": len(texts),
        "tokens": tokens,
        "texts_per_request": arguments.texts_per_request,
        "batch_tokens_per_second": tokens / batch,
        "rows": rows,
    }
    report(result, write=arguments.keep)


def read_texts(count: int, words: int) -> list[str]:
    """The first words of real paragraphs, of different lengths."""
    random = np.random.default_rng(0)
    with gzip.open(data_file("text/books-paragraphs.txt.gz"), "rt", encoding="utf-8") as lines:
        return [" ".join(line.split()[: random.integers(3, words + 1)]) for line in islice(lines, count)]


def batch_seconds(encoder: TextEncoder, texts: list[str]) -> float:
    """Seconds in which the batch engine tokenizes and embeds all texts."""
    begin = time.perf_counter()
    for first in range(0, len(texts), _DOCUMENTS_AT_A_TIME):
        some = texts[first : first + _DOCUMENTS_AT_A_TIME]
        documents = [Document(str(i), text, spans=(Span(0, len(text)),)) for i, text in enumerate(some)]
        encoder.encode_rows(encoder.tokenize(documents, "mention"), "mention")
    return time.perf_counter() - begin


def load(url: str, model: str, texts: list[str], size: int, clients: int) -> Load:
    """Sends all texts with some clients at a time."""
    requests = iter([texts[first : first + size] for first in range(0, len(texts), size)])
    lock, latencies = threading.Lock(), list[float]()

    def work() -> None:
        with httpx2.Client(timeout=600) as client:
            while True:
                with lock:
                    some = next(requests, None)
                if some is None:
                    return
                began = time.perf_counter()
                body = {"model": model, "input": some, "encoding_format": "base64"}
                answer = client.post(f"{url}/v1/embeddings", json=body)
                took = time.perf_counter() - began
                assert answer.status_code == 200, answer.text
                with lock:
                    latencies.append(took)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(time.perf_counter() - begin, latencies)


@contextmanager
def server(model: str) -> Iterator[str]:
    """The address of a server, once it is ready."""
    command = [str(Path(sys.executable).with_name("nuner-embed")), "serve", "--model", model, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith("ready: "):
                break
        found = re.search(r"http://[\d.]+:\d+", said)
        if found is None or process.poll() is not None:
            raise SystemExit(said)
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


def report(result: dict[str, Any], *, write: bool) -> None:
    table = "| clients | tokens/s | of the batch engine | p50, ms | p99, ms |\n|---|---|---|---|---|\n"
    for row in result["rows"]:
        table += f"| {row['clients']} | {row['tokens_per_second']:,.0f} | {row['of_batch']:.2f} | "
        table += f"{row['p50_ms']:,.0f} | {row['p99_ms']:,.0f} |\n"
    table += f"\nThe batch engine: {result['batch_tokens_per_second']:,.0f} tokens/s. {result['texts']:,} texts with "
    table += f"{result['tokens']:,} tokens, {result['texts_per_request']} texts in a request; {result['runtime']}.\n"
    if write:
        keep("serve", result, table)
    else:
        print(table)


if __name__ == "__main__":
    main()
