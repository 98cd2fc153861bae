"""Hi-Mapper's contrastive loss between the levels of a hierarchy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...checks import check_positive


class HierarchicalContrastiveLoss(nn.Module):
    r"""Pulls nodes to their parent and pushes the nodes of a level apart.

    For node ``i`` of level ``l`` with parent ``p(i)``, distances ``d``, temperature ``tau``:

    .. math:: L = \sum_{l<L} w_l\, \operatorname*{mean}_{b, i} -\log \frac{e^{s\, d(i, p(i))/\tau}}
        {e^{s\, d(i, p(i))/\tau} + \sum_{j \ne i} e^{s\, d(i, j)/\tau}},\qquad s = -1

    The formula and the code of the paper have ``s = +1``, which pushes parents away and collapses
    the level (to NaN in the official code), the opposite of what its text and figures say.

    Nodes that are the same in every image minimize this. With ``across_images`` the sum in the
    denominator also has the same node of the other images of the batch,
    :math:`\sum_{b' \ne b} e^{s\, d(h_{b, i}, h_{b', i})/\tau}`, so that a node has to look at its
    image (not in the paper).

    Args:
        sign: ``s``.
        tau: Temperature.
        include_positive: Keep the positive in the denominator (the paper's formula does not).
        level_weights: ``w_l`` of the level pairs, leaves first; 1 if None.
        across_images: Take the same node of other images as negatives.

    Raises:
        ValueError: If ``sign`` is not -1 or 1, or ``tau`` not positive.
    """

    def __init__(
        self,
        sign: int = -1,
        tau: float = 1.0,
        include_positive: bool = True,
        level_weights: tuple[float, ...] | None = None,
        across_images: bool = False,
    ):
        super().__init__()
        if sign not in (-1, 1):
            raise ValueError(f'sign must be -1 or 1, got {sign}')
        check_positive(tau=tau)
        self.scale = sign / tau
        self.include_positive = include_positive
        self.level_weights = level_weights
        self.across_images = across_images

    def weights_of(self, num_levels: int) -> tuple[float, ...]:
        """Returns the weights of the pairs of neighboring levels.

        Raises:
            ValueError: If ``level_weights`` do not fit.
        """
        if self.level_weights is None:
            return (1.0,) * (num_levels - 1)
        if len(self.level_weights) != num_levels - 1:
            raise ValueError(
                f'level_weights must have {num_levels - 1} entries, one for each pair of levels, '
                f'got {self.level_weights}'
            )
        return tuple(self.level_weights)

    def per_level(
        self, distances: Tensor, nodes: tuple[int, ...], across: tuple[Tensor, Tensor] | None = None
    ) -> list[Tensor]:
        """The terms of the sum before weighting.

        Args:
            distances: Distances of all nodes of all levels ``(B, sum(N_l), sum(N_l))``.
            nodes: Nodes of each level, leaves first.
            across: See :meth:`forward`.

        Returns:
            A 0-dimensional tensor for each pair of levels.
        """
        # level l has the rows start:start + N_l; node i of it has the parent i // (N_l / N_{l+1})
        terms, start = [], 0
        for count, parents in zip(nodes, nodes[1:]):
            level = slice(start, start + count)
            rows = distances[:, level]  # (B, N_l, sum(N_l))
            above = start + count + torch.arange(count, device=rows.device) // (count // parents)
            positive = self.scale * rows.gather(2, above.expand(len(rows), -1).unsqueeze(-1))
            # (B, N_l, N_l) within the level; the diagonal, the distance of a node from itself, is
            # replaced by the positive: one logsumexp over the last dimension is the denominator
            own = torch.eye(count, dtype=torch.bool, device=rows.device)
            logits = self.scale * rows[..., level]
            logits = torch.where(own, positive if self.include_positive else -math.inf, logits)
            if across is not None:
                to_others, is_other = across
                others = self.scale * to_others[:, level]  # (B, N_l, K)
                others = others.masked_fill(~is_other.unsqueeze(1), -math.inf)
                logits = torch.cat([logits, others], -1)
            terms.append((logits.logsumexp(-1) - positive.squeeze(-1)).mean())
            start += count
        return terms

    def forward(
        self, distances: Tensor, nodes: tuple[int, ...], across: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Computes the loss.

        Args:
            distances: Distances of all nodes of all levels ``(B, sum(N_l), sum(N_l))``.
            nodes: Nodes of each level, leaves first.
            across: Distances of the nodes but the top ones to the same node of ``K`` images
                ``(B, sum(N_l) - N_L, K)``, and which of these images ``(B, K)`` are others.

        Returns:
            A 0-dimensional tensor.

        Raises:
            ValueError: If ``level_weights`` do not fit the levels.
        """
        weights = self.weights_of(len(nodes))
        terms = [w * t for w, t in zip(weights, self.per_level(distances, nodes, across))]
        return torch.stack(terms).sum() if terms else distances.new_zeros(())
