"""What a caller gives to `MBLSR1`, checked: groups, states, models, options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mblsr1.checks import integer
from mblsr1.methods.presets import Options
from mblsr1.torch.closures import check_closure
from mblsr1.torch.draws import check_model

__all__ = ["Group", "check_blocks", "check_call", "check_model_of", "check_state", "loop_is_the_callers"]

_NO_RATE = "MBLSR1 has no learning rate for a scheduler to change: its radius follows the ratio"


class Group(dict[str, Any]):
    """A parameter group, which says why it has no learning rate; a scheduler writes no key before it is told."""

    def __missing__(self, key: str) -> Any:
        why = f"; {_NO_RATE}" if "lr" in key else ""
        raise KeyError(f"param_groups: must be asked for {', '.join(self)}, got {key!r}{why}")

    def __setitem__(self, key: str, value: Any) -> None:
        if "lr" in key:
            raise ValueError(f"param_groups: must have no learning rate, got {key!r}; {_NO_RATE}")
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """As that of a dict; a learning rate is refused."""
        if key not in self:
            self[key] = default
        return self[key]


def check_model_of(parameters: list[Tensor], model: Any) -> None:
    """Raise an error where this is no module, or one that has other parameters."""
    check_model(model)
    own = set(map(id, model.parameters()))
    if own and not any(id(p) in own for p in parameters):
        raise ValueError(f"model: must be the module of these parameters, got a {type(model).__name__} that has none")


def check_blocks(blocks: Any) -> None:
    """Raise a TypeError where the parameters' shapes are neither to be used nor not."""
    if not isinstance(blocks, bool):
        raise TypeError(f"blocks: must be True or False, got {blocks!r}; shapes are for options=Options(blocks=...)")


def check_call(closure: Any, batch_size: Any) -> None:
    """Raise an error where a closure or the size of its batch is unusable."""
    if batch_size is not None:
        integer("batch_size", batch_size, 1)
    check_closure(closure)


def check_state(state_dict: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raise an error where this is no state of an MBLSR1 with parameters of these shapes."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: must be what state_dict() returned, got {type(state_dict).__name__}")
    if not {"state", "param_groups", "mblsr1"} <= set(state_dict):
        raise ValueError("state_dict: must be of an MBLSR1, which has a key 'mblsr1'; got " + ", ".join(state_dict))
    saved = state_dict["mblsr1"]
    if saved is None:
        return
    if not (isinstance(saved, Mapping) and {"shapes", "trained"} <= set(saved)):
        raise ValueError(f"state_dict: must be of this version of MBLSR1, got {saved!r:.60} under 'mblsr1'")
    found = [tuple(shape) for shape in saved["shapes"]]
    if len(found) == len(shapes) and found != shapes:
        raise ValueError(f"state_dict: must be of parameters of shapes {shapes}, got {found}")


def loop_is_the_callers(options: Options) -> Options:
    """The options, without those that only a driver can obey."""
    for name in ("averaging", "steps_per_batch"):
        if getattr(options, name) != getattr(Options(), name):
            raise ValueError(
                f"{name}: is left to your own loop here, must be {getattr(Options(), name)!r}, "
                f"got {getattr(options, name)!r}"
            )
    return options
