"""Questions to gradients that rounding must not answer."""

from __future__ import annotations

import torch
from torch import nn


def dead_parameters(module: nn.Module) -> set[str]:
    """Parameters without a gradient, or with one that is zero in exact arithmetic.

    What rounding leaves of a zero is around 1e-16 of the largest gradient in float64.

    Args:
        module: In float64, after a backward pass.
    """
    gradients = {name: p.grad for name, p in module.named_parameters()}
    found = [g for g in gradients.values() if g is not None]
    assert all(g.dtype == torch.float64 and g.isfinite().all() for g in found)
    least = 1e-13 * max(g.abs().max() for g in found)
    return {name for name, g in gradients.items() if g is None or g.abs().max() < least}
