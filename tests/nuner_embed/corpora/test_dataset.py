"""A `datasets.Dataset` as a corpus, and a store as a `Dataset`."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import HashSpec
from stores import make_store

from nuner_embed import Corpus, encode
from nuner_embed.corpora.corpus import read_annotated
from nuner_embed.corpora.records import Reject
from nuner_embed.documents import Document, Span
from nuner_embed.errors import CorpusError
from nuner_embed.jobs.options import JobOptions

datasets = pytest.importorskip("datasets")
TEXTS = ["The ferry left Zürich", "Kiel", "", "an 😀 in Oslo"]


def tagged(split=None):
    tags = datasets.ClassLabel(names=["O", "B-city", "I-city"])
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(tags)})
    rows = {"tokens": [["in", "Oslo"], ["Port", "Ellery", "left"]], "ner_tags": [[0, 1], [1, 2, 0]]}
    return datasets.Dataset.from_dict(rows, features=features, split=split)


def test_texts_and_ids():
    rows = {"text": TEXTS, "id": ["a", "b", "c", "d"], "other": [1, 2, 3, 4]}
    dataset = datasets.Dataset.from_dict(rows)
    wanted = [Document(*pair) for pair in zip(rows["id"], TEXTS, strict=True)]
    corpus = Corpus(dataset)
    assert list(corpus) == wanted
    assert list(corpus) == wanted  # twice
    shuffled = dataset.select([3, 0])
    assert list(Corpus(shuffled)) == [wanted[3], wanted[0]]
    named = Corpus(dataset.rename_columns({"text": "body", "id": "key"}), text_column="body", id_column="key")
    assert list(named) == wanted


def test_the_names_of_tags_are_those_of_the_features():
    documents, _ = read_annotated(tagged(split="train"))
    assert [document.id for document in documents] == ["train:1", "train:2"]
    assert [document.spans for document in documents] == [(Span(3, 7, "city"),), (Span(0, 11, "city"),)]


def test_the_same_as_its_parquet_file(tmp_path):
    rows = {"text": [f"text {i}" for i in range(2500)], "spans": [[{"start": 0, "end": 4, "label": "x"}]] * 2500}
    dataset = datasets.Dataset.from_dict(rows)
    dataset.to_parquet(tmp_path / "dataset.parquet")
    from_file = [(document.text, document.spans) for document in Corpus(tmp_path / "dataset.parquet")]
    assert [(document.text, document.spans) for document in Corpus(dataset)] == from_file
    assert Corpus(dataset).survey().spans == 2500


def test_bad_rows():
    dataset = datasets.Dataset.from_dict({"text": ["Oslo", None, "Kiel"]})
    with pytest.raises(CorpusError, match=r'^dataset:2: row 2: "text" must be a string, not None'):
        list(Corpus(dataset))
    good, bad, last = Corpus(dataset, on_error="skip")
    assert (good.text, type(bad), last.text) == ("Oslo", Reject, "Kiel")
    twice = datasets.Dataset.from_dict({"text": ["a", "b"], "id": ["1", "1"]})
    with pytest.raises(CorpusError, match="dataset:2: duplicate id '1', first used at dataset:1"):
        Corpus(twice).survey()


def test_what_is_no_corpus():
    with pytest.raises(CorpusError, match="^dataset: no column 'text'; it has body; use --text-column"):
        Corpus(datasets.Dataset.from_dict({"body": ["a"]})).survey()
    with pytest.raises(CorpusError, match="^dataset: the corpus holds no documents"):
        Corpus(datasets.Dataset.from_dict({"text": []})).survey()
    with pytest.raises(CorpusError, match="^dataset: holds no annotated mention"):
        read_annotated(datasets.Dataset.from_dict({"text": ["a"]}))
    with pytest.raises(TypeError, match="choose one split of the dataset: 'train', 'test'"):
        Corpus(datasets.DatasetDict({"train": tagged(), "test": tagged()}))
    with pytest.raises(TypeError, match="load it without streaming"):
        Corpus(tagged().to_iterable_dataset())
    with pytest.raises(ValueError, match="leave out format='txt'"):
        Corpus(tagged(), format="txt")


def test_a_dataset_is_encoded(tmp_path):
    dataset = datasets.Dataset.from_dict({"text": TEXTS})
    store = encode(dataset, tmp_path / "store", JobOptions(HashSpec(dim=16), granularity="word"))
    assert store.table(["document_id", "text"]).slice(0, 2).to_pylist() == [
        {"document_id": "dataset:1", "text": "The"},
        {"document_id": "dataset:1", "text": "ferry"},
    ]


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_store_as_a_dataset(tmp_path, dtype):
    store = make_store(tmp_path / "store", 1, documents=60, dtype=dtype)
    assert len(store.shards) > 1
    dataset = store.to_dataset()
    assert dataset.features["vector"] == datasets.List(datasets.Value(dtype), length=16)
    assert dataset.column_names == [*store.table().column_names, "vector"]
    assert (np.array(dataset.with_format("numpy")["vector"][:]) == store.vectors(range(len(store)))).all()
    assert dataset.remove_columns("vector").with_format("arrow")[:].equals(store.table())
    assert store.to_dataset()._fingerprint == dataset._fingerprint
    other = "float32" if dtype == "float16" else "float16"
    assert store.to_dataset(vectors=other)._fingerprint != dataset._fingerprint


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_table_with_vectors(tmp_path, dtype):
    store = make_store(tmp_path / "store", 2, dtype="float16")
    table = store.table(["text"], vectors=dtype)
    assert table.schema.field("vector").type == pa.list_(pa.from_numpy_dtype(np.dtype(dtype)), 16)
    vectors = np.concatenate([chunk.flatten().to_numpy() for chunk in table["vector"].chunks]).reshape(-1, 16)
    assert (vectors == store.vectors(range(len(store)))).all()
    pq.write_table(table, tmp_path / "rows.parquet")
    assert pq.read_table(tmp_path / "rows.parquet").equals(table)


def test_without_the_library(tmp_path, monkeypatch):
    import sys

    from nuner_embed.errors import RuntimeUnavailable

    store = make_store(tmp_path / "store", 3, documents=2)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RuntimeUnavailable, match=r"^datasets is not installed; pip install .*\[datasets\]"):
        store.to_dataset()
