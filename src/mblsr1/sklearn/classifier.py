"""`MBLSR1Classifier`: logistic regression, linear or with one hidden layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from mblsr1.sklearn.model import ROWS, Model, checked_weights
from mblsr1.sklearn.network import Floats, Network, logistic, softmax
from mblsr1.sklearn.training import Data

__all__ = ["MBLSR1Classifier"]


class MBLSR1Classifier(ClassifierMixin, Model):  # type: ignore[misc]
    """Logistic regression, or a network with one hidden layer, fitted by MB-LSR1.

    The loss is the weighted mean of the negative log-likelihood, plus alpha / 2 times the squares of all weights;
    intercepts are not penalised. Without a hidden layer it is that of LogisticRegression with C = 1 / (n alpha).

    Parameters
    ----------
    hidden_layer_size : None or int >= 1
        tanh units of the hidden layer; None: a linear model.
    alpha : float >= 0
        Weight of the penalty.
    batch_size : "auto" or int >= 1
        Samples of the first batch; it grows where noise outweighs the gradient. "auto": all samples for a linear
        model, 256 with a hidden layer. From the number of samples on, every step sees all of them.
    memory : None or int >= 0
        Pairs kept, as in `mblsr1.Options`.
    max_iter : int >= 1
        Budget in passes over the data; a ConvergenceWarning says where it did not suffice.
    tol : "auto" or float >= 0
        The run ends where the 2-norm of the gradient over all samples is within it; and the least gain of
        `n_iter_no_change`. "auto": 1e-4, and 1e-8 for linear regression.
    early_stopping : bool
        Set `validation_fraction` of the samples aside, end where their score gains less than `tol` in
        `n_iter_no_change` passes in a row, and keep the weights of the best score.
    validation_fraction : float in (0, 1)
    n_iter_no_change : int >= 1
        With batches and without early stopping it is the training loss that must gain `tol`.
    warm_start : bool
        `fit` goes on from the weights of the last one.
    verbose : bool
        Print the loss of each pass.
    random_state : None, int or numpy.random.RandomState
        Seed of the start of a hidden layer, the batches and the validation set.
    class_weight : None, dict or "balanced"
        Factors on the weights of the samples of each class; "balanced" makes all classes weigh the same.

    Attributes
    ----------
    classes_ : array (n_classes,)
    coefs_, intercepts_ : list of array
        Weights (inputs, outputs) and intercepts (outputs,) of each layer; two classes have one output.
    coef_, intercept_ : array (outputs, n_features), array (outputs,)
        The same without a hidden layer.
    loss_curve_ : list of float
        Mean loss of the batches of each pass, and of each chunk given to `partial_fit`.
    n_iter_ : int
        Its length.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracy after each pass, and the best; None without early stopping.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from mblsr1.sklearn import MBLSR1Classifier
    >>> X, y = load_iris(return_X_y=True)
    >>> MBLSR1Classifier(alpha=1e-2).fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        hidden_layer_size: int | None = None,
        *,
        alpha: float = 1e-4,
        batch_size: int | str = "auto",
        memory: int | None = None,
        max_iter: int = 500,
        tol: float | str = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        verbose: bool = False,
        random_state: Any = None,
        class_weight: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_size, alpha=alpha, batch_size=batch_size, memory=memory, max_iter=max_iter, tol=tol,
            early_stopping=early_stopping, validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change, warm_start=warm_start, verbose=verbose, random_state=random_state,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MBLSR1Classifier:
        """Fit to rows X (n, n_features), dense or sparse, and labels y (n,), with weights (n,) >= 0 of the samples.

        Raises
        ------
        ValueError, TypeError
            Where a parameter or an array is unusable.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, reset=not self._goes_on(), **ROWS)
        check_classification_targets(y)
        classes = np.unique(y)
        if self._goes_on() and not np.array_equal(classes, self.classes_):
            raise ValueError(f"y: has the classes {classes}, but the fit to go on with has {self.classes_}")
        data = self._data(X, y, classes, sample_weight)
        return self._train(data, self._classifying(), data[1])  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> MBLSR1Classifier:
        """Make one step on a chunk of a stream, with the pairs and the radius of the steps before.

        Parameters
        ----------
        X, y, sample_weight : array
            As in `fit`.
        classes : array
            All labels that may come; must be given at the first call.

        Raises
        ------
        ValueError, TypeError
            As `fit`, where `classes` is missing or another than before, or ``class_weight="balanced"``.
        """
        self._check_parameters()
        if isinstance(self.class_weight, str):
            raise ValueError(f"class_weight: must be None or a dict with partial_fit, got {self.class_weight!r}")
        classes = self._all_classes(classes)
        goes_on = hasattr(self, "coefs_")
        X, y = validate_data(self, X, y, reset=not goes_on, **ROWS)
        check_classification_targets(y)
        data = self._data(X, y, classes, sample_weight)
        return self._step(data, self._classifying(), goes_on)  # type: ignore[no-any-return]

    def _all_classes(self, classes: Any) -> NDArray[Any]:
        known: Any = getattr(self, "classes_", None)
        if classes is None and known is None:
            raise ValueError("classes: must be given at the first call of partial_fit, got None")
        given: Any = known if classes is None else np.unique(classes)
        if known is not None and not np.array_equal(given, known):
            raise ValueError(f"classes: must be those of the first call, {known}, got {classes!r}")
        return np.asarray(given)

    def _data(self, X: Any, y: NDArray[Any], classes: NDArray[Any], sample_weight: Any) -> Data:
        """Rows, numbers of the classes, weights."""
        if len(classes) < 2:
            raise ValueError(f"y: must have at least two classes, got one class {classes}")
        if not np.isin(y, classes).all():
            raise ValueError(f"y: has the labels {np.setdiff1d(y, classes)}, which are not in classes={classes}")
        weights = checked_weights(sample_weight, X)
        codes = np.searchsorted(classes, y)
        if self.class_weight is not None:
            weights = (weights * self._factors(y, classes, weights)[codes]).astype(X.dtype)
            if not weights.any():
                raise ValueError("class_weight: must be > 0 for the class of one sample at least, got zeros")
        self.classes_ = classes
        return X, codes, weights

    def _factors(self, y: NDArray[Any], classes: NDArray[Any], weights: Floats) -> Floats:
        """Return the factor of each class."""
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = compute_class_weight(self.class_weight, classes=classes, y=y, sample_weight=weights)
        if not (np.isfinite(factors).all() and (factors >= 0.0).all()):
            given = "'balanced' and a class of no weight" if self.class_weight == "balanced" else self.class_weight
            raise ValueError(f"class_weight: must be finite and >= 0 for each class, got {given}")
        return np.asarray(factors)

    def _classifying(self) -> Network:
        k = len(self.classes_)
        return self._network(1, logistic) if k == 2 else self._network(k, softmax)

    def _keep(self, network: Network, w: Floats) -> None:
        """With a score for each class only their differences count: their mean is made 0, which lowers the penalty."""
        if len(self.classes_) > 2:
            w = w.copy()
            W, b = network.unpack(w)[-2:]
            W -= W.mean(axis=1, keepdims=True)
            b -= b.mean()
        super()._keep(network, w)

    def _score_of(self, scores: Floats, targets: Any, weights: Floats) -> float:
        return float(accuracy_score(targets, _code(scores), sample_weight=weights))

    def decision_function(self, X: Any) -> Floats:
        """Log odds of the second class (n,), or a score for each class (n, n_classes)."""
        scores = self._scores(X)
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class (n,)."""
        codes = _code(self._scores(X))
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: Any) -> Floats:
        """Probability of each class, (n, n_classes)."""
        scores = self._scores(X)
        if scores.shape[1] == 1:
            return np.asarray(scipy.special.expit(np.concatenate([-scores, scores], axis=1)))
        return np.asarray(scipy.special.softmax(scores, axis=1))

    def predict_log_proba(self, X: Any) -> Floats:
        """Logarithm of the probability of each class, (n, n_classes)."""
        scores = self._scores(X)
        if scores.shape[1] == 1:
            return np.asarray(scipy.special.log_expit(np.concatenate([-scores, scores], axis=1)))
        return np.asarray(scipy.special.log_softmax(scores, axis=1))


def _code(scores: Floats) -> NDArray[np.intp]:
    """Return the number of the most probable class of each row."""
    return (scores[:, 0] > 0.0).astype(np.intp) if scores.shape[1] == 1 else scores.argmax(axis=1)
