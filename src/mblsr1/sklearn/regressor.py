"""`MBLSR1Regressor`: least squares, linear or with one hidden layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.validation import validate_data

from mblsr1.sklearn.model import ROWS, Model, checked_weights
from mblsr1.sklearn.network import Floats, Network, squared
from mblsr1.sklearn.training import Data

__all__ = ["MBLSR1Regressor"]


class MBLSR1Regressor(RegressorMixin, Model):  # type: ignore[misc]
    """Ridge regression, or a network with one hidden layer, fitted by MB-LSR1.

    The loss is the weighted mean of half the squared error, with the targets in units of their standard deviation,
    plus alpha / 2 times the squares of all weights; intercepts are not penalised. Neither `tol` nor `alpha` depends on
    the unit of y. Without a hidden layer the solution is that of Ridge with n alpha. On a stream the first chunks say
    what the unit is, up to the one with which the targets differ; there the weights start anew.

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

    _fewest_scored = 2

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
        X, y, weights = self._checked(X, y, sample_weight, self._goes_on())
        self._take(_Unit.of(y, weights))
        data = X, self._in_unit(y, X.dtype), weights
        return self._train(data, self._network(y.shape[1], squared))  # type: ignore[no-any-return]

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MBLSR1Regressor:
        """Make one step on a chunk of a stream, with the pairs and the radius of the steps before.

        Parameters and errors are those of `fit`.
        """
        self._check_parameters()
        goes_on = hasattr(self, "coefs_")
        X, y, weights = self._checked(X, y, sample_weight, goes_on)
        if not goes_on:
            self._take(_Unit.of(y, weights))
        elif not self._unit.spread:  # all targets so far are the same
            self._take(self._unit.joined(_Unit.of(y, weights)))
            goes_on = not self._unit.spread
        data = X, self._in_unit(y, X.dtype), weights
        return self._step(data, self._network(y.shape[1], squared), goes_on)  # type: ignore[no-any-return]

    def _checked(self, X: Any, y: Any, sample_weight: Any, goes_on: bool) -> Data:
        """Rows, targets (n, outputs) in float64, weights."""
        X, y = validate_data(self, X, y, reset=not goes_on, multi_output=True, y_numeric=True, **ROWS)
        weights = checked_weights(sample_weight, X)
        rows = y.reshape(len(y), -1).astype(np.float64)
        if goes_on and rows.shape[1] != len(self.intercepts_[-1]):
            raise ValueError(f"y: must have {len(self.intercepts_[-1])} outputs as before, got {rows.shape[1]}")
        largest, most = float(np.abs(rows).max()), float(np.finfo(X.dtype).max) / 4.0  # differences are finite
        if largest > most:
            raise ValueError(f"y: must be within {most:.2g} in size, as X is {X.dtype}, got {largest:.2g}")
        self._is_vector = y.ndim == 1
        return X, rows, weights

    def _take(self, unit: _Unit) -> None:
        # a NumPy float: weights in float32 are rounded after the change of unit alone
        self._unit, self._shift, self._scale = unit, unit.mean, np.float64(unit.spread or 1.0)
        self._state = None  # of another unit

    def _in_unit(self, y: Floats, dtype: Any) -> Floats:
        """The targets as the network sees them."""
        least = float(np.finfo(dtype).tiny)
        if self._scale < least:
            raise ValueError(f"y: must vary by {least:.2g} at least, as X is {dtype}, got {self._scale:.2g}")
        return np.asarray(((y - self._shift) / self._scale).astype(dtype))

    def _keep(self, network: Network, w: Floats) -> None:
        super()._keep(network, w)
        if network.is_linear and self._is_vector:
            self.coef_, self.intercept_ = self.coef_[0], self.intercept_[0]

    def _score_of(self, scores: Floats, targets: Any, weights: Floats) -> float:
        return float(r2_score(targets, scores, sample_weight=weights))

    def predict(self, X: Any) -> Floats:
        """Return the predicted targets, of the shape that y had: (n,) or (n, outputs)."""
        scores = self._scores(X)
        return scores[:, 0] if self._is_vector else scores


class _Unit(NamedTuple):
    """Weight of the samples, mean of their targets (outputs,), and root of the mean square around it."""

    weight: float
    mean: Floats
    spread: float

    @classmethod
    def of(cls, y: Floats, weights: Floats) -> _Unit:
        """The unit of rows y, whose squares neither overflow nor underflow."""
        total, first = float(weights.sum(dtype=np.float64)), y[weights.argmax()]
        if (y[weights > 0.0] == first).all():  # which a mean of rounded numbers does not tell
            return cls(total, first, 0.0)
        power = _power_of_two(y)
        mean = weights @ (y / power) / total
        square = float(weights @ ((y / power - mean) ** 2).mean(axis=1) / total)
        return cls(total, mean * power, float(np.sqrt(square)) * power)

    def joined(self, other: _Unit) -> _Unit:
        """The unit of the samples of both, of which these are all the same."""
        total = self.weight + other.weight
        ours, theirs = self.weight / total, other.weight / total
        apart = other.mean - self.mean
        power = _power_of_two(apart)
        between = np.sqrt(ours * theirs * np.mean((apart / power) ** 2)) * power
        return _Unit(total, self.mean + theirs * apart, float(np.hypot(np.sqrt(theirs) * other.spread, between)))


def _power_of_two(y: Floats) -> float:
    """The largest one within the size of y: dividing by it does not round."""
    return float(np.ldexp(1.0, int(np.frexp(np.abs(y).max())[1]) - 1))
