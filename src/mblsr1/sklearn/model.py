"""What classifier and regressor share: parameters and their checks, the run, weights in and out."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mblsr1.checks import integer, positive, real, share
from mblsr1.sklearn.network import Floats, Loss, Network, squared
from mblsr1.sklearn.training import Data, Patience, step_on_chunk, train

__all__ = ["ROWS", "Model", "checked_weights"]

#: What X may be.
ROWS: dict[str, Any] = {"accept_sparse": "csr", "dtype": (np.float64, np.float32)}
#: Samples of a first batch with a hidden layer, and pairs kept on a stream: those of `Options()`.
_BATCH, _STREAM_MEMORY = 256, 64
#: What tol="auto" stands for.
_TOL, _CLOSE = 1e-4, 1e-8


class Model(BaseEstimator):  # type: ignore[misc]
    """Base of both estimators; they add targets, loss and what a score means.

    A network is fitted to (targets - `_shift`) / `_scale`; `coefs_` and `intercepts_` give the targets themselves.
    """

    _shift: Any = 0.0
    _scale: Any = 1.0
    #: Pairs and radius of the last chunk; the pairs kept and the dtype they were made with.
    _state: Any = None
    _state_kind: Any = None
    #: Samples without which a validation set has no score.
    _fewest_scored = 1

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
    ) -> None:
        self.hidden_layer_size, self.alpha = hidden_layer_size, alpha
        self.batch_size, self.memory = batch_size, memory
        self.max_iter, self.tol = max_iter, tol
        self.early_stopping, self.validation_fraction = early_stopping, validation_fraction
        self.n_iter_no_change, self.warm_start = n_iter_no_change, warm_start
        self.verbose, self.random_state = verbose, random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _check_parameters(self) -> None:
        if self.hidden_layer_size is not None:
            integer("hidden_layer_size", self.hidden_layer_size, 1)
        if self.memory is not None:
            integer("memory", self.memory, 0)
        if not _is_auto(self.batch_size):
            integer("batch_size", self.batch_size, 1, ' or "auto"')
        if not _is_auto(self.tol):
            real("tol", self.tol, ' >= 0, or "auto"', lambda x: x >= 0.0)
        for name in ("max_iter", "n_iter_no_change"):
            integer(name, getattr(self, name), 1)
        real("alpha", self.alpha, " >= 0", lambda x: x >= 0.0)
        positive("validation_fraction", share("validation_fraction", self.validation_fraction))
        for name in ("early_stopping", "warm_start"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{name}: must be True or False, got {getattr(self, name)!r}")
        if not isinstance(self.verbose, (bool, np.bool_, numbers.Integral)):
            raise TypeError(f"verbose: must be True, False or an int, got {self.verbose!r}")

    def _options(self, network: Network, **more: Any) -> dict[str, Any]:
        """Fields of Options; the metric is told which weights form a matrix where there is a hidden layer."""
        blocks = None if network.is_linear else network.shapes
        return {"memory": self.memory, "gtol": self._gtol(network), "blocks": blocks, **more}

    def _gtol(self, network: Network) -> float:
        """Least squares without a hidden layer are solved closely: that takes few passes more."""
        if _is_auto(self.tol):
            return _CLOSE if network.is_linear and network.loss is squared else _TOL
        return float(self.tol)

    def _network(self, n_outputs: int, loss: Loss) -> Network:
        hidden = () if self.hidden_layer_size is None else (self.hidden_layer_size,)
        return Network((self.n_features_in_, *hidden, n_outputs), loss, float(self.alpha))

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _goes_on(self) -> bool:
        """Whether `fit` starts from the weights of the last one."""
        return bool(self.warm_start) and hasattr(self, "coefs_")

    def _start(self, network: Network, rng: np.random.Generator, dtype: Any, go_on: bool) -> Floats:
        """Weights of the last fit where it is to be gone on with, else new ones."""
        if not go_on:
            return network.start(rng, dtype)
        parts = self._parts()
        parts[-2:] = parts[-2] / self._scale, (parts[-1] - self._shift) / self._scale
        if [p.shape for p in parts] != network.shapes:
            raise ValueError(
                f"hidden_layer_size: the weights to go on with have shapes {[p.shape for p in parts]}, the model has "
                f"{network.shapes}; fit anew with warm_start=False"
            )
        return network.pack(parts).astype(dtype, copy=False)

    def _train(self, data: Data, network: Network, labels: Any = None) -> Any:
        """Fit the network to rows, targets and weights; `labels` stratify the validation set."""
        rng = self._generator()
        w = self._start(network, rng, data[0].dtype, self._goes_on())
        n_first = len(data[2]) if network.is_linear else _BATCH
        options = self._options(network, batch_size=n_first if _is_auto(self.batch_size) else self.batch_size)
        data, patience = self._with_patience(data, network, labels, rng, options["batch_size"])
        w, passes = train(network, w, _of_mean_one(data), rng, int(self.max_iter), options, patience, self.verbose)
        self._keep(network, w)
        self.loss_curve_, self.n_iter_ = passes.losses, len(passes.losses)
        self.validation_scores_ = passes.scores if self.early_stopping else None
        self.best_validation_score_ = max(passes.scores, default=None) if self.early_stopping else None
        self._state = None
        return self

    def _with_patience(
        self, data: Data, network: Network, labels: Any, rng: np.random.Generator, batch_size: int
    ) -> tuple[Data, Patience | None]:
        """What is trained on, and what ends the run early: without a validation set the loss does, on samples alone."""
        tol = self._gtol(network)
        if not self.early_stopping:
            return data, Patience(None, tol, self.n_iter_no_change) if batch_size < len(data[2]) else None
        split = self._split(data, labels, int(rng.integers(np.iinfo(np.int32).max)))
        X, targets, weights = split[1::2]

        def score(w: Floats) -> float:
            return self._score_of(network.outputs(network.unpack(w), X)[1], targets, weights)

        return tuple(split[::2]), Patience(score, tol, self.n_iter_no_change)

    def _split(self, data: Data, labels: Any, seed: int) -> list[Any]:
        """Rows, targets and weights of the training and of the validation set, in turn."""
        share = self.validation_fraction
        try:
            split = train_test_split(*data, test_size=share, random_state=seed, stratify=labels)
        except ValueError as error:
            raise ValueError(f"validation_fraction: {share!r} of {len(data[2])} samples: {error}") from error
        if len(split[-1]) < self._fewest_scored:
            raise ValueError(
                f"validation_fraction: must set {self._fewest_scored} samples aside at least, got {share!r} of "
                f"{len(data[2])}"
            )
        if not (split[-2].any() and split[-1].any()):
            raise ValueError("sample_weight: must be > 0 for samples of the training and of the validation set")
        return list(split)

    def _step(self, data: Data, network: Network, go_on: bool) -> Any:
        """Make one step on a chunk, from where the last one ended or from new weights."""
        rng = self._generator()
        w = self._start(network, rng, data[0].dtype, go_on)
        memory = _STREAM_MEMORY if self.memory is None else int(self.memory)
        options = self._options(network, batch_size=len(data[2])) | {"memory": memory}
        kind = memory, w.dtype
        state = self._state if go_on and self._state_kind == kind else None
        result = step_on_chunk(network, w, _of_mean_one(data), rng, state, options)
        self._keep(network, result.x)
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), float(result.fun)]
        self.n_iter_, self._state, self._state_kind = len(self.loss_curve_), result.state, kind
        self.validation_scores_ = self.best_validation_score_ = None
        return self

    def _keep(self, network: Network, w: Floats) -> None:
        """Take over the weights, in the unit of the targets."""
        parts = [p.copy() for p in network.unpack(w)]
        with np.errstate(over="ignore"):
            parts[-2:] = ((p * self._scale).astype(p.dtype) for p in parts[-2:])
            parts[-1] = (parts[-1] + self._shift).astype(parts[-1].dtype)
        if not all(np.isfinite(p).all() for p in parts[-2:]):
            raise ValueError(f"y: the weights in its unit are too large for {parts[-1].dtype}; scale X or y")
        self.coefs_, self.intercepts_ = parts[::2], parts[1::2]
        for name in ("coef_", "intercept_"):
            self.__dict__.pop(name, None)  # of another kind of model
        if network.is_linear:
            self.coef_, self.intercept_ = parts[0].T, parts[1]

    def _parts(self) -> list[Floats]:
        return [part for layer in zip(self.coefs_, self.intercepts_, strict=True) for part in layer]

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **ROWS)
        return Network.outputs(self._parts(), X)[1]

    def _score_of(self, scores: Floats, targets: Any, weights: Floats) -> float:
        raise NotImplementedError


def checked_weights(sample_weight: Any, X: Any) -> Floats:
    """Weights (n,) >= 0 of the dtype of X; ones where none are given."""
    weights: Floats = _check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight: must be > 0 for one sample at least, got only zeros")
    return weights


def _of_mean_one(data: Data) -> Data:
    X, targets, weights = data
    return X, targets, (weights / weights.mean(dtype=np.float64)).astype(X.dtype)


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
