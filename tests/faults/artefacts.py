"""One of every artefact that the toolkit makes, all tiny."""

import gzip
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from forked import in_child, run_command
from targets import ASK, ENCODE, FEWSHOT, MODEL, PRETRAIN, Target

CITIES, BOATS = ["kiel", "oslo", "rome", "bonn"], ["ferry", "raft", "ship"]


def make_all(base: Path, llm: str) -> list[str]:
    """Makes all artefacts in a folder, and says what could not be made."""
    write_corpora(base)
    failed: list[str] = []

    def run(command: str) -> None:
        done = run_command(split(command, base, llm), cwd=base)
        if done.code != 0:
            failed.append(f"{command}: {done.code}: {done.last_words()}")

    in_child(lambda: _tiny(base), cwd=base)
    run("export {base}/tiny -o exported")
    run("verify exported")
    for name, rows in (("words", "word"), ("tokens", "token"), ("mentions", "mention")):
        run(f"encode {{base}}/annotated.jsonl -o {name} {ENCODE} --rows {rows}")
    run(f"encode {{base}}/few.jsonl -o words2 {ENCODE}")
    run(f"encode {{base}}/long.jsonl -o words3 {ENCODE}")
    for name, kind in (("flat", "flat"), ("ivf", "IVF2,Flat"), ("hnsw", "hnsw")):
        run(f"index build words -o {name} --kind {kind} --threads 1")
        run(f"index add {name} words2 --again --threads 1")
        run(f"index remove {name} --document d5")
    run(f"probe train typed.conll -o probe --k 2 {MODEL}")
    run(f"pretrain {{base}}/annotated.jsonl -o trained {PRETRAIN}")
    run("concepts calibrate trained {base}/noisy.jsonl")
    run("probe train typed.conll -o probe-trained --k 2 --model {base}/trained")
    run("encode {base}/annotated.jsonl -o words-trained --model {base}/trained --threads 1")
    run("index build words-trained -o flat-trained --kind flat")
    run(f"evaluate fewshot --model {{base}}/exported {FEWSHOT} -o evaluated")
    run(f"annotate {{base}}/texts.txt -o asked.jsonl {ASK}")
    _begin(split(f"encode {{base}}/long.jsonl -o begun {ENCODE}", base, llm), base, _shards)
    begin = split(f"pretrain {{base}}/annotated.jsonl -o training-begun {PRETRAIN}", base, llm)
    _begin(begin, base, _states, keep_every_state)
    return failed


def split(command: str, base: Path, llm: str) -> list[str]:
    """A command's arguments; see `targets`."""
    return [word.format(base=base, llm=llm) for word in shlex.split(command)]


def _tiny(base: Path) -> None:
    from fakes import tiny_model

    tiny_model("bert", base / "tiny")


def _shards(folder: Path) -> bool:
    journal = folder / "begun" / "journal.jsonl"
    return journal.exists() and journal.read_bytes().count(b"\n") >= 3


def _states(folder: Path) -> bool:
    return any((folder / "training-begun").rglob("state*.safetensors"))


def keep_every_state() -> None:
    """Lets a training keep its state after every step, in place of every two minutes."""
    from nuner_embed.pretraining import trainer

    trainer._SECONDS_BETWEEN_STATES = -1.0


def _begin(
    arguments: list[str], cwd: Path, so_far: Callable[[Path], bool], prepare: Callable[[], None] | None = None
) -> None:
    """Runs a command, and kills it as soon as it has come so far."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(cwd)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(nowhere, descriptor)
            if prepare:
                prepare()
            from nuner_embed.cli.__main__ import main

            sys.argv = ["nuner-embed", *arguments]
            main()
        finally:
            os._exit(code)
    end = time.monotonic() + 120
    while not so_far(cwd) and os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < end:
        time.sleep(0.001)
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def write_corpora(base: Path) -> None:
    """A few texts in every format that is read, and the small files that commands take."""
    rows = []
    for number in range(40):
        words = ["the", BOATS[number % 3], "number", str(number), "left", CITIES[number % 4]]
        rows.append((words, ["O", "B-boat", "O", "O", "O", "B-city"]))
    sentences = ["\n".join(f"{word}\t{tag}" for word, tag in zip(*row, strict=True)) for row in rows]
    (base / "typed.conll").write_text("\n\n".join(sentences) + "\n")
    (base / "typed.tsv").write_text("\n\n".join(sentences) + "\n")
    (base / "typed.conllu").write_text("".join(_conllu(*row) for row in rows[:12]))
    texts = [" ".join(words) for words, _ in rows]
    documents = []
    for number, ((words, _), text) in enumerate(zip(rows, texts, strict=True)):
        spans = [
            {"start": text.index(words[i]), "end": text.index(words[i]) + len(words[i]), "label": label}
            for i, label in ((1, "boat"), (5, "baltic city"))
        ]
        documents.append({"id": f"d{number}", "text": text, "spans": spans})
    lines = [json.dumps(document) + "\n" for document in documents]
    (base / "annotated.jsonl").write_text("".join(lines))
    noisy = [
        {**one, "spans": [{**span, "label": "boat"} for span in one["spans"]]} for one in documents[:6]
    ] + documents
    (base / "noisy.jsonl").write_text("".join(json.dumps({**one, "id": str(i)}) + "\n" for i, one in enumerate(noisy)))
    (base / "few.jsonl").write_text("".join(lines[:10]))
    (base / "long.jsonl").write_text(
        "".join(json.dumps({"id": f"l{i}", "text": f"{texts[i % 40]} at {i} " * 4}) + "\n" for i in range(300))
    )
    (base / "texts.txt").write_text("".join(text + "\n" for text in texts[:12]))
    (base / "texts.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    _compress(base, ("".join(text + "\n" for text in texts)).encode())
    replies = [
        {"id": f"d{i}", "text": text, "reply": f"{BOATS[i % 3]} <> boat <> x\n{CITIES[i % 4]} <> city"}
        for i, text in enumerate(texts)
    ]
    (base / "replies.jsonl").write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    _parquet(base / "typed.parquet", rows)
    (base / "queries.jsonl").write_text(
        '{"id": "a", "query": "the [[ferry]] left"}\n{"query": "left [[kiel]] today"}\n'
    )
    (base / "queries.txt").write_text("the [[ferry]] left\nleft [[kiel]] today\n")
    (base / "ids.txt").write_text("0\n1\n5\n")
    (base / "names.txt").write_text("O\nB-boat\nI-boat\nB-city\n")
    (base / "values.toml").write_text('preset = "small"\nepochs = 1\nlearning_rate = 1e-4\nbatch_size = 8\n')
    (base / "instruction.txt").write_text("List what is in it.\nText:\n{text}\n")


def _conllu(words: list[str], tags: list[str]) -> str:
    lines = [
        f"{i}\t{word}\t{word}\tNOUN\t_\t_\t0\troot\t_\tname={tag}"
        for i, (word, tag) in enumerate(zip(words, tags, strict=True), 1)
    ]
    return "\n".join(lines) + "\n\n"


def _compress(base: Path, data: bytes) -> None:
    try:
        from backports import zstd
    except ImportError:  # Python 3.14 has it
        from compression import zstd  # type: ignore[no-redef]
    (base / "texts.txt.zst").write_bytes(zstd.compress(data))


def _parquet(path: Path, rows: list[tuple[list[str], list[str]]]) -> None:
    def work() -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"tokens": [row[0] for row in rows], "ner_tags": [row[1] for row in rows]}), path)

    in_child(work, cwd=path.parent)


def copy(base: Path, target: Target, work: Path) -> None:
    """Copies an artefact, and what belongs beside it, into a folder."""
    for name in (target.name, *target.beside):
        source = base / name
        if source.is_dir():
            shutil.copytree(source, work / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, work / name)


def start_server(port: int) -> str:
    """A server that labels, in a process that ends with this one."""
    from http.server import ThreadingHTTPServer

    from llm_server import Handler, Llm

    def reply(text: str) -> str:
        words = text.split()
        return f"{words[1]} <> boat <> x" if len(words) > 1 else "nothing"

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"llm": Llm(reply)}))
    except OSError:
        return f"http://127.0.0.1:{port}/v1"  # another of these scripts, with the same artefacts, has one there
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    parent = os.getpid()
    if os.fork() == 0:
        import threading

        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who asked was killed

        threading.Thread(target=server.serve_forever, daemon=True).start()
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)
    server.server_close()
    return address
