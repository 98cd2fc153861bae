r"""Low frequencies of images: reading their amplitudes and mixing in those of another image.

Only the centered square of :math:`(2b + 1)^2` coefficients is ever computed, by two small matrix
products (:math:`O(b H W)`) in float64: no transform of the whole image.

Source: Liu et al., FedDG, CVPR 2021, section 3.2. In its Eq. 2 the factor (1 - M) belongs to the
spectrum of the image itself, as the authors have confirmed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ['amplitude_mix', 'half_size', 'low_amplitude']


def half_size(band: float, height: int, width: int) -> int:
    """Half-size b of the square of mixed coefficients, ``floor(band * min(height, width))``.

    Args:
        band: Share of the spectrum, in [0, 0.5); the paper's L.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        b; 0 means that only the mean of each channel changes (official code; any band below
        ``1 / min(height, width)``).

    Raises:
        ValueError: If ``band`` is out of range.
    """
    if not 0 <= band < 0.5:
        raise ValueError(f'band must be in [0, 0.5), got {band}')
    return math.floor(band * min(height, width))


def _waves(size: int, half: int, device: torch.device) -> Tensor:
    """``exp(-2 pi i u y / size)`` for u = -half ... half, ``(2 half + 1, size)``."""
    if not 0 <= 2 * half < size:
        raise ValueError(f'half must be at least 0 and below {size / 2} for {size} pixels: {half}')
    u = torch.arange(-half, half + 1, dtype=torch.float64, device=device)
    y = torch.arange(size, dtype=torch.float64, device=device)
    angle = -2 * math.pi / size * torch.outer(u, y).remainder(size)
    return torch.polar(torch.ones_like(angle), angle)


def _low_spectrum(x: Tensor, half: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centered coefficients over the number of pixels, and the waves of rows and of columns."""
    height, width = x.shape[-2:]
    rows, columns = (_waves(n, half, x.device) for n in (height, width))
    return rows @ x.to(rows.dtype) @ columns.mT / (height * width), rows, columns


def low_amplitude(x: Tensor, half: int) -> Tensor:
    """Amplitudes of the low frequencies, over the number of pixels.

    Args:
        x: Images ``(..., H, W)``.
        half: Half-size b of the square, below half of each side.

    Returns:
        Amplitudes ``(..., 2b + 1, 2b + 1)`` of the shifted spectrum, float64. Over the number of
        pixels, so that images of different sizes compare: the middle one is the absolute mean.

    Raises:
        ValueError: If the image is too small.
    """
    return _low_spectrum(x, half)[0].abs()


def amplitude_mix(x: Tensor, amplitude: Tensor, lam: float | Tensor) -> Tensor:
    r"""Moves the low-frequency amplitudes of images towards given ones, and keeps the phase.

    .. math:: A' = (1 - \lambda) A + \lambda A_n \text{ within the square}, \qquad
        t = x + \operatorname{Re} \mathcal F^{-1}[\lambda (A_n - A)\, e^{i \phi}]

    Args:
        x: Images ``(..., H, W)``.
        amplitude: Amplitudes A_n of :func:`low_amplitude`, ``(..., 2b + 1, 2b + 1)``.
        lam: Interpolation, 0 keeps the image; broadcasts with ``amplitude``.

    Returns:
        Images ``(..., H, W)``, not clipped, of the dtype of ``x`` or, for integers, float32.

    Raises:
        ValueError: If ``amplitude`` is no square of odd size or the image is too small for it.
    """
    size = amplitude.shape[-1]
    if amplitude.ndim < 2 or size != amplitude.shape[-2] or size % 2 == 0:
        raise ValueError(
            f'amplitude must have shape (..., 2b + 1, 2b + 1), got {tuple(amplitude.shape)}'
        )
    spectrum, rows, columns = _low_spectrum(x, size // 2)
    change = lam * (amplitude - spectrum.abs())
    change = torch.polar(torch.ones_like(spectrum.real), spectrum.angle()) * change
    update = (rows.conj().mT @ change @ columns.conj()).real
    dtype = x.dtype if x.is_floating_point() else torch.float32
    return (x + update).to(dtype)
