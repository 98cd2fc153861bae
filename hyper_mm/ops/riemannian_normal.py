r"""The Riemannian normal distribution: its density depends on the distance to the mean alone.

.. math:: p(x) = \frac{1}{Z} \exp\!\Big(-\frac{d(x, \mu)^2}{2 \sigma^2}\Big),\qquad
    Z = \frac{2 \pi^{d/2}}{\Gamma(d/2)} \int_0^\infty e^{-r^2 / 2 \sigma^2}
    \Big(\frac{\sinh(\sqrt c\, r)}{\sqrt c}\Big)^{d - 1} dr

with respect to the Riemannian volume. The Frechet mean is the maximum-likelihood estimate of
``mu``. Distances from the mean grow with dimension and curvature, and are not of the order of
``sigma`` alone.

Source: Said et al., Gaussian Distributions on Riemannian Symmetric Spaces (IEEE Trans. Inf. Theory
2017); Mathieu et al., Continuous Hierarchical Representations with Poincare VAEs (NeurIPS 2019).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import lorentz, poincare
from .inputs import Curvature, check_curvature, per_point, upcast, wide_sqrt, widen
from .stable import log_sinhc, unit
from .wrapped_normal import check_same_space, check_sample_shape, check_values_of_std

__all__ = [
    'lorentz_riemannian_log_prob',
    'lorentz_riemannian_sample',
    'poincare_riemannian_log_prob',
    'poincare_riemannian_sample',
    'riemannian_log_normalizer',
]


def _gauss_legendre(num: int) -> tuple[list[float], list[float]]:
    """Nodes and weights on [-1, 1], of the eigenvectors of the recurrence (Golub and Welsch)."""
    k = torch.arange(1, num, dtype=torch.float64)
    beside = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes.tolist(), (2 * vectors[0].square()).tolist()


_POINTS, _WEIGHTS = _gauss_legendre(96)
_REACH = 10.0
"""Standard deviations around the mode that the quadrature covers."""


def _check_std(std: float | Tensor) -> Tensor:
    """Standard deviations in float64."""
    check_values_of_std(std)
    if isinstance(std, Tensor):
        return widen(std)
    return torch.tensor(std, dtype=torch.float64)


def _log_radial(rho: Tensor, s: Tensor, dim: int) -> Tensor:
    """Logarithm of the density of the scaled radius, without its constant."""
    log_sinh = rho.clamp_min(1e-300).log() + log_sinhc(rho)
    return (dim - 1) * log_sinh - (rho / s).square() / 2


@torch.no_grad()
def _mode(s: Tensor, dim: int) -> Tensor:
    """The most frequent scaled radius: ``rho tanh(rho) = (d - 1) s^2``, by Newton's method."""
    k = (dim - 1) * s.square()
    rho = torch.maximum(k, k.sqrt()).clamp_min(1e-150)  # below the root; the function is convex
    for _ in range(30):
        tanh = rho.tanh()
        rho = rho - (rho * tanh - k) / (tanh + rho * (1 - tanh.square())).clamp_min(1e-150)
    return rho


def riemannian_log_normalizer(std: float | Tensor, dim: int, c: Curvature) -> Tensor:
    r"""Logarithm of ``Z``.

    In closed form for one to three dimensions, with :math:`s = \sqrt c\, \sigma` for two

    .. math:: Z = \frac{(2 \pi)^{3/2}}{2 c}\, s\, e^{s^2 / 2} \operatorname{erf}\frac{s}{\sqrt 2}

    and by Gauss-Legendre quadrature around the mode of the radius for more: the integrand is
    log-concave and between ``s / sqrt(2)`` and ``s`` wide, so that a fixed number of nodes has ten
    digits for any ``s`` and ``dim``.

    Args:
        std: ``sigma``, a length: a number, or a tensor ``(...)``.
        dim: Dimension ``d``.
        c: Curvature: float, or a tensor that broadcasts with ``(..., 1)``.

    Returns:
        ``(...)`` in float64; gradients flow to ``std`` and ``c``.

    Raises:
        ValueError: If ``std`` is not positive (of a tensor on an accelerator or in compiled code,
            values are not read), or ``dim`` is below 1.
    """
    if dim < 1:
        raise ValueError(f'dim must be at least 1, got {dim}')
    std = _check_std(std)
    root = per_point(wide_sqrt(c if isinstance(c, Tensor) else check_curvature(c)))
    s = root * std
    scale = -dim * (root.log() if isinstance(root, Tensor) else math.log(root))
    if dim == 1:
        return math.log(2 * math.pi) / 2 + s.log() + scale
    if dim == 2:
        found = s.log() + s.square() / 2 + torch.erf(s / math.sqrt(2)).log()
        return found + 1.5 * math.log(2 * math.pi) - math.log(2) + scale
    if dim == 3:
        square = 2 * s.square()
        found = s.log() + square + (-torch.expm1(-square)).log()
        return found + 1.5 * math.log(2 * math.pi) - math.log(2) + scale
    points, weights = (torch.tensor(x, dtype=s.dtype, device=s.device) for x in (_POINTS, _WEIGHTS))
    mode, reach = _mode(s, dim), _REACH * s.detach()
    low = (mode - reach).clamp_min(0)
    half = (mode + reach - low) / 2
    rho = low.unsqueeze(-1) + half.unsqueeze(-1) * (points + 1)
    log_terms = _log_radial(rho, s.unsqueeze(-1), dim) + weights.log()
    sphere = math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)
    return log_terms.logsumexp(-1) + half.log() + sphere + scale


def _radii(std: Tensor, shape: tuple[int, ...], dim: int, root, generator) -> Tensor:
    """Distances from the mean, by rejection.

    The logarithm of the density is more concave than that of a normal of the same ``s`` around its
    mode, which therefore lies above it; seven tenths of the draws or more are kept.
    """
    s = (root * std.detach()).expand(shape).reshape(-1)
    mode = _mode(s, dim)
    peak = _log_radial(mode, s, dim)
    # where squares of the deviation overflow no draw would be kept: distances are infinite
    found, open_ = torch.full_like(mode, torch.inf), (mode + peak).isfinite()
    while open_.any():
        at, width = mode[open_], s[open_]
        noise = torch.randn(at.shape, dtype=at.dtype, device=at.device, generator=generator)
        rho = (at + width * noise).abs() if dim == 1 else at + width * noise
        log_ratio = _log_radial(rho.clamp_min(1e-300), width, dim) - peak[open_]
        log_ratio = log_ratio + noise.square() / 2
        draw = torch.rand(at.shape, dtype=at.dtype, device=at.device, generator=generator)
        kept = (rho > 0) & ((draw.log() < log_ratio) | (dim == 1))
        chosen = open_.nonzero().squeeze(1)[kept]
        found[chosen], open_[chosen] = rho[kept], False
    return found.view(shape) / root


def lorentz_riemannian_sample(
    mean: Tensor,
    std: float | Tensor,
    c: Curvature,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draws points of the hyperboloid; gradients flow to ``mean``, and not to ``std``.

    Args:
        mean: Means ``(..., d)``.
        std: ``sigma``, a length: a number, or a tensor that broadcasts with ``(...)``.
        c: Curvature.
        sample_shape: Draws of each mean.
        generator: Source of random numbers.

    Returns:
        Points ``(*sample_shape, ..., d)``.

    Raises:
        TypeError: If ``sample_shape`` is no tuple of integers.
        ValueError: If ``std`` is not positive (of a tensor on an accelerator or in compiled code,
            values are not read).
    """
    (mean,) = upcast(mean)
    root = per_point(wide_sqrt(check_curvature(c, mean)))
    root = root.detach() if isinstance(root, Tensor) else root
    wide, std = widen(mean), _check_std(std).to(mean.device)
    check_sample_shape(sample_shape)
    shape, dim = (*sample_shape, *mean.shape), mean.shape[-1]
    direction = torch.randn(shape, dtype=wide.dtype, device=wide.device, generator=generator)
    radius = _radii(std, shape[:-1], dim, root, generator)
    v = radius.unsqueeze(-1) * unit(direction)
    return lorentz.expmap(wide, lorentz.transport0(wide, v, c), c).to(mean.dtype)


def lorentz_riemannian_log_prob(
    x: Tensor, mean: Tensor, std: float | Tensor, c: Curvature
) -> Tensor:
    """Log-density with respect to the Riemannian volume.

    Args:
        x: Points ``(..., d)``.
        mean: Means ``(..., d)``, broadcast with ``x``.
        std: ``sigma``, a length: a number, or a tensor that broadcasts with ``(...)``.
        c: Curvature.

    Returns:
        Log-densities ``(...)``, accumulated in float64 and returned in the inputs' dtype.

    Raises:
        ValueError: If ``std`` is not positive (of a tensor on an accelerator or in compiled code,
            values are not read), or shapes do not fit.
    """
    x, mean = upcast(x, mean)
    check_same_space(x, mean)
    check_curvature(c, x, mean)
    distance = lorentz.dist(widen(x), widen(mean), c)
    return _log_prob(distance, std, x, c)


def _log_prob(distance: Tensor, std: float | Tensor, x: Tensor, c: Curvature) -> Tensor:
    sigma = _check_std(std).to(x.device)
    density = -(distance / sigma).square() / 2
    return (density - riemannian_log_normalizer(sigma, x.shape[-1], c)).to(x.dtype)


def poincare_riemannian_sample(
    mean: Tensor,
    std: float | Tensor,
    c: Curvature,
    sample_shape: tuple[int, ...] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """As :func:`lorentz_riemannian_sample`, in the ball.

    Args:
        mean: Means, points of the ball ``(..., d)``.
        std: ``sigma``, a length.
        c: Curvature.
        sample_shape: Draws of each mean.
        generator: Source of random numbers.

    Returns:
        Points of the ball ``(*sample_shape, ..., d)``.
    """
    (mean,) = upcast(mean)
    wide = poincare.to_lorentz(widen(mean), c)
    found = lorentz_riemannian_sample(wide, std, c, sample_shape, generator)
    return lorentz.to_poincare(found, c).to(mean.dtype)


def poincare_riemannian_log_prob(
    x: Tensor, mean: Tensor, std: float | Tensor, c: Curvature
) -> Tensor:
    """As :func:`lorentz_riemannian_log_prob`, of points of the ball.

    Args:
        x: Points of the ball ``(..., d)``.
        mean: Means ``(..., d)``, broadcast with ``x``.
        std: ``sigma``, a length.
        c: Curvature.

    Returns:
        Log-densities ``(...)``; NaN outside the ball.
    """
    x, mean = upcast(x, mean)
    check_same_space(x, mean)
    check_curvature(c, x, mean)
    return _log_prob(poincare.dist(widen(x), widen(mean), c), std, x, c)
