"""The probe is the logistic regression that it says it is, solved to the gradient that it says."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from nuner_embed import LinearProbe


def made_up(classes=4, n=200, dim=30, seed=0, dtype=np.float64):
    """Features of very different scales, correlated, as hidden states are."""
    random = np.random.default_rng(seed)
    y = random.integers(0, classes, n)
    mixing = random.standard_normal((dim, dim)) * np.geomspace(0.05, 20, dim)
    x = (random.standard_normal((n, dim)) + 0.8 * np.eye(classes, dim)[y]) @ mixing + 3
    return x.astype(dtype), y


@pytest.mark.parametrize("offset", [None, {1: (0.1, -0.5), "no label": (np.ones(3), 1.0)}], ids=["plain", "offset"])
def test_scikit_learns_own_checks(offset):
    results = check_estimator(LinearProbe(offset=offset), on_skip=None)
    failed = [result["check_name"] for result in results if result["status"] not in ("passed", "skipped")]
    assert not failed
    assert sum(result["status"] == "passed" for result in results) > 40


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0, 2: 0.5, 3: 1.0}])
@pytest.mark.parametrize("c", [0.02, 1.0])
@pytest.mark.parametrize("n", [12, 200])  # fewer rows than features, and more
def test_it_is_scikit_learns_logistic_regression_on_standardised_features(class_weight, c, n):
    x, y = made_up(n=n)
    y[:4] = range(4)
    probe = LinearProbe(C=c, class_weight=class_weight, tol=1e-9).fit(x, y)
    scaler = StandardScaler().fit(x)
    peer = LogisticRegression(C=c, class_weight=class_weight, tol=1e-9, max_iter=10_000).fit(scaler.transform(x), y)
    np.testing.assert_allclose(probe.coef_ * scaler.scale_, peer.coef_, atol=2e-5)
    np.testing.assert_allclose(probe.predict_proba(x), peer.predict_proba(scaler.transform(x)), atol=1e-5)


def gradient_norm(probe, x, y, weight):
    """The gradient of the mean loss, written out once more."""
    scale = x.std(axis=0)
    z = (x - x.mean(axis=0)) / scale
    coef = probe.coef_ * scale
    intercept = probe.intercept_ + probe.coef_ @ x.mean(axis=0)
    scores = z @ coef.T + intercept
    residual = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    residual[np.arange(len(y)), y] -= 1
    residual *= weight[:, None]
    by_coef = residual.T @ z + coef / probe.C
    return max(np.abs(by_coef).max(), np.abs(residual.sum(axis=0)).max()) / weight.sum()


@pytest.mark.parametrize("strength", [0.5, 100.0])
@pytest.mark.parametrize("n", [12, 200])  # fewer rows than features, and more
def test_an_offset_is_weighed_and_the_layer_added_to_it(n, strength):
    """Against a general minimiser of the loss, written out once more."""
    x, y = made_up(classes=3, n=n, dim=13)
    y[:3] = range(3)
    random = np.random.default_rng(1)
    offset = {1: (random.standard_normal(13) / 40, -1.0), 2: (random.standard_normal(13) / 40, 0.5)}
    known = np.stack([np.zeros(n), *(x @ vector + number for vector, number in offset.values())], axis=1)
    z, mean, scale = (x - x.mean(axis=0)) / x.std(axis=0), x.mean(axis=0), x.std(axis=0)

    def loss(point):
        coef, intercept, weight = point[:39].reshape(3, 13), point[39:42], point[42]
        scores = z @ coef.T + intercept + weight * known
        entropy = (logsumexp(scores, axis=1) - scores[np.arange(n), y]).sum()
        return entropy + (coef**2).sum() / 0.2 + strength * (weight - 1) ** 2 / 2

    best = minimize(loss, np.append(np.zeros(42), 1.0), options={"gtol": 1e-6, "maxiter": 5000})
    probe = LinearProbe(C=0.1, class_weight=None, tol=1e-8, offset=offset, offset_strength=strength).fit(x, y)
    assert probe.offset_weight_ == pytest.approx(best.x[42], abs=2e-3)
    assert abs(probe.offset_weight_ - 1) > 1e-3
    coef, intercept = best.x[:39].reshape(3, 13) / scale, best.x[39:42]
    scores = x @ coef.T + (intercept - coef @ mean) + best.x[42] * known
    np.testing.assert_allclose(probe.predict_proba(x), softmax(scores, axis=1), atol=2e-3)


def test_offsets_that_are_none():
    x, y = made_up()
    for offset, strength, said in (
        ({1: (np.ones(7), 0.0)}, 1.0, r"an offset of shape \(7,\) for features of 30 numbers"),
        ({1: (np.full(30, np.nan), 0.0)}, 1.0, "not finite"),
        ({1: (0.0, 0.0)}, 0.0, "offset_strength must be a number above 0"),
    ):
        with pytest.raises(ValueError, match=said):
            LinearProbe(offset=offset, offset_strength=strength).fit(x, y)
    plain, none = LinearProbe().fit(x, y), LinearProbe(offset={"x": (1.0, 1.0)}).fit(x, y)
    np.testing.assert_array_equal(plain.coef_, none.coef_)
    assert none.offset_weight_ == 1


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("n", [14, 300])
def test_the_gradient_is_what_it_says(tol, n):
    x, y = made_up(n=n)
    y[:4] = range(4)
    probe = LinearProbe(C=1.0, class_weight="sqrt", tol=tol).fit(x, y)
    counts = np.bincount(y)
    weight = np.sqrt(len(y) / (4 * counts))[y]
    assert gradient_norm(probe, x, y, weight) <= max(tol, 1.01 * probe.gradient_norm_)
    assert probe.gradient_norm_ <= tol


def test_float32_gives_what_float64_gives():
    x, y = made_up(seed=1)
    wide = LinearProbe().fit(x, y)
    narrow = LinearProbe().fit(x.astype(np.float32), y)
    assert narrow.coef_.dtype == np.float32
    np.testing.assert_allclose(narrow.predict_proba(x.astype(np.float32)), wide.predict_proba(x), atol=2e-3)


def test_float32_reaches_the_gradient_where_it_cannot_show_the_loss_falling():
    """A strong penalty, few rows: the last steps lower the loss by less than float32 rounds it by."""
    x, y = made_up(classes=13, n=60, dim=200, seed=2, dtype=np.float32)
    y[:13] = range(13)
    probe = LinearProbe(C=0.003, class_weight="balanced").fit(x, y)
    assert probe.gradient_norm_ <= probe.tol
    assert probe.n_iter_ < 60


def test_the_same_data_gives_the_same_probe():
    x, y = made_up()
    first, second = (LinearProbe().fit(x, y) for _ in range(2))
    assert (first.coef_ == second.coef_).all()
    assert (first.intercept_ == second.intercept_).all()


def test_sqrt_lies_between_none_and_balanced():
    x, y = made_up(n=400)
    kept = (y != 3) | (np.arange(400) % 5 == 0)  # class 3 is rare
    x, y = x[kept], y[kept]
    mass = [LinearProbe(class_weight=w).fit(x, y).predict_proba(x)[:, 3].mean() for w in (None, "sqrt", "balanced")]
    assert mass[0] < mass[1] < mass[2]


def test_what_rounding_leaves_of_a_dead_dimension_is_not_made_a_feature():
    """all-MiniLM-L6-v2 has one of 1e-8 and two of 1e-32; standardised they would weigh as much as any other."""
    x, y = made_up(dtype=np.float32)
    dead = x.copy()
    random = np.random.default_rng(5)
    dead[:, 3] = -1e-7 + 6e-9 * random.standard_normal(len(x))
    dead[:, 4] = 2e-32 * random.standard_normal(len(x))
    dead[:, 5] = 7.0
    probe = LinearProbe().fit(dead, y)
    alive = np.delete(np.arange(x.shape[1]), [3, 4, 5])
    np.testing.assert_allclose(probe.coef_[:, alive], LinearProbe().fit(x[:, alive], y).coef_, atol=1e-4)
    assert np.abs(probe.coef_[:, [3, 4, 5]]).max() < 1e-3


@pytest.mark.parametrize("scale", [1e-25, 1e18, 1.0])
def test_the_scale_of_the_features_does_not_matter(scale):
    x, y = made_up(dtype=np.float32)
    expected = LinearProbe().fit(x, y).predict(x)
    assert (LinearProbe().fit(x * np.float32(scale), y).predict(x * np.float32(scale)) == expected).mean() > 0.98


def test_hardly_any_penalty_on_features_that_stand_twice():
    x, y = made_up(n=25, dim=30, dtype=np.float32)
    twice = np.hstack([x, x])
    probe = LinearProbe(C=1e9, tol=1e-3).fit(twice, y)
    assert (probe.predict(twice) == y).all()


@pytest.mark.parametrize("wrong", [{"C": np.inf}, {"C": np.nan}, {"C": 0}, {"tol": -1}])
def test_strengths_that_are_none(wrong):
    with pytest.raises(ValueError, match="C and tol must be numbers above 0"):
        LinearProbe(**wrong).fit(*made_up())


@pytest.mark.parametrize("weights", [dict.fromkeys(range(4), 0), {0: -1.0, 1: 1.0, 2: 1.0, 3: 1.0}])
def test_class_weights_that_are_none(weights):
    with pytest.raises(ValueError, match="class weights must not be below 0, nor all 0"):
        LinearProbe(class_weight=weights).fit(*made_up())


def test_a_single_class_is_refused():
    with pytest.raises(ValueError, match="tells classes apart and needs two at least; all labels are one class: x"):
        LinearProbe().fit(np.ones((3, 2)), ["x", "x", "x"])


def test_an_end_before_the_tolerance_is_said():
    x, y = made_up()
    with pytest.warns(ConvergenceWarning, match="after 3 steps, above the tol of 1.0e-08"):
        LinearProbe(max_iter=3, tol=1e-8, C=1.0).fit(x, y)
