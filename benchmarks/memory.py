"""Measures the peak memory of an encode job on 20,000 and on 200,000 documents.

    python benchmarks/memory.py [--rows word] [--words 12]

The documents are the first words of real paragraphs, so that the larger job ends within minutes. Every job runs in a
process of its own; the figure is the kernel's high-water mark of that process.
"""

import argparse
import gzip
import shutil
import subprocess
import sys
from pathlib import Path

from common import WORK as ALL_WORK
from common import data_file, keep, machine

from nuner_embed import encode, export_onnx

WORK = ALL_WORK / "memory"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="word", choices=["token", "word", "mention"], help="rows to encode")
    parser.add_argument("--words", type=int, default=12, help="words of each document")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        encode(arguments.run, WORK / "store", model=str(WORK / "model"), rows=arguments.rows, force=True)
        print(peak_bytes())
        return
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    export_onnx("minilm-l6", WORK / "model")
    peaks = {}
    for count in (20_000, 200_000):
        corpus = write_corpus(count, arguments.words)
        command = [sys.executable, __file__, "--rows", arguments.rows, "--run", str(corpus)]
        peaks[count] = int(subprocess.check_output(command, text=True))
        print(f"{count:,} documents: {peaks[count] / 1e6:,.0f} MB")
    small, large = peaks.values()
    table = "| documents | peak memory, MB |\n|---|---|\n"
    table += "".join(f"| {count:,} | {peak / 1e6:,.0f} |\n" for count, peak in peaks.items())
    table += f"\nTen times the documents take {large / small - 1:+.1%} memory "
    table += f"(rows: {arguments.rows}, shards of 100,000 rows).\n"
    keep("memory", {"machine": machine("onnxruntime", "pyarrow", "numpy"), "peak_bytes": peaks}, table)


def peak_bytes() -> int:
    """The high-water mark of the memory of this program; getrusage would include that of the parent process."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def write_corpus(count: int, words: int) -> Path:
    path = WORK / f"{count}.txt"
    with gzip.open(data_file("text/books-paragraphs.txt.gz"), "rt", encoding="utf-8") as lines, path.open("w") as out:
        for _, line in zip(range(count), lines, strict=False):
            out.write(" ".join(line.split()[:words]) + "\n")
    return path


if __name__ == "__main__":
    main()
