"""LoRA, for comparison with HyperCLIP's adapter."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hyper_mm.layers.hyperclip.weight_updates import TOWERS, apply_lora
from hyper_mm.registry import MODELS


@MODELS.register_module()
class LoRAAdapter:
    """Low-rank updates of the q, k, v projections of every attention layer.

    The libraries' own (mmpretrain's ``LoRAModel``) wrap linear layers; CLIP's projections are one
    parameter of an attention layer, which they do not reach.

    Args:
        rank: Rank of each update.
        alpha: Scale of the updates; ``alpha / rank`` multiplies them.
        projections: Which of ``'q'``, ``'k'``, ``'v'``.
        towers: Which of ``'vision'`` and ``'text'``.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 8.0,
        projections: Sequence[str] = 'qkv',
        towers: Sequence[str] = TOWERS,
    ):
        self.options = dict(rank=rank, alpha=alpha, projections=projections, towers=towers)

    def attach(self, clip: nn.Module) -> None:
        """Inserts the updates; nothing else of the model trains.

        Args:
            clip: CLIP model of open_clip, changed in place.

        Raises:
            ValueError: For unknown towers or projections, or a tower without such a layer.
        """
        apply_lora(clip, **self.options)
