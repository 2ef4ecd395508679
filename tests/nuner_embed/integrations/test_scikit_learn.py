"""The vectorizers, used as scikit-learn uses them."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import nuner_embed
from nuner_embed import Document, MentionVectorizer, Span, TextVectorizer
from nuner_embed.errors import ModelError

BOTH = pytest.mark.parametrize("kind", [MentionVectorizer, TextVectorizer])
# of scikit-learn's checks, those that show an estimator no features: the others know none that takes texts
CHECKS = [
    "estimator_cloneable", "estimator_tags_renamed", "valid_tag_types", "estimator_repr", "no_attributes_set_in_init",
    "get_params_invariance", "set_params",
    "parameters_default_constructible", "mixin_order",
]  # fmt: skip
TEXTS = ["the [[ferry]] left at seven", "[[Zürich]] left", " seven ", "an [[in 😀]]"]
PLAIN = ["the ferry left at seven", "Zürich left", " seven ", "an in 😀"]


@pytest.fixture(scope="module")
def model(exported_bert):
    return str(exported_bert)


@BOTH
def test_it_is_an_estimator(kind, model):
    vectorizer = kind(model=model, threads=1)
    for name in CHECKS:
        getattr(estimator_checks, f"check_{name}")(kind.__name__, vectorizer)
    assert kind().get_params() == {"model": "nuner-mini", "normalize": None, "threads": 0}
    copy = clone(vectorizer.set_params(normalize=True))
    assert copy.get_params() == {"model": model, "normalize": True, "threads": 1}
    again = pickle.loads(pickle.dumps(copy))
    assert vars(again).keys() == {"model", "normalize", "threads"}  # no encoder
    assert (again.transform(PLAIN) == copy.fit(PLAIN).transform(PLAIN)).all()


def test_mentions_are_rows_of_a_store(model):
    encoder = nuner_embed.load_encoder(model, threads=1)
    documents = [nuner_embed.marked_document(text) for text in TEXTS]
    wanted = encoder.encode_rows(encoder.tokenize(documents, "mention"), "mention").vectors
    found = MentionVectorizer(model=model, threads=1).transform(TEXTS)
    assert found.dtype == np.float32
    assert found == pytest.approx(wanted, abs=1e-6)
    assert MentionVectorizer(model=model, threads=1).transform(documents) == pytest.approx(wanted, abs=1e-6)


def test_texts_are_means_of_their_tokens(model):
    encoder = nuner_embed.load_encoder(model, threads=1)
    texts = [*PLAIN, "", " \n", "the ferry left " * 400]  # the last one is longer than a window
    wanted = [row.vectors.mean(0) if len(row.vectors) else np.zeros(encoder.dim) for row in encoder.encode(texts)]
    found = TextVectorizer(model=model, threads=1).transform(np.array(texts))
    assert found == pytest.approx(np.array(wanted), abs=1e-5)
    lengths = np.linalg.norm(TextVectorizer(model=model, normalize=True, threads=1).transform(texts), axis=1)
    assert lengths == pytest.approx([1, 1, 1, 1, 0, 0, 1], abs=1e-5)


@BOTH
def test_many_and_none(kind, model, monkeypatch):
    monkeypatch.setattr("nuner_embed.integrations.scikit_learn._AT_ONCE", 3)
    vectorizer = kind(model=model, threads=1)
    alone = np.concatenate([vectorizer.transform([text]) for text in PLAIN])
    assert vectorizer.transform(iter(PLAIN)) == pytest.approx(alone, abs=1e-5)
    assert vectorizer.transform([]).shape == (0, alone.shape[1])
    names = vectorizer.get_feature_names_out()
    assert names[0] == f"{kind.__name__.lower()}0"
    assert list(vectorizer.set_output(transform="pandas").transform(PLAIN).columns) == list(names)


@BOTH
def test_a_pipeline_is_searched(kind, model):
    texts = ["the ferry left", "Zürich left", "the ferry in", "Zürich at seven"] * 3
    labels = ["ship", "city"] * 6
    pipeline = make_pipeline(kind(model=model, threads=1), LogisticRegression(C=1e4, max_iter=1000))
    grid = {f"{kind.__name__.lower()}__normalize": [True, False], "logisticregression__C": [1e3, 1e5]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(texts, labels)
    assert len(search.cv_results_["params"]) == 4
    assert search.predict(texts).tolist() == labels


@pytest.mark.parametrize(
    ("kind", "given", "error", "said"),
    [
        (TextVectorizer, "one text", TypeError, r"found one str; write \[text\]"),
        (TextVectorizer, [1], TypeError, "expected a text or a Document, found int"),
        (MentionVectorizer, ["[[a]] and [[b]]"], ValueError, "each text has one mention, .*'a and b' has 2"),
        (MentionVectorizer, [" "], ValueError, "has 0"),
        (MentionVectorizer, ["[[a"], ValueError, "opened or closed alone"),
        (MentionVectorizer, [Document("0", "a b", spans=(Span(0, 1), Span(2, 3)))], ValueError, "has 2"),
    ],
)
def test_what_cannot_be_embedded(model, kind, given, error, said):
    with pytest.raises(error, match=said):
        kind(model=model, threads=1).fit(given).transform(given)


def test_an_unknown_model():
    with pytest.raises(ModelError):
        TextVectorizer(model="no/such").fit()
