"""`MBLSR1Regressor`: least squares, linear or with one hidden layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import _check_sample_weight, validate_data

from mblsr1.sklearn.model import ROWS, Model
from mblsr1.sklearn.network import Floats, Network, squared
from mblsr1.sklearn.training import Data

__all__ = ["MBLSR1Regressor"]


class MBLSR1Regressor(RegressorMixin, Model):  # type: ignore[misc]
    """Ridge regression, or a network with one hidden layer, fitted by MB-LSR1.

    The loss is the weighted mean of half the squared error, with the targets in units of their standard deviation,
    plus alpha / 2 times the squares of all weights; intercepts are not penalised. Neither `tol` nor `alpha` depends on
    the unit of y. Without a hidden layer the solution is that of Ridge with n alpha. On a stream the first chunk says
    what the unit is.

    Parameters
    ----------
    hidden_layer_size, alpha, batch_size, memory, max_iter, tol, warm_start, verbose, random_state
        As in :class:`MBLSR1Classifier`.
    early_stopping, validation_fraction, n_iter_no_change
        As there; the validation score is R^2.

    Attributes
    ----------
    coefs_, intercepts_, loss_curve_, n_iter_, validation_scores_, best_validation_score_
        As there.
    coef_, intercept_ : array (n_features,) and float, or array (outputs, n_features) and (outputs,)
        Without a hidden layer; the first where y is a vector.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from mblsr1.sklearn import MBLSR1Regressor
    >>> X, y = make_regression(n_features=5, noise=1.0, random_state=0)
    >>> MBLSR1Regressor().fit(X, y).score(X, y) > 0.99
    True
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MBLSR1Regressor:
        """Fit to rows X (n, n_features), dense or sparse, and targets y (n,) or (n, outputs), with weights (n,) >= 0.

        Raises
        ------
        ValueError, TypeError
            Where a parameter or an array is unusable.
        """
        self._check_parameters()
        data = self._data(X, y, sample_weight, True)
        return self._train(data, self._network(data[1].shape[1], squared))  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MBLSR1Regressor:
        """Make one step on a chunk of a stream, with the pairs and the radius of the steps before.

        Parameters and errors are those of `fit`.
        """
        self._check_parameters()
        data = self._data(X, y, sample_weight, not hasattr(self, "coefs_"))
        return self._step(data, self._network(data[1].shape[1], squared))  # type: ignore[no-any-return]

    def _data(self, X: Any, y: Any, sample_weight: Any, is_first: bool) -> Data:
        X, y = validate_data(self, X, y, reset=is_first, multi_output=True, y_numeric=True, **ROWS)
        weights = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
        self._is_vector, y = y.ndim == 1, y.reshape(len(y), -1).astype(np.float64)
        if is_first:
            self._shift, self._scale = _mean_and_scale(y, weights)
        return X, ((y - self._shift) / self._scale).astype(X.dtype), weights

    def _keep(self, network: Network, w: Floats) -> Any:
        super()._keep(network, w)
        if network.is_linear and self._is_vector:
            self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]
        return self

    def _score_of(self, scores: Floats, targets: Any, weights: Floats) -> float:
        return float(r2_score(targets, scores, sample_weight=weights))

    def predict(self, X: Any) -> Floats:
        """Return the predicted targets, of the shape that y had: (n,) or (n, outputs)."""
        scores = self._scores(X)
        return scores[:, 0] if self._is_vector else scores


def _mean_and_scale(y: Floats, weights: Floats) -> tuple[Floats, float]:
    """Weighted mean of the rows, and the root of the mean square around it; 1 where that is 0."""
    total = weights.sum(dtype=np.float64)
    mean = weights @ y / total
    square = float(weights @ ((y - mean) ** 2).mean(axis=1) / total)
    return mean, np.sqrt(square) if square > 0.0 else 1.0
