"""What is spelled as in the official code of Hi-Mapper, for parity alone."""

from __future__ import annotations

import torch
from torch import Tensor


def official_expmap0(u: Tensor) -> Tensor:
    r"""The exponential map of the official Hi-Mapper code, for parity only.

    It takes element 0 as a time part (:math:`r^2 = -u_0^2 + \sum_i u_i^2`), clamps the radius at
    1.5 and ignores the curvature; the loss then reads all its numbers as space components.

    Args:
        u: Lifted nodes ``(..., d)``.

    Returns:
        ``(..., d)``.
    """
    norm = (u[..., 1:].square().sum(-1, keepdim=True) - u[..., :1].square()).clamp_min(1e-9).sqrt()
    short = norm.clamp_max(1.5)
    out = short.sinh() * u / norm
    return torch.cat([out[..., :1] + short.cosh(), out[..., 1:]], -1)
