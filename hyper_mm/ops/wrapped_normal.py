r"""The wrapped normal distribution: normal tangent vectors at the origin, carried to the mean.

.. math:: v \sim \mathcal N(0, \operatorname{diag} \sigma^2),\qquad
    x = \exp_\mu\!\big(P_{0 \to \mu}(v)\big),\qquad
    \log p(x) = \log \mathcal N(v; 0, \sigma^2)
    - (d - 1) \log \frac{\sinh(\sqrt c \lVert v \rVert)}{\sqrt c \lVert v \rVert}

with respect to the Riemannian volume. Standard deviations are lengths, in both models: a vector of
length 1 in the ball's tangent space at the origin is half as long in its coordinates.

Source: Nagano et al., A Wrapped Normal Distribution on Hyperbolic Space (ICML 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import lorentz, poincare
from .inputs import Curvature, check_curvature, is_readable, per_point, upcast, wide_sqrt, widen
from .stable import log_sinhc, safe_norm

__all__ = [
    'lorentz_wrapped_log_prob',
    'lorentz_wrapped_sample',
    'poincare_wrapped_log_prob',
    'poincare_wrapped_sample',
]


def check_values_of_std(std: float | Tensor) -> None:
    """Refuses standard deviations that are not positive and finite.

    The values of a tensor are read where that is possible at once: on a processor, in eager code.

    Raises:
        TypeError: If it is neither a number nor a tensor.
        ValueError: If a value is refused.
    """
    if isinstance(std, bool) or not isinstance(std, (int, float, Tensor)):
        raise TypeError(f'std must be a number or a tensor, got {type(std).__name__}')
    if not isinstance(std, Tensor):
        values: tuple[float, ...] = (std,)
    elif is_readable(std):
        low, high = std.detach().aminmax()
        values = (low.item(), high.item())
    else:
        values = ()
    for value in values:
        if not 0 < value < math.inf:
            raise ValueError(f'std must be positive and finite, got {value}')


def check_sample_shape(sample_shape: object) -> None:
    """Refuses what is no tuple of integers of at least 0.

    Raises:
        TypeError: As said.
    """
    if not isinstance(sample_shape, (tuple, list)) or not all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in sample_shape
    ):
        raise TypeError(
            f'sample_shape must be a tuple of integers, such as (5,), got {sample_shape!r}'
        )


def check_same_space(x: Tensor, mean: Tensor) -> None:
    """Refuses points and means of different dimensions, and shapes that do not broadcast.

    Raises:
        ValueError: As said.
    """
    sizes = zip(reversed(x.shape), reversed(mean.shape))
    if x.shape[-1:] != mean.shape[-1:] or any(a != b and 1 not in (a, b) for a, b in sizes):
        raise ValueError(
            'x and mean must have the same last dimension and broadcast with each other, got '
            f'shapes {tuple(x.shape)} and {tuple(mean.shape)}'
        )


def _check_std(std: float | Tensor, like: Tensor) -> Tensor:
    """Standard deviations as a tensor that broadcasts with ``(..., d)``."""
    check_values_of_std(std)
    if not isinstance(std, Tensor):
        return torch.full((1,), std, dtype=like.dtype, device=like.device)
    if std.ndim and std.shape[-1] not in (1, like.shape[-1]):
        raise ValueError(
            f'std must be 0-dimensional or end in 1 or {like.shape[-1]} numbers a point, got shape '
            f'{tuple(std.shape)}'
        )
    return std


def lorentz_wrapped_sample(
    mean: Tensor,
    std: float | Tensor,
    c: Curvature,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws points of the hyperboloid; gradients flow to ``mean``, ``std`` and ``c``.

    Args:
        mean: Means ``(..., d)``.
        std: Standard deviations, lengths: a number, or a tensor that broadcasts with ``(..., d)``.
        c: Curvature.
        sample_shape: Draws of each mean.
        generator: Source of random numbers.

    Returns:
        Points ``(*sample_shape, ..., d)``.

    Raises:
        TypeError: If ``sample_shape`` is no tuple of integers.
        ValueError: If ``std`` is not positive (of a tensor on an accelerator or in compiled code,
            values are not read), or of the wrong shape.
    """
    (mean,) = upcast(mean)
    std = _check_std(std, mean)
    check_sample_shape(sample_shape)
    shape = (*sample_shape, *mean.shape)
    noise = torch.randn(shape, dtype=mean.dtype, device=mean.device, generator=generator)
    v = widen(std * noise)
    wide = widen(mean)
    return lorentz.expmap(wide, lorentz.transport0(wide, v, c), c).to(mean.dtype)


def lorentz_wrapped_log_prob(x: Tensor, mean: Tensor, std: float | Tensor, c: Curvature) -> Tensor:
    """Log-density with respect to the Riemannian volume.

    Args:
        x: Points ``(..., d)``.
        mean: Means ``(..., d)``, broadcast with ``x``.
        std: Standard deviations, lengths: a number, or a tensor that broadcasts with ``(..., d)``.
        c: Curvature.

    Returns:
        Log-densities ``(...)``, accumulated in float64 and returned in the inputs' dtype.

    Raises:
        ValueError: If ``std`` is not positive (of a tensor on an accelerator or in compiled code,
            values are not read), or a shape does not fit.
    """
    x, mean = upcast(x, mean)
    check_same_space(x, mean)
    root = per_point(wide_sqrt(check_curvature(c, x, mean)))
    std = widen(_check_std(std, x))
    a, b = widen(x), widen(mean)
    v = lorentz.transport_to0(b, lorentz.logmap(b, a, c), c)
    dim = v.shape[-1]
    normal = -((v / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2).sum(-1)
    return (normal - (dim - 1) * log_sinhc(root * safe_norm(v))).to(x.dtype)


def poincare_wrapped_sample(
    mean: Tensor,
    std: float | Tensor,
    c: Curvature,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """As :func:`lorentz_wrapped_sample`, in the ball.

    Args:
        mean: Means ``(..., d)``, points of the ball.
        std: Standard deviations, lengths.
        c: Curvature.
        sample_shape: Draws of each mean.
        generator: Source of random numbers.

    Returns:
        Points of the ball ``(*sample_shape, ..., d)``.
    """
    (mean,) = upcast(mean)
    std = _check_std(std, mean)
    check_sample_shape(sample_shape)
    shape = (*sample_shape, *mean.shape)
    noise = torch.randn(shape, dtype=mean.dtype, device=mean.device, generator=generator)
    wide = widen(mean)
    v = poincare.transport0(wide, widen(std * noise) / 2, c)
    return poincare.expmap(wide, v, c).to(mean.dtype)


def poincare_wrapped_log_prob(x: Tensor, mean: Tensor, std: float | Tensor, c: Curvature) -> Tensor:
    """As :func:`lorentz_wrapped_log_prob`, of points of the ball.

    Args:
        x: Points of the ball ``(..., d)``.
        mean: Means ``(..., d)``, points of the ball.
        std: Standard deviations, lengths.
        c: Curvature.

    Returns:
        Log-densities ``(...)`` with respect to the Riemannian volume; NaN outside the ball.
    """
    x, mean = upcast(x, mean)
    check_same_space(x, mean)
    a, b = poincare.to_lorentz(widen(x), c), poincare.to_lorentz(widen(mean), c)
    return lorentz_wrapped_log_prob(a, b, std, c).to(x.dtype)
