"""Reading and comparing golden vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class Golden:
    """Arrays of one golden file as tensors; a missing key is an error, never a skip.

    Args:
        path: The ``.npz`` file.
        dtype: Dtype of the floating point arrays.
    """

    def __init__(self, path: Path, dtype: torch.dtype = torch.float64):
        self._arrays = dict(np.load(path))
        self._dtype = dtype

    def __getitem__(self, key: str) -> Tensor:
        tensor = torch.from_numpy(np.asarray(self._arrays[key]))
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor

    def exact(self, key: str) -> Tensor:
        """The array in float64, whatever the dtype of the run."""
        tensor = torch.from_numpy(np.asarray(self._arrays[key]))
        return tensor.double() if tensor.is_floating_point() else tensor

    def keys(self) -> list[str]:
        """Names of the arrays."""
        return list(self._arrays)

    def state_dict(self, prefix: str = 'sd.') -> dict[str, Tensor]:
        """The weights, under their official names."""
        return {k[len(prefix) :]: self[k] for k in self._arrays if k.startswith(prefix)}


def relative(value: Tensor, reference: Tensor) -> float:
    """Largest error relative to the reference, entry by entry; 0/0 counts as 0."""
    error = (value.detach().double() - reference.double()).abs()
    return (error / reference.double().abs()).nan_to_num(0.0, posinf=float('inf')).max().item()


def absolute(value: Tensor, reference: Tensor) -> float:
    """Largest absolute error."""
    return (value.detach().double() - reference.double()).abs().max().item()


def of_max(value: Tensor, reference: Tensor) -> float:
    """Largest absolute error relative to the largest entry of the reference."""
    return absolute(value, reference) / max(reference.double().abs().max().item(), 1e-300)


def by_row(value: Tensor, reference: Tensor) -> float:
    """Largest error of a row relative to the length of the reference row; 0/0 counts as 0."""
    error = (value.detach().double() - reference.double()).norm(dim=-1)
    error = error / reference.double().norm(dim=-1)
    return error.nan_to_num(0.0, posinf=float('inf')).max().item()


def rounding(
    function: Callable[[], Sequence[Tensor]], tensors: Sequence[Tensor], trials: int = 16
) -> list[float]:
    """What one rounding to float32 of all arguments changes: eps times the condition.

    A few dozen roundings in a row, as a layer makes, change some multiple of it.

    Args:
        function: Function of ``tensors`` in float64, which are changed in place and set back.
        tensors: Its arguments.
        trials: How often.

    Returns:
        For each result, the largest change relative to its largest entry, in all trials, and at
        least eps.
    """
    eps = torch.finfo(torch.float32).eps
    exact, kept = [y.detach() for y in function()], [t.detach().clone() for t in tensors]
    found = [eps] * len(exact)
    for _ in range(trials):
        with torch.no_grad():
            for tensor in tensors:
                tensor *= 1 + eps * (2 * torch.rand_like(tensor) - 1)
        found = [max(f, of_max(y, e)) for f, y, e in zip(found, function(), exact)]
        with torch.no_grad():
            for tensor, value in zip(tensors, kept):
                tensor.copy_(value)
    return found
