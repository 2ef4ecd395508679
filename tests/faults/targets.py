"""The artefacts that are damaged, and the commands that read each.

Commands are written as in a shell, without the program's name. `{base}` is the folder of all artefacts as they were
made, `{llm}` the address of the server. They run in a folder that holds a copy of the artefact; what they write is
named `out...`, or is the artefact.
"""

from dataclasses import dataclass

KEY_VARIABLE = "NUNER_EMBED_TESTS_KEY"
QUERY = "'the [[ferry]] left kiel'"
MODEL = "--model {base}/exported --threads 1"
ENCODE = f"{MODEL} --shard-rows 100 --runtime onnx --precision f32 --batch-tokens 256"  # chosen, not measured
PRETRAIN = (
    "--base {base}/tiny --epochs 4 --batch-size 4 --threads 1 --device cpu"
    " --learning-rate 0.01 --frozen-layers 0 --frozen-concept-layers 0"
)
FINETUNE = "--base {base}/tiny --epochs 4 --threads 1 --device cpu --learning-rate 0.01"
FEWSHOT = "--set boats {base}/typed.conll {base}/typed.conll --k 1,2 --draws 2 --threads 1"
ASK = f"--llm some-llm --base-url {{llm}} --key-variable {KEY_VARIABLE} --retries 0 --timeout 5"
TAG_TYPES = "--types 'boat,baltic city'"


@dataclass(frozen=True)
class Target:
    """An artefact and the commands that read it.

    Attributes:
        name: of the file or folder, within the base.
        owner: whose code reads it: index, store, models, train, text or cli.
        commands: that read it.
        verify: the command that says whether it is what was written, if there is one.
        unverified: patterns of files that `verify` does not claim to read.
        chooses: patterns of files by which the fastest runtime is chosen: another one rounds otherwise.
        beside: names of further files that are copied with it.
        resumes: the commands bring the artefact to its end, and the end is the same as without the mutation.
        check: says of what such a command made whether it is as it should be.
        refused: commands among them that are refused, whatever the artefact's state.
        free: its content is whatever somebody wrote, so that results may differ with it.
    """

    name: str
    owner: str
    commands: tuple[str, ...]
    verify: str | None = None
    unverified: tuple[str, ...] = ()
    chooses: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    resumes: bool = False
    check: str | None = None
    refused: tuple[str, ...] = ()
    free: bool = False


def _index(name: str) -> Target:
    return Target(
        name,
        "index",
        (
            f"index info {name}",
            f"search {name} {QUERY} --json --threads 1",
            f"search {name} {QUERY} --json --threads 1 --unique surface",
            f"search {name} {QUERY} --csv --filter 'start < 4' --threads 1",
            f"search {name} --like {{base}}/typed.conll -o out.parquet --threads 1",
            f"index add {name} {{base}}/words2 --again --threads 1",
            f"index remove {name} --document d3",
            f"index remove {name} --filter 'start = 0'",
            f"index compact {name} --threads 1",
            f"index build {{base}}/words2 -o {name} --force --kind flat --threads 1",
        ),
        verify=f"index verify {name}",
        unverified=("*/.lock", "*/.writer.json"),
    )


def _store(name: str, *more: str, rows: str = "") -> Target:
    return Target(
        name,
        "store",
        (
            f"store info {name}",
            f"store info {name} --json",
            f"index build {name} -o out-index --kind flat --threads 1",
            f"encode {{base}}/annotated.jsonl -o {name} {ENCODE} {rows}",
            f"encode {{base}}/typed.conll -o {name} --force {MODEL}",
            *more,
        ),
        verify=f"store verify {name}",
        unverified=("*/.lock", "*/.writer.json"),
    )


def _corpus(name: str, *more: str) -> Target:
    return Target(
        name,
        "text",
        (
            f"encode {name} -o out-store {ENCODE}",
            f"encode {name} -o out-store {ENCODE} --on-error skip",
            f"probe predict {{base}}/probe {name} -o out.conll",
            *more,
        ),
        free=True,
    )


def _small(name: str, command: str, *beside: str) -> Target:
    return Target(name, "cli", (command,), beside=beside, free=True)


_MODELS = (
    Target(
        "exported",
        "models",
        (
            "encode {base}/annotated.jsonl -o out-store --model exported --threads 1",
            "encode {base}/annotated.jsonl -o out-store --model exported --runtime onnx --threads 1",
            "probe train {base}/typed.conll -o out-probe --k 2 --model exported --threads 1",
            f"search {{base}}/flat {QUERY} --model exported --json --threads 1",
            "export {base}/tiny -o exported --force",
        ),
        verify="verify exported --threads 1",
        unverified=("*/verify.json", "*/fused/*", "*/README.md"),
        chooses=("*/verify.json", "*/fused/*", "*/reference.npz"),
    ),
    Target(
        "tiny",
        "models",
        (
            "encode {base}/annotated.jsonl -o out-store --model tiny --threads 1",
            "encode {base}/annotated.jsonl -o out-store --model tiny --rows mention --threads 1",
            "export tiny -o out-exported",
            "pretrain {base}/annotated.jsonl -o out-trained --base tiny --epochs 1 --threads 1",
        ),
    ),
    Target(
        "trained",
        "models",
        (
            "encode {base}/annotated.jsonl -o out-store --model trained --threads 1",
            f"tag {{base}}/typed.conll {TAG_TYPES} --model trained --detector {{base}}/probe-trained --json",
            "search {base}/flat-trained --concept boat --model trained --json --threads 1",
            "concepts calibrate trained {base}/noisy.jsonl",
            f"pretrain {{base}}/annotated.jsonl -o trained {PRETRAIN}",
            f"pretrain {{base}}/annotated.jsonl -o trained {PRETRAIN} --force",
        ),
        refused=(f"pretrain {{base}}/annotated.jsonl -o trained {PRETRAIN}",),
    ),
)
_TRAINING = (
    Target(
        "probe",
        "train",
        (
            "probe predict probe {base}/typed.conll --json --threads 1",
            "probe predict probe {base}/annotated.jsonl -o out.csv --threads 1",
            "probe evaluate probe {base}/typed.conll --threads 1",
            f"probe train {{base}}/typed.conll -o probe --k 2 {MODEL} --force",
            f"encode {{base}}/annotated.jsonl -o out-store --rows mention --mentions detect --detector probe {MODEL}",
        ),
    ),
    Target(
        "probe-trained",
        "train",
        (f"tag {{base}}/typed.conll {TAG_TYPES} --model {{base}}/trained --detector probe-trained --json --threads 1",),
    ),
    Target(
        "training-begun",
        "train",
        (f"pretrain {{base}}/annotated.jsonl -o training-begun {PRETRAIN}",),
        resumes=True,
    ),
    Target(
        "evaluated",
        "train",
        (
            f"evaluate fewshot --model {{base}}/exported {FEWSHOT} -o evaluated",
            f"evaluate fewshot --model {{base}}/exported --model two={{base}}/trained {FEWSHOT} -o evaluated",
        ),
    ),
)
_ANNOTATION = (
    Target(
        "asked.jsonl",
        "text",
        (
            f"annotate {{base}}/texts.txt -o asked.jsonl {ASK}",
            f"annotate {{base}}/texts.txt -o asked.jsonl {ASK} --dry-run",
            "annotate asked.replies.jsonl -o out.jsonl",
        ),
        beside=("asked.replies.jsonl",),
    ),
    Target("replies.jsonl", "text", ("annotate replies.jsonl -o out.jsonl --sample-review 5",), free=True),
)
_EVALUATE = "probe evaluate {base}/probe "
TARGETS = (
    *(_index(name) for name in ("flat", "ivf", "hnsw")),
    _store("words", f"probe train {{base}}/typed.conll -o out-probe --k 2 {MODEL} --background words"),
    _store("tokens", rows="--rows token"),
    _store("mentions", rows="--rows mention"),
    Target(
        "begun",
        "store",
        (f"encode {{base}}/long.jsonl -o begun {ENCODE}",),
        resumes=True,
        check="store verify begun",
    ),
    *_MODELS,
    *_TRAINING,
    *_ANNOTATION,
    _corpus(
        "annotated.jsonl",
        f"encode annotated.jsonl -o out-store {ENCODE} --rows mention",
        f"probe train annotated.jsonl -o out-probe --k 2 {MODEL}",
        f"annotate annotated.jsonl -o out.jsonl {ASK}",
        "search {base}/flat --like annotated.jsonl --json",
        f"pretrain annotated.jsonl -o out-trained {PRETRAIN}",
    ),
    *(_corpus(name, _EVALUATE + name) for name in ("typed.conll", "typed.tsv", "typed.parquet")),
    *(_corpus(name) for name in ("typed.conllu", "texts.txt", "texts.jsonl.gz", "texts.txt.zst")),
    _small("queries.jsonl", "search {base}/flat --queries queries.jsonl -o out.parquet"),
    _small("queries.txt", "search {base}/flat --queries queries.txt --json"),
    _small("ids.txt", "index remove flat --ids ids.txt", "flat"),
    _small("names.txt", f"encode {{base}}/typed.conll -o out-store {ENCODE} --tag-names names.txt"),
    _small("values.toml", "pretrain {base}/annotated.jsonl -o out-trained --base {base}/tiny --config values.toml"),
    _small(
        "instruction.txt", f"annotate {{base}}/texts.txt -o out.jsonl {ASK} --instruction instruction.txt --dry-run"
    ),
)
