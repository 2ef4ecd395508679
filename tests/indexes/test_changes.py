"""An index with few rows, none, the same rows again, and ids that are none."""

import numpy as np
import pytest
from fakes import HashSpec
from stores import make_store

from nuner_embed.encoders.concepts import ConceptEncoder
from nuner_embed.errors import IndexBundleError
from nuner_embed.indexes import Index, find, find_concepts
from nuner_embed.models.concept_facts import ConceptFacts


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Enough rows for a structure, and few."""
    folder = tmp_path_factory.mktemp("stores")
    return make_store(folder / "many", 1, documents=6), make_store(folder / "few", 2, documents=1)


@pytest.mark.parametrize("factory", ["IVF300,Flat", "PCA8,IVF300,SQ8"])
def test_too_few_rows_to_train_become_a_flat_segment(stores, tmp_path, factory):
    many, few = stores
    with pytest.raises(ValueError, match=r"FAISS cannot train on \d+ rows: .*; use --kind flat"):
        Index.build(few, tmp_path / "few", kind=factory)
    index = Index.build(many, tmp_path / "index", kind=factory)
    index.add(few)
    first, second = index.bundle.segments
    assert first.factory == factory
    assert (second.kind, second.factory, second.recall.recall) == ("flat", "Flat", 1.0)
    assert second.why == f"so few rows are looked at one by one: they cannot train {factory}"
    assert index.search(few.vectors([5]), 1).ids[0, 0] == len(many) + 5
    index.remove(index.ids()[50:])
    assert index.compact()
    (left,) = index.bundle.segments
    assert (left.kind, left.rows, left.why) == ("flat", 50, second.why)
    assert index.search(many.vectors([5]), 1).ids[0, 0] == 5
    assert index.verify() == []
    assert index.bundle.kind == factory  # what comes next is built as it was asked for
    index.add(many, again=True)
    assert index.bundle.segments[-1].factory == factory


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivf_pq"])
def test_few_rows_are_flat_and_said_to_be(stores, tmp_path, kind):
    (few,) = Index.build(stores[1], tmp_path / "index", kind=kind).bundle.segments
    assert (few.kind, few.factory) == ("flat", "Flat")
    assert few.why == f"so few rows are looked at one by one, though {kind} was asked for"


def test_an_index_of_one_row(stores, tmp_path):
    index = Index.build(stores[1], tmp_path / "index", kind="ivf")
    index.remove(index.ids()[1:])
    for _ in range(2):
        assert index.search(np.ones((2, 16)), 10).ids.tolist() == [[0], [0]]
        assert find(index, np.ones(16), 10**6, unique="document", filter="true")["id"].to_pylist() == [0]
        assert index.verify() == []
        index.compact()


def empty_indexes(stores, tmp_path):
    index = Index.build(stores[1], tmp_path / "index")
    index.remove(index.ids())
    yield index
    index.compact()
    yield index
    yield Index.open(index.path)


def test_an_emptied_index(stores, tmp_path):
    encoder = HashSpec(dim=16).load()
    columns = stores[1].table().column_names
    for index in empty_indexes(stores, tmp_path):
        concepts = ConceptEncoder("fake", tmp_path, encoder, ConceptFacts(encoder.weights_sha256, "mean", {}, None))
        assert len(index) == 0
        assert index.columns == columns
        assert index.ids("start > 3").tolist() == []
        assert index.vectors([]).shape == (0, 16)
        assert index.rows([], ["text"], texts=True).column_names == ["text", "document_text", "id"]
        assert index.search(np.ones((3, 16)), filter="true", among=[1, 2]).ids.shape == (3, 0)
        index.check_filter("label = 'river'")
        with pytest.raises(IndexBundleError, match='column "colour" not found'):
            index.check_filter("colour = 1")
        for unique in (None, "surface", "document"):
            found = find(index, np.ones(16), unique=unique, exclude=[{"a text"}])
            assert found.num_rows == 0
            names = [name if name != "score" else "row_score" for name in columns]
            assert found.column_names == ["query", "rank", "score", "id", *names, "context", "context_start"]
            for wanted in (["boat"], ["boat", "city"]):
                hits = find_concepts(index, concepts, wanted, unique=unique)
                assert hits.column_names == found.column_names
        assert index.remove([1]) == 0
        assert index.remove_where("true") == 0
        assert index.verify() == []


def test_rows_that_were_removed_are_added_again(stores, tmp_path):
    few = stores[1]
    index = Index.build(few, tmp_path / "index")
    index.remove([3])
    with pytest.raises(IndexBundleError, match="few was added before; nothing was added. --again .* even rows that"):
        index.add(few)
    index.add(few, again=True)
    assert len(index) == 2 * len(few) - 1
    assert index.search(few.vectors([3]), 2).scores[0, 1] < 0.9999  # once
    index.remove(index.ids())
    index.add(few)  # none of its rows is there any more
    assert index.ids().tolist() == list(range(2 * len(few), 3 * len(few)))
    assert index.verify() == []


def test_a_store_that_is_named_twice(stores, tmp_path):
    with pytest.raises(IndexBundleError, match="few is named twice, or another store holds the same vectors; name one"):
        Index.build([stores[1], stores[1]], tmp_path / "index")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("ids", [[2**63], [2**70], [1.7], [1.0], ["1"], b"1", [True], [None], [[1], [None]], [np.nan]])
def test_ids_that_are_none(stores, tmp_path, ids):
    """A fraction is not cut, a string not read, a mask not taken for ids."""
    index = Index.build(stores[1], tmp_path / "index")
    for ask in (index.remove, index.rows, index.vectors, lambda some: index.search(np.ones(16), among=some)):
        with pytest.raises(ValueError, match="ids are whole numbers from 0 to 9223372036854775807, not "):
            ask(ids)
    assert len(index) == len(stores[1])


def test_ids_that_no_row_has(stores, tmp_path):
    index = Index.build(stores[1], tmp_path / "index")
    assert index.remove([-1, 2**62, -(2**63)]) == 0
    assert index.remove(np.array([2, 2, 3], np.uint8)) == 2
    assert index.search(np.ones(16), among=[-1, 10**12]).ids.shape == (1, 0)
    with pytest.raises(KeyError, match="no id -1 in the index"):
        index.rows([-1])
