"""MB-LSR1 for a training loop of the caller's own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mblsr1 import _array
from mblsr1.arguments import checked_options, checked_rng
from mblsr1.checks import integer, real
from mblsr1.methods.presets import Options
from mblsr1.rules.batch import sample_size
from mblsr1.torch.closures import Evaluation
from mblsr1.torch.course import Course
from mblsr1.torch.draws import Batch, Draws, frozen_statistics
from mblsr1.torch.flat import FlatParameters, check_memory, check_parameters, trainable
from mblsr1.torch.given import Group, check_blocks, check_call, check_model_of, check_state, loop_is_the_callers
from mblsr1.torch.saved import from_saved, to_saved

__all__ = ["MBLSR1"]

Closure = Callable[..., Any]


class MBLSR1(torch.optim.Optimizer):
    """MB-LSR1 as a torch optimizer; `step(closure)` is one iteration.

    Parameters
    ----------
    params : iterable of parameters, named parameters or dicts with "params"
        float32 or float64, dense, of one dtype and on one device. All groups are one vector, and have the same
        settings. Parameters that require no gradient are left out.
    model : torch.nn.Module, optional
        Whose buffers (running statistics of batch norm) the evaluations at trial points leave alone. Without it the
        random generators alone are held, so that dropout draws the same at all evaluations of a step.
    n_samples : int >= 1, optional
        Size of the whole set. A batch of that size is taken for the whole set: always the same function. 1, with
        ``batch_size=1``, for a function without data.
    planned_samples : float > 0, optional
        Cost of the whole training in sample-gradients; in its last quarter the radius is annealed. A step on a batch
        costs two gradients of it, on the whole set about one. Steps beyond it are made, in the smallest radius.
    blocks : bool
        Learn a metric from the parameters' shapes, ``Options(blocks=shapes)``.
    options : Options, optional
        Default ``Options()``.
    rng : None, int or numpy.random.Generator
        Seed of what the method itself draws, the pairs of a warm start.
    **changes
        Single fields of `options`, e.g. ``memory=32``. ``batch_size`` is that of the first closures.

    Raises
    ------
    ValueError, TypeError
        Where an argument, a parameter or an option is unusable, naming it and what is allowed.

    Notes
    -----
    A closure evaluates one batch, at the start and at the new iterate; its values there are also half of the next
    step's batch. So a step has the gradient of two batches, and y, R and Q belong to one of them: the default with
    half of each batch shared, whatever share `overlap` names (0: the step is re-solved on each batch alone).
    `mblsr1.torch.minimize` shares an eighth.

    There is no learning rate, so no scheduler; the ratio moves the radius. `gtol` and `check_every` do nothing by
    themselves, as the loop is yours. Memory: 2 m vectors for m pairs (64 where batches are samples), and about six.

    Examples
    --------
    >>> import torch, mblsr1
    >>> w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    >>> optimizer = mblsr1.torch.MBLSR1([w], n_samples=1, batch_size=1)
    >>> def closure():
    ...     loss = (w * w).sum()
    ...     loss.backward()
    ...     return loss
    >>> for _ in range(20):
    ...     loss = optimizer.step(closure)
    >>> float(loss) < 1e-12
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        model: torch.nn.Module | None = None,
        n_samples: int | None = None,
        planned_samples: float | None = None,
        blocks: bool = False,
        options: Options | None = None,
        rng: Any = None,
        **changes: Any,
    ) -> None:
        super().__init__(params, {})
        self.options = loop_is_the_callers(checked_options(None, options, changes))
        if model is not None:
            check_model_of(self._parameters, model)
        if n_samples is not None:
            integer("n_samples", n_samples, 1)
        if planned_samples is not None:
            real("planned_samples", planned_samples, " > 0", lambda x: x > 0.0)
        check_blocks(blocks)
        self._blocks = blocks
        self._course = Course(self.options, n_samples, planned_samples, checked_rng(rng), Draws(model))
        self._flat: FlatParameters | None = None
        self._changes: list[int] | None = None  # of the parameters, as the last step left them

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; the pairs, which know nothing of them, are dropped at the next step.

        Parameters
        ----------
        param_group : dict
            "params", and "param_names" where they are named. All groups have the same settings.

        Raises
        ------
        ValueError, TypeError
            Where a group has settings of its own or a parameter is unusable.
        """
        if not isinstance(param_group, Mapping):
            raise TypeError(f"param_group: must be a dict with 'params', got {type(param_group).__name__}")
        own = sorted(set(param_group) - {"params", "param_names"})
        if own:
            raise ValueError(
                f"params: all groups have the same settings, so a group must have params alone, got {own[0]!r}"
            )
        super().add_param_group(Group(param_group))
        try:
            check_parameters(trainable(self._parameters))
            check_memory(self._parameters)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @property
    def suggested_batch_size(self) -> int:
        """Samples that the next closures should evaluate; tell `step` when you follow."""
        return self._course.suggested

    @property
    def check_size(self) -> int:
        """Samples that the closure of the next `check_progress` should evaluate."""
        return sample_size(self.options.check_size, self._course.batch_size, self._course.n_samples)

    @property
    def check_due(self) -> bool:
        """Whether a progress check is due: there was none yet, or `check_every` steps have been made since."""
        progress = self._course.progress
        return math.isnan(progress.reference) or progress.since >= self.options.check_every

    @property
    def last_step(self) -> dict[str, float]:
        """Scalars of the last step, as in the history of `mblsr1.minimize`: loss, rho, radius, n_samples, ...

        A step at whose start loss or gradient were not finite has not moved and has ``alpha`` 0.
        """
        return dict(self._course.last)

    @torch.no_grad()
    def step(self, closure: Closure, batch_size: int | None = None) -> Any:
        """Make one iteration on the batch that the closure evaluates.

        Parameters
        ----------
        closure : callable
            Evaluates model and loss, calls ``backward()`` and returns the mean loss; called two times or more, always
            with the same batch. The gradients are cleared before each call. With an argument ``backward`` it is asked
            for the loss alone by ``closure(backward=False)`` where that is enough.
        batch_size : int, optional
            Samples of this batch, where it is not that of the step before.

        Returns
        -------
        tensor or number
            The loss at the start point: what the closure returned there, detached. On the whole set, where it is known
            from the step before, a tensor.

        Raises
        ------
        ValueError, TypeError
            Where the closure returns no loss, a gradient is sparse, or a GradScaler is at work.
        """
        check_call(closure, batch_size)
        if getattr(self, "grad_scale", None) is not None:
            raise TypeError(
                "GradScaler: must not be used with MBLSR1, which compares losses with their gradients; "
                "autocast to bfloat16 needs none"
            )
        course, flat = self._course, self._laid_out()
        if batch_size is not None:
            course.batch_size = int(batch_size)
        w = flat.start()
        try:
            with _array.quiet():
                return course.advance(Evaluation(closure, flat, course.draws, course.batch), w)
        except BaseException:
            flat.load(w)
            course.draws.end_step(False)
            raise
        finally:
            flat.release()
            self._changes = flat.changes()

    def check_progress(self, closure: Closure, batch_size: int | None = None) -> int:
        """Algorithm 6: double the suggested batch size where progress on fresh data falls behind.

        Due every `check_every` steps. The parameters, their gradients excepted, and the model's buffers are left alone.

        Parameters
        ----------
        closure : callable
            As in `step`, on samples that no step has used: about `check_size` of them.
        batch_size : int, optional
            How many they are, for the count of cost.

        Returns
        -------
        int
            The suggested batch size.
        """
        check_call(closure, batch_size)
        course, flat, size = self._course, self._laid_out(), batch_size or self.check_size
        w, model = flat.start(), course.draws.model
        try:
            with torch.no_grad(), _array.quiet(), frozen_statistics(model):
                course.check(Evaluation(closure, flat, Draws(model), Batch()), int(size), w)
        finally:
            flat.load(w)
            flat.release()
            self._changes = flat.changes()
        return course.suggested

    @property
    def _parameters(self) -> list[Tensor]:
        """Those of all groups, also what needs no gradient."""
        return [p for group in self.param_groups for p in group["params"]]

    def _laid_out(self) -> FlatParameters:
        """The parameters as a vector, and the method's state for it."""
        parameters = trainable(self._parameters)
        if self._flat is None or not self._flat.is_of(parameters):
            self._flat = self._lay_out(parameters)
        replaced = self._flat.settle()
        if replaced or (self._changes is not None and self._changes != self._flat.changes()):
            self._course.carried = None  # the caller has changed the parameters: nothing is known of them
        return self._flat

    def _lay_out(self, parameters: list[Tensor]) -> FlatParameters:
        if not parameters:
            raise ValueError("params: one must require a gradient and have an entry, got none")
        check_memory(self._parameters)
        flat = FlatParameters(parameters, self._flat)
        if not _array.all_finite(flat.buffer):
            raise ValueError("params: must be finite, got an entry that is nan or infinite")
        keeps_shapes = self._flat is not None and self._flat.shapes == flat.shapes
        self._course.begin(flat.buffer, flat.shapes if self._blocks else None, keeps_shapes)
        return flat

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later run needs, for ``torch.save``; it loads with ``weights_only=True``.

        The tensors are those of the optimizer, as in all of torch: copy them where training goes on before they are
        written. Under "mblsr1" is what concerns all parameters together: pairs, radius, checks, counts.
        """
        own = None
        if self._flat is not None:
            trained = set(map(id, self._flat.parameters))
            own = {
                "shapes": [list(p.shape) for p in self._parameters],
                "trained": [id(p) in trained for p in self._parameters],
                **to_saved(self._course.to_saved()),
            }
        return {**super().state_dict(), "mblsr1": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a `state_dict`; load the model's too. Device and dtype become those of the parameters.

        Where other parameters need a gradient than when it was made, the pairs are dropped and the radius is kept, as
        in `step`.

        Raises
        ------
        ValueError, TypeError
            Where it is of another optimizer, or its parameters have other shapes. The optimizer then goes on as before.
        """
        check_state(state_dict, [tuple(p.shape) for p in self._parameters])
        saved = from_saved(state_dict["mblsr1"])
        super().load_state_dict(state_dict)
        if saved is None:
            self._flat = self._course.inner = self._course.carried = self._changes = None
            return
        flat = self._laid_out()
        self._course = self._restored(saved, flat)
        self._changes = None

    def _restored(self, saved: dict[str, Any], flat: FlatParameters) -> Course:
        """The course of a state, for the parameters that need a gradient now."""
        course, like, shapes = copy.copy(self._course), flat.buffer, flat.shapes
        trained = set(map(id, flat.parameters))
        same = [id(p) in trained for p in self._parameters] == saved["trained"]
        if not same:
            shapes = [tuple(shape) for shape, was in zip(saved["shapes"], saved["trained"], strict=True) if was]
            like = flat.buffer.new_zeros(sum(map(math.prod, shapes)))
            course.begin(like, shapes if self._blocks else None, False)
        try:
            course.restore(saved, like)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"state_dict: does not fit this optimizer: {error}") from error
        if not same:
            course.begin(flat.buffer, flat.shapes if self._blocks else None, False)
        return course

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.param_groups: list[dict[str, Any]] = [Group(group) for group in state["param_groups"]]

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("MBLSR1: cannot be copied or pickled, as its parameters share memory; use state_dict()")

    #: GradScaler then leaves scaled gradients to `step`, which refuses them.
    _step_supports_amp_scaling = True
