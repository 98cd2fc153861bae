"""Tensors of all processes of a distributed run."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def gather_batch(x: Tensor) -> tuple[Tensor, int]:
    """Concatenates the batches of all processes; those of the others come without gradient.

    All processes must call it together. Batches may differ in length.

    Args:
        x: Batch of this process ``(B, ...)``.

    Returns:
        The batches of all processes ``(sum(B_r), ...)``, in the order of their ranks, and where
        that of this process begins. Outside of a distributed run ``x`` itself, and 0.
    """
    world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if world == 1:
        return x, 0
    count = torch.tensor([len(x)], device=x.device)
    counts = [torch.zeros_like(count) for _ in range(world)]
    dist.all_gather(counts, count)
    lengths = [int(c) for c in counts]
    own = x.detach()
    padded = F.pad(own.flatten(1), (0, 0, 0, max(lengths) - len(x))).contiguous()
    found = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(found, padded)
    parts = [part[:n].view(n, *x.shape[1:]) for part, n in zip(found, lengths)]
    rank = dist.get_rank()
    parts[rank] = x
    return torch.cat(parts), sum(lengths[:rank])
