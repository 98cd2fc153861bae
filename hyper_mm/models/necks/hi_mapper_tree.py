"""Hi-Mapper whose tree the task teaches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hyper_mm.models.necks.hi_mapper import HiMapper
from hyper_mm.registry import MODELS


@MODELS.register_module()
class HiMapperTree(HiMapper):
    r"""Hi-Mapper that also classifies every position by the means of the tree alone.

    In training, one level of words is added to the pyramid for each level of the tree,

    .. math:: w_l[m] = \operatorname{LN}\big(\textstyle\sum_n A_l[n, m]\, \mu_l[n]\big),

    made of the assignment ``A`` and the tree's own means, which are the same in all images. An
    auxiliary head on each, with 1x1 weights, makes the nodes of every level tell classes apart: a
    node comes to mean the same in all images, and the nodes of a level share the classes among
    them. (The features of a node are free to mean something else in every image; a head on them
    teaches the assignment less.) Not in the paper.

    The initialization is a tree already: a leaf is the sum of one random vector for itself and for
    each of its ancestors, so that the nodes of a family are near each other.

    Args:
        in_channels: See :class:`HiMapper`; all levels must be of one width for the words to be
            stacked with them.
        spread: Standard deviation of each of these random vectors.
        tree: See :class:`HiMapper`.
        **kwargs: Arguments of :class:`HiMapper`.

    Raises:
        ValueError: If ``spread`` is not positive, or with an inner ``neck``, which would take the
            words for levels of the image.

    Example:
        >>> neck = dict(type='hyper_mm.HiMapperTree', in_channels=192, competition=True)
        >>> word = dict(type='FCNHead', in_channels=192, channels=192, num_convs=0, ...)
        >>> auxiliary_head = [dict(**word, in_index=4 + k) for k in range(4)]
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        spread: float = 0.75,
        tree: dict | None = None,
        **kwargs,
    ):
        if kwargs.get('neck') is not None:
            raise ValueError(f'HiMapperTree takes no inner neck, got neck={kwargs["neck"]}')
        tree = dict(init='tree', spread=spread) | (tree or {})
        super().__init__(in_channels, tree=tree, **kwargs)
        self.with_assignment = True
        count, dim = len(self.mapper.tree.nodes), self.mapper.tree.mu.shape[1]
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(count))

    def forward(self, inputs: Sequence[Tensor | Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Enriches one level of a feature pyramid; see :class:`HiMapper`.

        Returns:
            The levels ``(B, C, H, W)``, and in training the words ``(B, d, H, W)`` of each level of
            the tree, leaves first.
        """
        levels, found = self.enrich(inputs)
        if not self.training:
            return levels
        size, moments = levels[self.level].shape[-2:], self.mapper.tree.moments()
        words = [
            norm(share.to(mean.dtype).mT @ mean)
            for norm, share, (mean, _) in zip(self.norms, found.assignment, moments)
        ]
        return (*levels, *(word.mT.unflatten(-1, size) for word in words))
