"""The command line as a user meets it."""

import importlib.metadata
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from command import run, run_apart
from fakes import tiny_model

from nuner_embed import Store, __version__
from nuner_embed.cli.demo import _is_current
from nuner_embed.heads.io import open_head
from nuner_embed.models.onnx_export import graph_sha256


def test_help_lists_every_command_and_each_has_an_example():
    overview = run("--help", check=0).stdout
    for command in ("demo", "export", "verify", "encode", "index", "search", "probe", "evaluate", "store", "models"):
        assert command in overview
    of_index = (["index", name] for name in ("build", "add", "remove", "compact", "info", "verify"))
    of_probe = (["probe", name] for name in ("train", "predict", "evaluate"))
    for command in (["demo"], ["export"], ["verify"], ["encode"], ["store"], ["store", "info"], ["store", "verify"],
                    ["models"], ["models", "list"], ["doctor"], ["search"], ["index"], *of_index,
                    *of_probe, ["evaluate", "fewshot"]):  # fmt: skip
        assert f"Example: nuner-embed {command[0]}" in " ".join(run(*command, "--help", check=0).stdout.split())


@pytest.mark.parametrize("command", ["build", "add"])
def test_help_says_that_no_gpu_was_at_hand(command):
    shown = " ".join(run("index", command, "--help", check=0).stdout.split())
    of_gpu = shown[shown.index("--gpu") :].split(" --")[0]
    assert "This option was never run on a GPU." in of_gpu


def test_version():
    """The versions of the packages that matter, none of which is imported."""
    first, *others = run("--version", check=0).stdout.splitlines()
    assert first == f"nuner-embed, version {__version__}"
    assert others[0] == f"python {platform.python_version()}"
    assert f"numpy {importlib.metadata.version('numpy')}" in others
    assert [line.split()[0] for line in others[1:5]] == ["numpy", "torch", "transformers", "onnxruntime"]
    code = "import sys; from nuner_embed.cli.commands import cli; cli(['--version'], standalone_mode=False)"
    code += "; print(*sys.modules)"
    *_, modules = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert not {"numpy", "torch", "transformers", "onnxruntime", "faiss", "openvino"} & set(modules.split())


def test_version_of_what_is_missing(monkeypatch):
    def version(name):
        if name in ("onnxruntime-gpu", "faiss-gpu"):
            return "1.2"
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    lines = run("--version", check=0).stdout.splitlines()[2:]
    assert lines == [
        "numpy is not installed", "torch is not installed", "transformers is not installed", "onnxruntime-gpu 1.2",
        "openvino is not installed", "faiss-gpu 1.2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "options", "wanted"),
    [
        ("", [], "info"), ("DEBUG ", [], "debug"), ("error", [], "error"), ("error", ["-v"], "debug"),
        ("debug", ["-q"], "warning"),
    ],
)  # fmt: skip
def test_the_level_of_the_log(monkeypatch, level, options, wanted):
    monkeypatch.setenv("NUNER_EMBED_LOG", level)
    levels = []
    monkeypatch.setattr(
        "nuner_embed.cli.models.show", lambda *lines: levels.append(logging.getLogger("nuner_embed").level)
    )
    run("models", "list", *options, check=0)
    assert set(levels) == {getattr(logging, wanted.upper())}


def test_an_unknown_level(monkeypatch):
    monkeypatch.setenv("NUNER_EMBED_LOG", "loud")
    done = run("models", "list", check=1)
    assert done.stderr == "Error: NUNER_EMBED_LOG is 'loud'; expected one of debug, info, warning, error\n"
    assert done.stdout == ""


def test_shell_completion(monkeypatch):
    """What the shell asks for: the script, commands, subcommands and options."""
    script = Path(sys.executable).with_name("nuner-embed")

    def ask(kind, words="", place=0):
        asked = {"_NUNER_EMBED_COMPLETE": kind, "COMP_WORDS": words, "COMP_CWORD": str(place)}
        return subprocess.check_output([script], text=True, env={**os.environ, **asked}).splitlines()

    assert any("complete -o nosort -F" in line for line in ask("bash_source"))
    assert ask("zsh_source")[0] == "#compdef nuner-embed"
    assert ask("bash_complete", "nuner-embed enc", 1) == ["plain,encode"]
    assert "plain,--runtime" in ask("bash_complete", "nuner-embed encode --r", 2)
    assert ask("bash_complete", "nuner-embed index v", 2) == ["plain,verify"]


@pytest.mark.parametrize("arguments", [["encod"], ["encode", "x"], ["encode", "--rows", "sentence"], ["store"]])
def test_a_typing_mistake_is_a_usage_error(arguments):
    done = run(*arguments, check=2)
    assert "Traceback" not in done.stderr


def test_encode_from_another_folder_and_look(small_model, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "corpus.txt").write_text("The ferry left Port Ellery.\n\nÀ 7:30 😀\n")
    done = run("encode", "data/corpus.txt", "-o", "out/store", "--model", small_model, "--json", cwd=tmp_path, check=0)
    summary = json.loads(done.stdout)
    assert (summary["documents"], summary["rows"]) == (2, 11)
    assert "corpus: 2 documents, about 11 rows" in done.stderr
    assert "runtime: o" in done.stderr  # onnxruntime or openvino, whichever is faster here
    again = run("encode", "data/corpus.txt", "-o", "out/store", "--model", small_model, cwd=tmp_path, check=0)
    assert "complete already; nothing to do" in again.stderr
    facts = json.loads(run("store", "info", "out/store", "--json", cwd=tmp_path, check=0).stdout)
    assert (facts["rows"], facts["dim"], facts["granularity"], facts["complete"]) == (11, 16, "word", True)
    assert "granularity    word" in run("store", "info", "out/store", cwd=tmp_path, check=0).stdout
    assert "1 shard read, all intact" in run("store", "verify", "out/store", cwd=tmp_path, check=0).stderr
    path = tmp_path / "out/store/shard-00000.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    bad = run("store", "verify", "out/store", "--json", cwd=tmp_path, check=1)
    assert json.loads(bad.stdout)["problems"] == ["shard-00000.npy is not what was written (sha256 differs)"]
    path.unlink()
    gone = run("store", "verify", "out/store", "--json", cwd=tmp_path, check=1)
    assert json.loads(gone.stdout)["problems"] == ["shard-00000.npy is missing"]


def test_standard_input(small_model, tmp_path):
    lines = b'{"text": "The ferry", "spans": [{"start": 4, "end": 9, "label": "ship"}]}\n'
    done = run("encode", "-", "-o", tmp_path / "s", "--format", "jsonl", "--rows", "mention", "--model", small_model,
               stdin=lines, check=0)  # fmt: skip
    assert b"standard input cannot be read twice" in done.stderr
    assert Store.open(tmp_path / "s").table().column("document_id").to_pylist() == ["-:1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "missing.txt"),
        ("empty.txt", b"", "holds no documents"),
        ("bad.txt", b"fine\n\xff\xfe\n", "bad.txt:2: "),
        ("bad.jsonl", b'{"text": "a"}\n' * 16 + b'{"text": "a"\n', "bad.jsonl:17: "),
        ("twice.jsonl", b'{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', "twice.jsonl:2: "),
        ("span.jsonl", b'{"text": "abc", "spans": [{"start": 1, "end": 9, "label": "x"}]}\n', "span.jsonl:1: "),
        ("number.jsonl", b'{"text": 17}\n', "number.jsonl:1: "),
        ("cut.txt.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b", "cut.txt.gz"),
        ("no.parquet", b"PAR1 is not enough", "no.parquet"),
        ("what.xyz", b"x", "what.xyz"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(small_model, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("encode", name, "-o", "store", "--model", small_model, cwd=tmp_path, check=1)
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


def test_a_directory_without_corpora(small_model, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in run("encode", "empty", "-o", "s", "--model", small_model, cwd=tmp_path, check=1).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "minilm-16"], "did you mean minilm-l6?"),
        (["--model", "numind/NuNER-v2.0"], "the hub did not give a model"),
        (["--device", "cuda"], "CUDA"),
        (["--runtime", "onnx"], "nuner-embed export nuner-mini -o DIR, then --model DIR"),
        (["--layers", "-9"], "7 hidden states"),
        (["--max-length", "600"], "at most 512 tokens"),
        (["--stride", "200"], "stride must lie between 0 and half"),
    ],
)
def test_a_model_that_is_not_to_be_had_is_one_line(tmp_path, arguments, message):
    (tmp_path / "c.txt").write_text("x\n")
    done = run("encode", "c.txt", "-o", "store", *arguments, cwd=tmp_path, check=1)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_export_verify_and_a_graph_that_is_broken(tmp_path):
    tiny_model("bert", tmp_path / "bert")
    (tmp_path / "c.txt").write_text("the ferry left at seven\n")
    made = json.loads(run("export", "bert", "-o", "m", "--json", cwd=tmp_path, check=0).stdout)
    assert made["passed"] is True
    table = run("verify", "m", cwd=tmp_path, check=0).stdout
    assert "onnx f32" in table
    assert table.splitlines()[-1] == "passed"
    own = run("verify", "m", "c.txt", "--source", "bert", "--json", cwd=tmp_path, check=0)
    assert json.loads(own.stdout)["baseline"]["name"].startswith("torch")
    graph = onnx.load(tmp_path / "m" / "model.onnx")
    weight = next(w for w in graph.graph.initializer if list(w.dims) == [320, 16])
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(graph, tmp_path / "m" / "model.onnx")
    assert "is not the file that was exported" in run("verify", "m", cwd=tmp_path, check=1).stderr
    facts = json.loads((tmp_path / "m" / "export.json").read_text())
    del facts["sha256"]  # as in an export of an earlier version
    facts["graph_sha256"] = graph_sha256(tmp_path / "m" / "model.onnx")
    (tmp_path / "m" / "export.json").write_text(json.dumps(facts))
    assert "FAILED: onnx in f32: minimum cosine" in run("verify", "m", cwd=tmp_path, check=1).stdout
    refused = run("encode", "c.txt", "-o", "s", "--model", "m", cwd=tmp_path, check=1)
    assert "fails its gate" in refused.stderr
    assert not (tmp_path / "s").exists()


def test_a_command_with_a_typo(tmp_path):
    assert "No such command 'encde'. Did you mean 'encode'?" in run("encde", cwd=tmp_path, check=2).stderr


def test_what_the_system_refuses_is_one_line(tmp_path):
    said = run("demo", "-o", "demo" * 100, cwd=tmp_path, check=1).stderr
    assert said.endswith(": File name too long\n")
    assert said.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in run_apart("--debug", "encode", "missing.txt", "-o", "s", cwd=tmp_path, check=1).stderr


def test_errors_of_a_skipping_job_are_listed(small_model, tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text": "the ferry"}\n{"text": 5}\n{"text": "left"}\n')
    done = run("encode", "c.jsonl", "-o", "s", "--on-error", "skip", "--model", small_model, cwd=tmp_path, check=0)
    assert "rejected: 1 record, see rejects.jsonl" in done.stderr
    (reject,) = (json.loads(line) for line in (tmp_path / "s/rejects.jsonl").read_text().splitlines())
    assert reject["line"] == 2


def test_models_list():
    names = [model["name"] for model in json.loads(run("models", "list", "--json", check=0).stdout)]
    assert names[:4] == ["nuner-mini", "nuner-base", "minilm-l6", "mpnet-base"]
    assert "numind/NuNER-v2.0" in names


def test_doctor():
    facts = json.loads(run("doctor", "--json", check=0).stdout)
    assert facts["providers_running"][-1] == "CPUExecutionProvider"
    assert facts["problems"] == []
    assert facts["cores"] >= 1
    assert "no clashes" in run("doctor", check=0).stderr


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("", "", "demo is a file; name a directory for a demo"),
        ("index.html", "mine", "demo holds index.html and no demo.json: it is not a demo; name another directory"),
        ("demo.json", '{"schema_version": 1, "kind": "tape"}', "demo/demo.json is not the marker file of a demo"),
    ],
)
def test_a_demo_leaves_what_is_not_its_own(tmp_path, name, content, said):
    path = tmp_path / "demo" / name if name else tmp_path / "demo"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    done = run("demo", cwd=tmp_path, check=1)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert path.read_text() == content


@pytest.mark.slow
def test_demo(default_model, tmp_path):
    shutil.copytree(default_model, tmp_path / "demo" / "model")  # exporting it is tested elsewhere
    (tmp_path / "demo" / "demo.json").write_text('{"schema_version": 1, "kind": "demo"}')
    first = run("demo", "-o", "demo", cwd=tmp_path, check=0)
    assert "Then, on your own corpus" in first.stdout
    assert "[[" in first.stdout.partition("nuner-embed search index")[2]
    store = Store.open(tmp_path / "demo/store")
    assert store.table().column("label").null_count == len(store)  # found in plain text, not given
    page = (tmp_path / "demo/index.html").read_text()
    before, _, rest = page.partition("<h2>Searches</h2>")
    searches, _, own = rest.partition("<h2>A type of your own</h2>")
    assert searches.count("<mark>") == 25
    assert before.count("<mark>") > 3
    assert min(part.count("<mark>") for part in own.split("<h3>")[2:]) > 3
    figures = [float(one) for one in re.findall(r"with None left out ([\d.]+)%", first.stdout)]
    assert len(figures) == 3
    assert figures == sorted(figures)  # the more examples, the better
    for name in ("names", "probe-3", "probe-12"):
        assert set(open_head(tmp_path / "demo" / name).types) == {"fault", "ferry line", "part number"}
    done = run("probe", "evaluate", "demo/probe-12", "demo/logbook-unseen.txt", cwd=tmp_path, check=0)
    assert "token macro-F1" in done.stdout
    picture = (tmp_path / "demo/map.svg").read_text()
    assert picture in page
    assert picture.count("<title>") == len(store)
    second = run("demo", "-o", "demo", cwd=tmp_path, check=0)
    assert "passed" in second.stdout
    assert second.stdout.partition("nuner-embed search")[2] == first.stdout.partition("nuner-embed search")[2]


def test_what_an_older_demo_exported_is_not_taken(default_model, tmp_path):
    assert _is_current(default_model)
    assert not _is_current(tmp_path)
    assert not _is_current(tmp_path / "missing")
    old = shutil.copytree(default_model, tmp_path / "old")
    facts = json.loads((old / "export.json").read_text())
    del facts["sha256"]  # as in an export of an earlier version
    (old / "export.json").write_text(json.dumps({**facts, "weights_sha256": "0" * 64}))
    assert not _is_current(old)


def test_a_store_of_the_base_is_not_mixed_with_the_default_model(tmp_path):
    (tmp_path / "c.txt").write_text("The ferry left.\n")
    run("encode", "c.txt", "-o", "s", "--model", "minilm-l6", cwd=tmp_path, check=0)
    done = run("encode", "c.txt", "-o", "s", cwd=tmp_path, check=1)
    assert "Error: s was begun otherwise" in done.stderr.splitlines()[-1]
    assert "model was minilm-l6 and is now nuner-mini" in done.stderr


def test_a_reader_that_goes_away(small_model):
    command = f"{sys.executable} -m nuner_embed.cli models list | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_the_installed_script_is_this():
    script = Path(sys.executable).with_name("nuner-embed")
    assert subprocess.check_output([script, "--version"], text=True).splitlines()[0].endswith(__version__)
