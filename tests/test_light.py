"""An exported model runs, and the package imports, without torch and transformers."""

import subprocess
import sys
import textwrap

import pytest
from fakes import tiny_model
from stores import make_store

from nuner_embed import export_onnx
from nuner_embed.installation import install_command

BLOCK = """
import importlib.machinery, sys

absent = {
    "torch", "transformers", "optimum", "sentence_transformers", "huggingface_hub", "onnx", "openai", "accelerate"
}
found = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = classmethod(
    lambda cls, name, *rest: None if name.split(".")[0] in absent else found(name, *rest)
)
"""


def run_blocked(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK + textwrap.dedent(code), *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    export_onnx(str(tiny_model("roberta", folder / "roberta")), folder / "model")
    return folder / "model"


def test_encoding_with_neither_torch_nor_transformers(model, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("the ferry left at seven\nZürich\n")
    code = """
    import nuner_embed
    store = nuner_embed.encode(sys.argv[1], sys.argv[2], model=sys.argv[3])
    assert store.table().column("text").to_pylist() == ["the", "ferry", "left", "at", "seven", "Zürich"]
    assert store.vectors([5, 0]).shape == (2, 16)
    index = nuner_embed.Index.build(store, sys.argv[2] + "-index")
    assert index.search(store.vectors([1]), k=1, filter="text != 'the'").ids.tolist() == [[1]]
    encoder = nuner_embed.load_encoder(sys.argv[3])
    query = nuner_embed.embed_mentions(index, encoder, [nuner_embed.marked_document("the [[ferry]] left at seven")])
    assert nuner_embed.find(index, query, k=1)["context"].to_pylist() == ["the ferry left at seven"]
    text = "the ferry left at seven"
    spans = (nuner_embed.Span(4, 9, "boat"), nuner_embed.Span(18, 23, "time"))
    examples = [nuner_embed.Document(str(i), text, spans=spans) for i in range(3)]
    tagger = nuner_embed.train_probe(examples, encoder, C=9.0)
    tagger.save(sys.argv[2] + "-probe")
    (found,) = nuner_embed.Tagger.open(sys.argv[2] + "-probe").tag(examples[:1])
    assert [span.label for span in found.spans] == ["boat", "time"]
    assert not absent & set(sys.modules)
    """
    done = run_blocked(code, str(corpus), str(tmp_path / "store"), str(model))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_named_types_with_neither_torch_nor_transformers(default_model):
    code = """
    import nuner_embed
    (found,) = nuner_embed.extract(["Ines Varga flew to Oslo."], ["city"], model=sys.argv[1])
    assert [found.text[span.start : span.end] for span in found.spans] == ["Oslo"], found
    assert not (absent | {"sklearn"}) & set(sys.modules)
    """
    done = run_blocked(code, str(default_model))
    assert done.returncode == 0, done.stderr


def test_what_needs_torch_says_so():
    done = run_blocked("import nuner_embed; nuner_embed.load_encoder()")
    assert f"torch is not installed; {install_command('train')}, or export nuner-mini where" in done.stderr
    done = run_blocked("import nuner_embed; nuner_embed.extract(['Oslo'], ['city'])")
    assert f"torch is not installed; {install_command('train')}, or export nuner-mini where" in done.stderr


def test_replies_that_are_there_need_no_llm(tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"text": "Kiel", "reply": "Kiel <> city"}\n')
    code = """
    import sys
    from nuner_embed.cli.__main__ import main
    sys.argv = ["nuner-embed", "annotate", sys.argv[1], "-o", sys.argv[2], *sys.argv[3:]]
    main()
    """
    files = str(tmp_path / "replies.jsonl"), str(tmp_path / "annotated.jsonl")
    done = run_blocked(code, *files, "--sample-review", "1")
    assert done.returncode == 0, done.stderr
    assert "annotations      1, from 1 line" in done.stdout
    done = run_blocked(code, *files, "--llm", "m")
    assert f"asking an LLM needs the openai package; {install_command('annotate')}" in done.stderr


def test_a_store_opens_without_an_encoder(tmp_path):
    made = make_store(tmp_path / "s", 1, documents=3)
    code = """
    import sys, nuner_embed
    store = nuner_embed.Store.open(sys.argv[1])
    assert not store.verify()
    print(len(store.vectors([0, 1])), store.table().num_rows, *sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), made.path], capture_output=True, text=True, check=True
    )
    taken, rows, *modules = done.stdout.split()
    assert (int(taken), int(rows)) == (2, len(made))
    heavy = {"tokenizers", "onnxruntime", "openvino", "torch", "transformers", "faiss", "pandas"}
    rooms = ("nuner_embed.encoders", "nuner_embed.runtimes", "nuner_embed.jobs")
    assert not [name for name in modules if name in heavy or name.startswith(rooms)]


def test_importing_the_package_loads_nothing_heavy():
    code = "import nuner_embed.cli.__main__, nuner_embed.cli.commands, sys; print(*sys.modules)"
    modules = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    heavy = {"numpy", "pyarrow", "tokenizers", "onnxruntime", "torch", "faiss", "rich", "spacy", "datasets", "sklearn"}
    assert not heavy & modules
