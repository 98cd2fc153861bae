"""Token embedding on the hyperboloid (HELM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_range
from ...deprecation import renamed_arguments
from ...ops import lorentz
from ...ops.inputs import upcast
from ...ops.stable import unit


class LorentzEmbedding(nn.Module):
    """Table of points, stored by their space components: any optimizer keeps them there.

    The official code has a manifold parameter with an optimizer of its own, or (1B) a projected
    one, which is this.

    Args:
        num_embeddings: Size of the vocabulary.
        embed_dims: Space dimensions.
        curvature: Curvature ``c`` at initialization, for the initial points.
        distance: Distance of the initial points to the origin.
        gain: Fixed factor between the table and the space components of points; see
            :func:`.initialization.gain_of`. The points at initialization do not depend on it.

    Raises:
        ValueError: If a size, the distance or the gain is not positive.
    """

    @renamed_arguments(dims='embed_dims')
    def __init__(
        self,
        num_embeddings: int,
        embed_dims: int,
        curvature: float = 1.0,
        distance: float = 1.0,
        gain: float = 1.0,
    ):
        super().__init__()
        check_range('(0, inf)', distance=distance, gain=gain)
        if num_embeddings < 1 or embed_dims < 1:
            raise ValueError(
                'num_embeddings and embed_dims must be positive, got '
                f'{num_embeddings}, {embed_dims}'
            )
        self.gain = gain
        self.weight = nn.Parameter(torch.empty(num_embeddings, embed_dims))
        nn.init.normal_(self.weight)
        with torch.no_grad():
            self.weight.copy_(lorentz.expmap0(distance * unit(self.weight), curvature) / gain)

    def forward(self, ids: Tensor) -> Tensor:
        """Looks up points.

        Args:
            ids: Integers ``(...)``; see :func:`check_ids`.

        Returns:
            Points ``(..., embed_dims)``.

        Raises:
            ValueError: If an id is outside the vocabulary.
        """
        check_ids(ids, len(self.weight))
        points = F.embedding(ids, self.weight)
        return points if self.gain == 1 else upcast(points)[0] * self.gain

    def extra_repr(self) -> str:
        return f'gain={self.gain:g}'


def check_ids(ids: Tensor, vocab_size: int, name: str = 'ids') -> None:
    """Checks token ids.

    Args:
        ids: Integers of any shape. Their range is checked on the CPU alone: reading it would stall
            an accelerator, which has an assertion of its own.
        vocab_size: Size of the vocabulary.
        name: What the messages call them.

    Raises:
        TypeError: If they are not integers.
        ValueError: If one is outside ``0 .. vocab_size - 1``.
    """
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise TypeError(f'{name} must be integers, got {ids.dtype}')
    if ids.device.type == 'cpu' and ids.numel():
        low, high = ids.min().item(), ids.max().item()
        if low < 0 or high >= vocab_size:
            raise ValueError(f'{name} must be 0 to {vocab_size - 1}, got {low} to {high}')
