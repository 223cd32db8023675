"""The estimators at the edges: targets of any size, streams of single rows, short budgets, weights of zero."""

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.7")

from sklearn.datasets import load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

import mblsr1.sklearn.model
from mblsr1.sklearn import MBLSR1Classifier, MBLSR1Regressor
from mblsr1.sklearn.regressor import _Unit

EPS = np.finfo(np.float64).eps
BOTH = (MBLSR1Classifier, MBLSR1Regressor)


def targets(dtype=np.float64):
    X, y = make_regression(200, 5, noise=1.0, bias=300.0, random_state=0)
    return X.astype(dtype), y


# ---- the unit of the targets


@pytest.mark.parametrize("power", [530, -560, 1012, -1000])
def test_targets_of_any_size_have_the_same_fit(power):
    """Powers of two do not round, and the squares of these targets overflow or underflow."""
    X, y = targets()
    one, other = MBLSR1Regressor().fit(X, y), MBLSR1Regressor().fit(X, np.ldexp(y, power))
    assert one.loss_curve_ == other.loss_curve_
    assert np.array_equal(np.ldexp(one.coef_, power), other.coef_)
    assert np.array_equal(other.predict(X) != 0.0, one.predict(X) != 0.0)
    assert np.isfinite(other.predict(X)).all()


@pytest.mark.parametrize(
    ("dtype", "factor", "text"),
    [
        (np.float64, 1e305, r"y: must be within 4\.5e\+307 in size, as X is float64, got "),
        (np.float32, 1e39, r"y: must be within 8\.5e\+37 in size, as X is float32, got "),
        (np.float32, 1e-50, r"y: must vary by 1\.2e-38 at least, as X is float32, got "),
    ],
)
def test_targets_that_the_dtype_does_not_hold(dtype, factor, text):
    X, y = targets(dtype)
    for fit in (MBLSR1Regressor().fit, MBLSR1Regressor().partial_fit):
        with pytest.raises(ValueError, match=text):
            fit(X, y * factor)


def test_weights_that_the_dtype_does_not_hold():
    X, y = targets(np.float32)
    model = MBLSR1Regressor(alpha=0.0).fit(X, y)
    before = model.predict(X)
    for fit in (model.fit, MBLSR1Regressor(alpha=0.0).fit):
        with pytest.raises(ValueError, match="y: the weights in its unit are too large for float32; scale X or y"):
            fit(X * np.float32(1e-3), y * 5e34)
    assert np.array_equal(model.predict(X), before)


def test_the_unit_of_two_parts_is_that_of_the_whole():
    rng = np.random.default_rng(0)
    same, other = np.tile(rng.standard_normal(2), (5, 1)), rng.standard_normal((7, 2))
    weights = rng.uniform(0.5, 2.0, 12)
    joined = _Unit.of(same, weights[:5]).joined(_Unit.of(other, weights[5:]))
    whole = _Unit.of(np.concatenate([same, other]), weights)
    mean = np.average(np.concatenate([same, other]), axis=0, weights=weights)
    spread = np.sqrt(np.average(((np.concatenate([same, other]) - mean) ** 2).mean(axis=1), weights=weights))
    for unit in (joined, whole):
        assert np.abs(unit.mean - mean).max() <= 20 * EPS
        assert abs(unit.spread - spread) <= 20 * EPS * spread
        assert abs(unit.weight - weights.sum()) <= 20 * EPS * unit.weight


@pytest.mark.parametrize("unit", [1.0, 1e8, 1e-6])
@pytest.mark.parametrize("first", [1, 3, 20])
def test_a_stream_of_single_rows(first, unit):
    """Also where the first chunks say nothing of the unit: single rows, or rows of one target."""
    X, y = targets()
    if first == 3:
        y[:3] = y[0]
    model = MBLSR1Regressor().partial_fit(X[:first], y[:first] * unit)
    for i in range(first, 200):
        model.partial_fit(X[i : i + 1], y[i : i + 1] * unit)
    assert model.score(X, y * unit) > 0.99
    assert model.n_iter_ == len(model.loss_curve_) == 201 - first


@pytest.mark.parametrize("weights", [np.full(20, 0.3), np.repeat([0.0, 0.7], 10)])
def test_targets_that_are_all_the_same_have_no_spread(weights):
    """Their mean rounds, and rows without weight do not count."""
    y = np.full((20, 2), 235.4900158e8)
    y[0] += weights[0] == 0.0
    unit = _Unit.of(y, weights)
    assert unit.spread == 0.0
    assert np.array_equal(unit.mean, y[-1])


def test_targets_that_differ_after_a_fit_to_a_constant():
    X, y = targets()
    model = MBLSR1Regressor(alpha=0.01).fit(X, np.full(200, 7.0))
    model.partial_fit(X[:50], np.full(50, 7.0))
    assert np.array_equal(model.predict(X), np.full(200, 7.0))
    for _ in range(60):
        model.partial_fit(X, 1e6 * y)
    exact = Ridge(alpha=2.0).fit(X, 1e6 * y)
    assert np.linalg.norm(model.coef_ - exact.coef_) <= 1e-6 * np.linalg.norm(exact.coef_)


# ---- budgets


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_max_iter_passes_are_made(make, passes):
    """On all samples a pass is a step, however often it is re-solved: here the first one is."""
    X, y = load_iris(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=f"max_iter={passes} passes"):
        model = make(max_iter=passes).fit(X, y)
    assert model.n_iter_ == len(model.loss_curve_) == passes
    assert np.abs(model.coef_).max() > 0.0


def test_the_last_pass_may_reach_the_minimum():
    """No warning then, though the driver does not look after its last step."""
    X, y = targets()
    needed = MBLSR1Regressor().fit(X, y).n_iter_
    assert MBLSR1Regressor(max_iter=needed).fit(X, y).n_iter_ == needed
    with pytest.warns(ConvergenceWarning, match="passes over the data are used up"):
        MBLSR1Regressor(max_iter=needed - 1).fit(X, y)


# ---- weights


@pytest.mark.parametrize(
    ("class_weight", "text"),
    [
        ({0: -1.0, 1: 1.0, 2: 1.0}, "class_weight: must be finite and >= 0 for each class, got {0: -1.0"),
        ({0: np.nan, 1: 1.0, 2: 1.0}, "class_weight: must be finite and >= 0"),
        ({0: np.inf, 1: 1.0, 2: 1.0}, "class_weight: must be finite and >= 0"),
        ({0: 0, 1: 0, 2: 0}, "class_weight: must be > 0 for the class of one sample at least"),
        ("balanced", "class_weight: must be finite .* got 'balanced' and a class of no weight"),
    ],
)
def test_class_weights_that_are_refused(class_weight, text):
    X, y = load_iris(return_X_y=True)
    model = MBLSR1Classifier(class_weight=class_weight)
    with pytest.raises(ValueError, match=text):
        model.fit(X, y, np.where(y == 1, 0.0, 1.0))
    if class_weight != "balanced":
        with pytest.raises(ValueError, match=text):
            model.partial_fit(X, y, classes=np.arange(3))


def test_a_class_of_no_weight_is_no_mistake():
    X, y = load_iris(return_X_y=True)
    model = MBLSR1Classifier(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(X, y)
    assert not (model.predict(X) == 0).any()


@pytest.mark.parametrize("make", BOTH)
def test_samples_without_weight_are_refused(make):
    X, y = load_iris(return_X_y=True)
    more = {"classes": np.arange(3)} if make is MBLSR1Classifier else {}
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):  # scikit-learn's own words from 1.8 on
        make().fit(X, y, np.zeros(150))
    with pytest.raises(ValueError, match=r"[Ss]ample.weight"):
        make().partial_fit(X, y, sample_weight=np.zeros(150), **more)


@pytest.mark.parametrize("make", BOTH)
def test_a_chunk_is_weighted_by_shares(make):
    """The loss is the weighted mean: a factor on all weights changes nothing."""
    X, y = load_iris(return_X_y=True)
    weights = np.random.default_rng(0).uniform(0.5, 2.0, 150)
    more = {"classes": np.arange(3)} if make is MBLSR1Classifier else {}
    one, other = make(), make()
    for _ in range(5):
        one.partial_fit(X, y, sample_weight=weights, **more)
        other.partial_fit(X, y, sample_weight=1024.0 * weights, **more)
    assert one.loss_curve_ == other.loss_curve_
    assert np.array_equal(one.coef_, other.coef_)


# ---- early stopping


def test_a_validation_set_has_a_score():
    X, y = targets()
    for make, text in (
        (MBLSR1Regressor, r"must set 2 samples aside at least, got 0\.1 of 10"),
        (MBLSR1Classifier, ".* 10"),
    ):
        with pytest.raises(ValueError, match=f"validation_fraction: {text}"):
            make(early_stopping=True).fit(X[:10], np.where(y[:10] > 300, 1, 0) if make is MBLSR1Classifier else y[:10])
    with pytest.raises(ValueError, match=r"validation_fraction: 0\.9 of 3 samples"):
        MBLSR1Classifier(early_stopping=True, validation_fraction=0.9).fit(X[:3], [0, 1, 1])


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize("part", [0, 1])
def test_both_parts_have_weight(make, part, monkeypatch):
    X, y = load_iris(return_X_y=True)
    weights = np.ones(150)
    model = make(early_stopping=True, random_state=0)

    def split(*arrays, **arguments):
        parts = train_test_split(*arrays, **arguments)
        parts[-2 + part] = np.zeros_like(parts[-2 + part])
        return parts

    train_test_split = mblsr1.sklearn.model.train_test_split
    monkeypatch.setattr(mblsr1.sklearn.model, "train_test_split", split)
    with pytest.raises(
        ValueError, match="sample_weight: must be > 0 for samples of the training and of the validation"
    ):
        model.fit(X, y, weights)


# ---- one model after another


@pytest.mark.parametrize("make", BOTH)
def test_attributes_of_another_fit_are_gone(make):
    X, y = load_iris(return_X_y=True)
    model = make(alpha=0.1, tol=1e-2, random_state=0).fit(X, y)
    assert hasattr(model, "coef_")
    model.set_params(hidden_layer_size=3, early_stopping=True).fit(X, y)
    assert not hasattr(model, "coef_")
    assert not hasattr(model, "intercept_")
    assert model.best_validation_score_ == max(model.validation_scores_)
    model.partial_fit(X, y)
    assert model.validation_scores_ is model.best_validation_score_ is None


@pytest.mark.parametrize("make", BOTH)
def test_a_refused_fit_names_what_changed_and_leaves_the_model(make):
    X, y = load_iris(return_X_y=True)
    model = make(alpha=0.1, tol=1e-2, warm_start=True).fit(X, y)
    before = model.predict(X)
    for fit in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"X has 3 features, but .* is expecting 4"):
            fit(X[:, :3], y)
        if make is MBLSR1Regressor:
            with pytest.raises(ValueError, match="y: must have 1 outputs as before, got 2"):
                fit(X, np.stack([y, y], axis=1))
    assert np.array_equal(model.predict(X), before)
    model.set_params(warm_start=False).fit(X[:, :3], y)
    assert model.n_features_in_ == 3


@pytest.mark.parametrize("make", BOTH)
def test_what_may_change_within_a_stream(make):
    """Another memory or precision drops the pairs; the weights go on."""
    X, y = load_iris(return_X_y=True)
    more = {"classes": np.arange(3)} if make is MBLSR1Classifier else {}
    model = make(alpha=0.1, memory=8)
    for _ in range(10):
        model.partial_fit(X, y, **more)
    kept = model.score(X, y)
    assert model.set_params(memory=4).partial_fit(X, y).score(X, y) > kept - 0.05
    assert model.partial_fit(X.astype(np.float32), y).score(X, y) > kept - 0.05
    assert model.n_iter_ == 12


@pytest.mark.parametrize("make", BOTH)
def test_verbose_is_checked(make):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(TypeError, match="verbose: must be True, False or an int, got 'no'"):
        make(verbose="no").fit(X, y)
