"""Other ways to train fused q, k, v projections, which adapters are compared with."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ..common.saved_options import SavedOptions
from .adapted_weight import Adapted, adapt

PROJECTIONS = ('q', 'k', 'v')
TOWERS = ('vision', 'text')


class LowRankUpdate(SavedOptions, nn.Module):
    """LoRA of a fused projection: ``W + alpha / rank B A`` for each of its parts (Hu et al., 2022).

    B is initialized to zero, so that the layer is unchanged at initialization.

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

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved factors depend on."""
        return dict(scale=self.scale, projections=_names(self.places))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, ``(3 d, d)``."""
        parts = list(weight.chunk(3))
        for place, update in zip(self.places, self.scale * self.up @ self.down):
            parts[place] = (parts[place] + update).to(weight.dtype)
        return torch.cat(parts)


class TrainedParts(SavedOptions, nn.Module):
    """Trains some parts of a fused projection and keeps the others as they are.

    Args:
        weight: The projection ``(3 d, d)``, from which the initial values are computed.
        projections: Which of ``'q'``, ``'k'``, ``'v'`` are trained.

    Raises:
        ValueError: If a projection is unknown or none is given.
    """

    def __init__(self, weight: Tensor, projections: Sequence[str] = 'qv') -> None:
        super().__init__()
        self.places = _places(projections)
        parts = weight.detach().chunk(3)
        self.parts = nn.Parameter(torch.stack([parts[place] for place in self.places]))

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved parts depend on."""
        return dict(projections=_names(self.places))

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
    found = _fused(model)
    if not found:
        raise ValueError(
            f'{type(model).__name__} has no torch.nn.MultiheadAttention with a fused projection'
        )
    return found


def _fused(model: nn.Module) -> dict[str, nn.MultiheadAttention]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and module._qkv_same_embed_dim
    }


def _check_plain(layers: dict[str, nn.MultiheadAttention]) -> None:
    for name, module in layers.items():
        if isinstance(module, Adapted) or is_parametrized(module):
            raise ValueError(f'{name} of the model has an adapter already')


def tower_attentions(
    model: nn.Module, towers: Sequence[str] = TOWERS
) -> dict[str, dict[str, nn.MultiheadAttention]]:
    """Attention layers with fused projections of the towers of a CLIP model.

    The vision tower is what lies below ``visual``; the text tower is the text encoder, below
    ``text`` or ``transformer``. A model without ``visual`` is a vision tower.

    Args:
        model: A CLIP model, or any module with attention layers.
        towers: Which of ``'vision'`` and ``'text'``.

    Returns:
        Layers by name in the model, by tower; the text tower is left out of a model without
        ``visual``.

    Raises:
        ValueError: If one of the towers has no such layer, so that it could not be adapted, or has
            an adapter already.
    """
    wrong = set(towers) - set(TOWERS)
    if wrong or not towers:
        raise ValueError(f'towers must be some of {TOWERS}, got {towers!r}')
    if not hasattr(model, 'visual'):
        every = fused_attentions(model)
        if 'vision' not in towers:
            raise ValueError(
                f"{type(model).__name__} has no 'visual', so it is a vision tower by itself; "
                f"towers must name 'vision', got {tuple(towers)}"
            )
        _check_plain(every)
        return {'vision': every}
    every = _fused(model)
    places = dict(vision='visual.', text='')
    places['text'] = next((f'{n}.' for n in ('text', 'transformer') if hasattr(model, n)), '')
    found = {
        tower: {
            name: module
            for name, module in every.items()
            if name.startswith(places[tower]) and (tower == 'vision') == name.startswith('visual.')
        }
        for tower in TOWERS
    }
    for tower in towers:
        if not found[tower]:
            others = tuple(other for other in TOWERS if found[other])
            advice = f'towers={others} adapts that one alone' if others else 'nor has the other'
            part = getattr(model, places[tower].rstrip('.'), model)
            raise ValueError(
                f'the {tower} tower of {type(model).__name__} ({_kind(part)}) has no '
                'torch.nn.MultiheadAttention with a fused projection, which is what is adapted; '
                f"{advice}; models with open_clip's own transformers, such as ViT-B-16, have both"
            )
        _check_plain(found[tower])
    known = {name for tower in TOWERS for name in found[tower]}
    rest = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and name not in known
    ]
    if rest:
        warnings.warn(
            f'{len(rest)} attention layers of {type(model).__name__} are not adapted, since they '
            f'are no self-attention of its towers: {_short(rest)}',
            stacklevel=2,
        )
    return {tower: found[tower] for tower in TOWERS if tower in towers}


def _kind(part: nn.Module) -> str:
    """Class of a tower, with that of the network that it wraps."""
    trunk = getattr(part, 'trunk', None) or getattr(part, 'transformer', None)
    wrapped = f' of {type(trunk).__name__}' if isinstance(trunk, nn.Module) else ''
    return type(part).__name__ + wrapped


def _short(names: Sequence[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more


def _names(places: Sequence[int]) -> str:
    return ''.join(PROJECTIONS[place] for place in places)


def train_parts(
    model: nn.Module, projections: Sequence[str] = 'qv', towers: Sequence[str] = TOWERS
) -> None:
    """Trains parts of every fused projection, and nothing else of a model.

    Args:
        model: Changed in place.
        projections: Which of ``'q'``, ``'k'``, ``'v'``.
        towers: See :func:`tower_attentions`.

    Raises:
        ValueError: See :func:`tower_attentions`.
    """
    found = tower_attentions(model, towers)
    _places(projections)  # reports a bad argument before anything is changed
    model.requires_grad_(False)
    for attention in _all(found):
        adapt(attention, 'in_proj_weight', TrainedParts(attention.in_proj_weight, projections))


def apply_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 8.0,
    projections: Sequence[str] = 'qkv',
    towers: Sequence[str] = TOWERS,
) -> None:
    """Trains low-rank updates of every fused projection, and nothing else of a model.

    Args:
        model: Changed in place.
        rank: See :class:`LowRankUpdate`.
        alpha: The same.
        projections: The same.
        towers: See :func:`tower_attentions`.

    Raises:
        ValueError: See :class:`LowRankUpdate` and :func:`tower_attentions`.
    """
    updates = {
        attention: LowRankUpdate(attention.embed_dim, rank, alpha, projections)
        for attention in _all(tower_attentions(model, towers))
    }
    model.requires_grad_(False)
    for attention, update in updates.items():
        adapt(attention, 'in_proj_weight', update.to(attention.in_proj_weight.device))


def _all(found: dict[str, dict[str, nn.MultiheadAttention]]) -> list[nn.MultiheadAttention]:
    return [attention for layers in found.values() for attention in layers.values()]
