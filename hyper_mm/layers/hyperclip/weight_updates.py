"""Other ways to train fused q, k, v projections, by parametrisation: adapters compete with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PROJECTIONS = ('q', 'k', 'v')


class LowRankUpdate(nn.Module):
    """LoRA of a fused projection: ``W + alpha / rank B A`` for each of its parts (Hu et al., 2022).

    B starts at zero, so the layer starts as it was.

    Args:
        width: Width d of the attention layer, whose weight is ``(3 d, d)``.
        rank: Rank of the update of each part.
        alpha: Scale of the updates.
        projections: Which of ``'q'``, ``'k'``, ``'v'`` are updated.

    Raises:
        ValueError: If the rank is not in 1..d, or a projection is unknown or none is given.
    """

    def __init__(
        self, width: int, rank: int = 8, alpha: float = 8.0, projections: Sequence[str] = 'qkv'
    ) -> None:
        super().__init__()
        if not 1 <= rank <= width:
            raise ValueError(f'rank must lie in 1..{width}, got {rank}')
        self.places = _places(projections)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(len(self.places), rank, width))
        self.up = nn.Parameter(torch.zeros(len(self.places), width, rank))
        nn.init.uniform_(self.down, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, ``(3 d, d)``."""
        parts = list(weight.chunk(3))
        for place, update in zip(self.places, self.scale * self.up @ self.down):
            parts[place] = parts[place] + update
        return torch.cat(parts)


class TrainedParts(nn.Module):
    """Trains some parts of a fused projection and keeps the others as they are.

    Args:
        weight: The projection ``(3 d, d)``, which gives the initial values.
        projections: Which of ``'q'``, ``'k'``, ``'v'`` are trained.

    Raises:
        ValueError: If a projection is unknown or none is given.
    """

    def __init__(self, weight: Tensor, projections: Sequence[str] = 'qv') -> None:
        super().__init__()
        self.places = _places(projections)
        parts = weight.detach().chunk(3)
        self.parts = nn.Parameter(torch.stack([parts[place] for place in self.places]))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its trained parts, ``(3 d, d)``."""
        parts = list(weight.chunk(3))
        for place, part in zip(self.places, self.parts):
            parts[place] = part
        return torch.cat(parts)


def _places(projections: Sequence[str]) -> list[int]:
    """Numbers of the parts."""
    wrong = set(projections) - set(PROJECTIONS)
    if wrong or not projections:
        raise ValueError(f'projections must be some of {PROJECTIONS}, got {projections!r}')
    return [i for i, name in enumerate(PROJECTIONS) if name in projections]


def fused_attentions(model: nn.Module) -> dict[str, nn.MultiheadAttention]:
    """Attention layers with fused q, k, v projections, by name.

    Args:
        model: Any module.

    Raises:
        ValueError: If there is none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
    }
    if not found:
        raise ValueError(
            f'{type(model).__name__} has no torch.nn.MultiheadAttention with a fused projection'
        )
    return found


def train_parts(model: nn.Module, projections: Sequence[str] = 'qv') -> None:
    """Trains parts of every fused projection, and nothing else of a model.

    Args:
        model: Changed in place.
        projections: Which of ``'q'``, ``'k'``, ``'v'``.
    """
    model.requires_grad_(False)
    for attention in fused_attentions(model).values():
        parts = TrainedParts(attention.in_proj_weight, projections)
        parametrize.register_parametrization(attention, 'in_proj_weight', parts)


def apply_lora(
    model: nn.Module, rank: int = 8, alpha: float = 8.0, projections: Sequence[str] = 'qkv'
) -> None:
    """Trains low-rank updates of every fused projection, and nothing else of a model.

    Args:
        model: Changed in place.
        rank: See :class:`LowRankUpdate`.
        alpha: The same.
        projections: The same.
    """
    model.requires_grad_(False)
    for attention in fused_attentions(model).values():
        weight = attention.in_proj_weight
        update = LowRankUpdate(attention.embed_dim, rank, alpha, projections).to(weight)
        parametrize.register_parametrization(attention, 'in_proj_weight', update)
