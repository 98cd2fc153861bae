"""Losses that know a tree of labels. They work on the last dimension of any shape of logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_not_negative, check_positive
from ...ops.stable import unit
from .tree import Taxonomy

IGNORED = -1
"""Target of positions that do not count."""


class TreeSoftmax(nn.Module):
    r"""Hierarchical softmax: a softmax among the children of each node, multiplied along the path.

    .. math:: \log p(k) = \sum_{v \in \text{path}(k)} \Big(z_v
        - \log \sum_{u \in \text{siblings}(v)} e^{z_u}\Big)

    Its result are logits of the classes like any others: their softmax are the probabilities.

    Args:
        taxonomy: The tree.
    """

    def __init__(self, taxonomy: Taxonomy):
        super().__init__()
        self.num_nodes = taxonomy.num_nodes
        groups: dict[int, list[int]] = {}
        for node, parent in enumerate(taxonomy.parents):
            groups.setdefault(parent, []).append(node)
        width = max(map(len, groups.values()))
        padded = torch.full((len(groups), width), taxonomy.num_nodes)  # one past the end: -inf
        group_of = torch.zeros(taxonomy.num_nodes, dtype=torch.long)
        for row, nodes in enumerate(groups.values()):
            padded[row, : len(nodes)] = torch.tensor(nodes)
            group_of[nodes] = row
        self.siblings: Tensor
        self.group_of: Tensor
        self.inside: Tensor
        self.register_buffer('siblings', padded, persistent=False)
        self.register_buffer('group_of', group_of, persistent=False)
        inside = taxonomy.membership().float()
        self.register_buffer('inside', inside, persistent=False)

    def node_log_probs(self, nodes: Tensor) -> Tensor:
        """Log-probability ``(..., num_nodes)`` of each node given its parent."""
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        padded = F.pad(nodes, (0, 1), value=-torch.inf)[..., self.siblings]  # (..., groups, width)
        return nodes - padded.logsumexp(-1)[..., self.group_of]

    def forward(self, nodes: Tensor) -> Tensor:
        """Returns log-probabilities ``(..., K)`` of classes from logits ``(..., num_nodes)``."""
        found = self.node_log_probs(nodes)
        with torch.autocast(found.device.type, enabled=False):
            return found @ self.inside.to(found.dtype)


class TreeMinLoss(nn.Module):
    r"""Binary cross-entropy of all nodes that is consistent with the tree (tree-min loss).

    A node cannot be there without its ancestors, and is there if one below it is: with
    :math:`\sigma` the sigmoid of the logits ``z``, ancestors ``A`` and descendants ``D``, both with
    the node itself,

    .. math:: L = -\sum_v l_v \log \min_{u \in A_v} \sigma(z_u)
        + (1 - l_v) \log\big(1 - \max_{u \in D_v} \sigma(z_u)\big)

    Args:
        taxonomy: The tree.
        gamma: Exponent of the focal factor :math:`(1 - p)^\gamma` of each term; 0 for none.
        loss_weight: Factor of the loss.

    Source: Li et al., Deep Hierarchical Semantic Segmentation (CVPR 2022).
    """

    def __init__(self, taxonomy: Taxonomy, gamma: float = 0.0, loss_weight: float = 1.0):
        super().__init__()
        check_not_negative(gamma=gamma, loss_weight=loss_weight)
        self.gamma, self.loss_weight = gamma, loss_weight
        self.labels: Tensor
        self.above: Tensor
        self.register_buffer('labels', taxonomy.membership().T, persistent=False)  # (K, V)
        paths = [list(taxonomy.path(v)) for v in range(taxonomy.num_nodes)]
        width = max(map(len, paths))
        padded = [line + [v] * (width - len(line)) for v, line in enumerate(paths)]
        self.register_buffer('above', torch.tensor(padded), persistent=False)
        # of nodes with children, from the lowest up: they, and their children, padded by the first
        self.rounds = 0
        for inner, children in _from_below(paths):
            self.register_buffer(f'inner_{self.rounds}', torch.tensor(inner), persistent=False)
            most = max(map(len, children))
            table = [line + line[:1] * (most - len(line)) for line in children]
            self.register_buffer(f'children_{self.rounds}', torch.tensor(table), persistent=False)
            self.rounds += 1

    def consistent(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of nodes as seen from those that are there, and from those that are not.

        Returns:
            The least of the ancestors and the largest of the descendants, ``(..., num_nodes)``.
        """
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        least = nodes[..., self.above[:, 0]]
        for column in range(1, self.above.shape[1]):
            least = torch.minimum(least, nodes[..., self.above[:, column]])
        largest = nodes
        for k in range(self.rounds):
            inner, children = getattr(self, f'inner_{k}'), getattr(self, f'children_{k}')
            below = largest[..., children].amax(-1)
            largest = largest.index_copy(-1, inner, torch.maximum(nodes[..., inner], below))
        return least, largest

    def forward(self, nodes: Tensor, target: Tensor) -> Tensor:
        """Mean over positions of the sum over nodes.

        Args:
            nodes: Logits ``(n, num_nodes)``.
            target: Classes ``(n,)``; ``-1`` does not count.

        Returns:
            ``()``.
        """
        counted = target != IGNORED
        nodes, target = nodes[counted], target[counted]
        least, largest = self.consistent(nodes)
        there = self.labels.index_select(0, target)  # unlike [target], refuses negative classes
        loss = torch.where(there, F.softplus(-least), F.softplus(largest))
        if self.gamma:
            wrong = torch.where(there, torch.sigmoid(-least), torch.sigmoid(largest))
            loss = loss * wrong.pow(self.gamma)
        return self.loss_weight * loss.sum() / max(len(target), 1)


def _from_below(paths: list[list[int]]) -> list[tuple[list[int], list[list[int]]]]:
    """Nodes with children, and these, in rounds in which all children come before their parents.

    Args:
        paths: Of each node the line from itself to its top.
    """
    children: dict[int, list[int]] = {}
    height = [0] * len(paths)
    for node, line in sorted(enumerate(paths), key=lambda pair: -len(pair[1])):
        if len(line) > 1:
            parent = line[1]
            children.setdefault(parent, []).append(node)
            height[parent] = max(height[parent], height[node] + 1)
    found = []
    for level in sorted({height[node] for node in children}):
        inner = [node for node in children if height[node] == level]
        found.append((inner, [children[node] for node in inner]))
    return found


class PathLogits(nn.Module):
    r"""Logits of classes for the tree-min loss, :math:`\frac{1}{|P_k|} \sum_{v \in P_k}
    \log \sigma(z_v)` along the path ``P``.

    The paper takes the sum of the sigmoids and not of their logarithms, which no softmax can
    follow; the mean does not prefer short paths.

    Args:
        taxonomy: The tree.

    Source: Li et al., Deep Hierarchical Semantic Segmentation (CVPR 2022), inference.
    """

    def __init__(self, taxonomy: Taxonomy):
        super().__init__()
        self.num_nodes = taxonomy.num_nodes
        inside = taxonomy.membership().float()
        self.inside: Tensor
        self.register_buffer('inside', inside / inside.sum(0), persistent=False)

    def forward(self, nodes: Tensor) -> Tensor:
        """Returns logits ``(..., K)``, at most 0, of logits of nodes ``(..., num_nodes)``."""
        nodes = nodes if nodes.dtype == torch.float64 else nodes.float()
        with torch.autocast(nodes.device.type, enabled=False):
            return F.logsigmoid(nodes) @ self.inside.to(nodes.dtype)


class LevelLoss(nn.Module):
    r"""Cross-entropy at every level of the tree, from logits of the classes alone.

    .. math:: L = -\sum_d \alpha_d \log \sum_{k \in g_d(y)} p_k

    with the group of the true class at each depth ``d`` and the softmax ``p``.

    Args:
        taxonomy: The tree.
        decay: Weight of a level over that of the one below it; the classes have 1.
        loss_weight: Factor of the loss.
        leaves: Count the term of the classes themselves.

    Source: Bertinetto et al., Making Better Mistakes (CVPR 2020), in its marginal form.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        decay: float = 1.0,
        loss_weight: float = 1.0,
        leaves: bool = True,
    ):
        super().__init__()
        check_positive(decay=decay)
        check_not_negative(loss_weight=loss_weight)
        self.loss_weight = loss_weight
        self.weights = [decay**k for k in range(len(taxonomy.depths()) + 1)]
        if not leaves:
            self.weights[0] = 0.0
        groups = [taxonomy.at_depth(d)[0] for d in reversed(taxonomy.depths())]
        self.groups: Tensor
        table = torch.stack(groups) if groups else torch.zeros(0, taxonomy.num_classes).long()
        self.register_buffer('groups', table, persistent=False)  # (levels, K), lowest first

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over positions.

        Args:
            logits: ``(n, K)``.
            target: Classes ``(n,)``; ``-1`` does not count.

        Returns:
            ``()``.
        """
        counted = target != IGNORED
        logits, target = logits[counted], target[counted]
        log_p = (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
        total = log_p.gather(1, target[:, None]).sum() * self.weights[0]
        for weight, group in zip(self.weights[1:], self.groups):
            mine = group[target][:, None] == group  # (n, K)
            total = total + weight * log_p.masked_fill(~mine, -torch.inf).logsumexp(1).sum()
        return -self.loss_weight * total / max(len(target), 1)


class TreeTripletLoss(nn.Module):
    r"""Orders embeddings by the distances of their classes in the tree.

    .. math:: L = \big[\tfrac12 (1 - \cos(a, p)) - \tfrac12 (1 - \cos(a, n)) + m\big]_+,\qquad
        m = m_0 + \frac{t(a, n) - t(a, p)}{2 D}

    over random triplets whose class of ``p`` is nearer to that of ``a`` than that of ``n`` is, with
    the edges ``t`` between classes and the height ``D`` of the tree.

    Args:
        taxonomy: The tree.
        triplets: Number of triplets of a batch; those in which the distances are equal do not
            count.
        margin: ``m_0``.
        loss_weight: Factor of the loss.

    Source: Li et al., Deep Hierarchical Semantic Segmentation (CVPR 2022).
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        triplets: int = 2048,
        margin: float = 0.1,
        loss_weight: float = 1.0,
    ):
        super().__init__()
        check_positive(triplets=triplets)
        check_not_negative(margin=margin, loss_weight=loss_weight)
        self.triplets, self.margin, self.loss_weight = triplets, margin, loss_weight
        self.height = taxonomy.height
        self.distances: Tensor
        self.register_buffer('distances', taxonomy.distances(), persistent=False)

    def forward(self, embeddings: Tensor, target: Tensor) -> Tensor:
        """Mean over triplets; 0 where there is none.

        Args:
            embeddings: ``(n, d)``.
            target: Classes ``(n,)``; ``-1`` does not count.

        Returns:
            ``()``.
        """
        counted = target != IGNORED
        x, target = unit(embeddings[counted].float()), target[counted]
        if len(x) < 3:
            return embeddings.sum() * 0.0
        anchor, one, other = torch.randint(len(x), (3, self.triplets), device=x.device)
        near, far = (self.distances[target[anchor], target[i]] for i in (one, other))
        swap = near > far
        positive, negative = torch.where(swap, other, one), torch.where(swap, one, other)
        gap = (near - far).abs().float()
        margin = self.margin + gap / (2 * self.height)
        cosines = [(x[anchor] * x[i]).sum(1) for i in (positive, negative)]
        loss = ((cosines[1] - cosines[0]) / 2 + margin).clamp_min(0) * (gap > 0)
        return self.loss_weight * loss.sum() / (gap > 0).sum().clamp_min(1)
