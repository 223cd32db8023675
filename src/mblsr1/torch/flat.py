"""The parameters of a module as one vector: views of one buffer where they can be, copies where not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["FlatParameters", "check_memory", "check_parameters", "trainable"]


def trainable(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Those that require a gradient and have an entry; a ValueError where a lazy module has not made its own yet."""
    if any(map(torch.nn.parameter.is_lazy, parameters)):
        raise ValueError("params: must have a shape, got one of a lazy module; call the module once before")
    return [p for p in parameters if p.requires_grad and p.numel()]


def check_parameters(parameters: Sequence[Any]) -> None:
    """Raise an error where they are not real, float32 or float64, of one dtype, dense, and on one device."""
    kinds = {(p.dtype, str(p.device)) for p in parameters}
    for p in parameters:
        if p.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"params: must be float32 or float64, got {p.dtype}; use autocast for half precision")
        if p.layout is not torch.strided or hasattr(p, "full_tensor"):
            raise TypeError(f"params: must be dense tensors of one process, got {type(p).__name__}, {p.layout}")
    for i, what in enumerate(("dtype", "device")):
        found = sorted({str(kind[i]) for kind in kinds})
        if len(found) > 1:
            raise ValueError(f"params: must have one {what}, got {', '.join(found)}")


def check_memory(parameters: Sequence[Tensor]) -> None:
    """Raise an error where two parameters have an entry in common: as parts of one vector they would be two."""
    in_storage: dict[tuple[Any, ...], list[Tensor]] = {}
    for p in parameters:
        if p.layout is torch.strided and type(p.data) is torch.Tensor and p.numel() and p.device.type != "meta":
            in_storage.setdefault((p.dtype, str(p.device), p.untyped_storage().data_ptr()), []).append(p)
    for together in in_storage.values():
        spans = sorted(map(_span, together))
        if any(start < end for (_, end), (start, _) in itertools.pairwise(spans)):
            _check_entries(together)


def _span(p: Tensor) -> tuple[int, int]:
    """First byte and the one after the last, of those in between which may be others'."""
    entries = 1 + sum((n - 1) * stride for n, stride in zip(p.shape, p.stride(), strict=True))
    start: int = p.storage_offset() * p.element_size()
    return start, start + entries * p.element_size()


def _check_entries(together: list[Tensor]) -> None:
    """Raise an error where two tensors of one storage have an entry in common."""
    places = torch.arange(together[0].untyped_storage().nbytes() // together[0].element_size())
    taken = torch.zeros(places.shape, dtype=torch.bool)
    for p in together:
        own = places.as_strided(p.shape, p.stride(), p.storage_offset()).reshape(-1)
        if taken[own].any():
            raise ValueError(
                f"params: must have memory of their own, got two that share it, one of shape {tuple(p.shape)}; "
                "to tie them, make them one Parameter"
            )
        taken[own] = True


class _Place(NamedTuple):
    """A parameter and its part of the buffer, in its own shape; a view where the two share memory."""

    parameter: Tensor
    part: Tensor
    is_view: bool


class FlatParameters:
    """Parameters as one vector.

    Each parameter becomes a view of the buffer, so that to write the buffer is to set it. One that is not
    contiguous, or whose memory others may share, stays where it is and is copied.

    Parameters
    ----------
    parameters : list of tensors
        All of them require a gradient.
    before : FlatParameters, optional
        Whose views they may be.
    """

    def __init__(self, parameters: list[Tensor], before: FlatParameters | None = None) -> None:
        check_parameters(parameters)
        self.parameters = parameters
        self.shapes = [tuple(p.shape) for p in parameters]
        self.buffer = torch.cat([p.detach().reshape(-1) for p in parameters])
        parts = self.buffer.split([p.numel() for p in parameters])
        self._places = [
            _Place(p, part.view(p.shape), _is_alone(p) or (before is not None and _is_in(p, before.buffer)))
            for p, part in zip(parameters, parts, strict=True)
        ]
        self._loaded: Tensor | None = None
        for place in self._places:
            if place.is_view:
                place.parameter.data = place.part

    def is_of(self, parameters: list[Tensor]) -> bool:
        """Whether these are the parameters, of the same dtype, shape and device as before."""
        same = len(parameters) == len(self.parameters) and all(map(_is, parameters, self.parameters))
        return same and all(
            p.dtype == self.buffer.dtype and p.device == self.buffer.device and tuple(p.shape) == shape
            for p, shape in zip(parameters, self.shapes, strict=True)
        )

    def settle(self) -> bool:
        """Take what the caller has put in the place of a view, and make it a view again; whether there was any."""
        apart = [place for place in self._places if not _shares(place)]
        if any(place.is_view for place in apart):
            check_memory(self.parameters)
        for place in apart:
            place.part.copy_(place.parameter.detach())
            if place.is_view:
                place.parameter.data = place.part
        return any(place.is_view for place in apart)

    def start(self) -> Tensor:
        """The vector as it is: a copy, to which a step can go back."""
        self._loaded = self.buffer.clone()
        return self._loaded

    def load(self, w: Tensor) -> None:
        """Set the parameters to w, unless they are."""
        if w is self._loaded:
            return
        self.buffer.copy_(w)
        for place in self._places:
            if not _shares(place):
                place.parameter.detach().copy_(place.part)
        self._loaded = w

    def give_back(self) -> None:
        """Let each view be a parameter with memory of its own again."""
        for place in self._places:
            if _shares(place):
                place.parameter.data = place.part.clone()

    def release(self) -> None:
        """Forget which vector was loaded last, so that its memory is free."""
        self._loaded = None

    def clear_gradient(self) -> None:
        """Drop the gradients."""
        for p in self.parameters:
            p.grad = None

    @property
    def has_gradient(self) -> bool:
        """Whether any parameter has a gradient."""
        return any(p.grad is not None for p in self.parameters)

    def gradient(self) -> Tensor:
        """The gradients as a new vector; zero where a parameter has none."""
        for p in self.parameters:
            if p.grad is not None and p.grad.layout is not torch.strided:
                raise TypeError(
                    f"gradient: must be dense, got {p.grad.layout} for a parameter of shape {tuple(p.shape)}"
                )
        return torch.cat([p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self.parameters])

    def changes(self) -> list[int]:
        """How often each parameter was changed in place, as far as torch counts it."""
        return [p._version for p in self.parameters]


def _is(a: Tensor, b: Tensor) -> bool:
    return a is b


def _is_alone(p: Tensor) -> bool:
    """Whether a parameter has contiguous memory that nothing else is known to use."""
    shared = p.device.type == "cpu" and p.is_shared()
    whole = p.untyped_storage().nbytes() == p.numel() * p.element_size()
    return p.is_contiguous() and whole and not shared and type(p.data) is torch.Tensor


def _is_in(p: Tensor, buffer: Tensor) -> bool:
    return bool(p.is_contiguous() and p.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr())


def _shares(place: _Place) -> bool:
    return place.is_view and bool(place.parameter.data_ptr() == place.part.data_ptr())
