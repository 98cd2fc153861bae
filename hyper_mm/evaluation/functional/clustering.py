"""Plain clustering, as a yardstick for learned hierarchies. Deterministic by its generator."""

from __future__ import annotations

import torch
from torch import Tensor

from hyper_mm.deprecation import renamed_arguments


def kmeans(
    points: Tensor,
    clusters: int,
    generator: torch.Generator,
    restarts: int = 5,
    iterations: int = 100,
) -> Tensor:
    """Lloyd's algorithm from k-means++ initializations; the best of several restarts.

    Args:
        points: Points ``(M, d)``, on the CPU.
        clusters: Clusters K.
        generator: Source of chance.
        restarts: Runs, of which the one with the least squared error wins.
        iterations: Most steps of a run; it ends early when no point moves.

    Returns:
        Centers ``(K, d)``.

    Raises:
        ValueError: If there are fewer points than clusters.
    """
    if len(points) < clusters:
        raise ValueError(f'points must be at least clusters={clusters}, got {len(points)}')
    best, least = None, float('inf')
    for _ in range(restarts):
        centers = _plus_plus(points, clusters, generator)
        owner = None
        for _ in range(iterations):
            distance, nearest = squared_distances(points, centers).min(1)
            if owner is not None and torch.equal(nearest, owner):
                break
            owner = nearest
            size = torch.bincount(owner, minlength=clusters)
            total = torch.zeros_like(centers).index_add_(0, owner, points)
            centers = total / size.clamp_min(1)[:, None]
            empty = (size == 0).nonzero().flatten()
            # an empty cluster starts anew at one of the points that fit worst
            centers[empty] = points[distance.topk(len(empty)).indices]
        error = squared_distances(points, centers).min(1).values.sum().item()
        if error < least:
            best, least = centers, error
    return best


@renamed_arguments(centres='centers')
def squared_distances(points: Tensor, centers: Tensor) -> Tensor:
    """Squared distances ``(M, K)`` of points ``(M, d)`` from centers ``(K, d)``."""
    cross = points @ centers.T
    square = points.square().sum(1, keepdim=True) + centers.square().sum(1)
    return (square - 2 * cross).clamp_min(0)


@renamed_arguments(centres='centers')
def ward_tree(centers: Tensor, sizes: Tensor, counts: tuple[int, ...]) -> Tensor:
    """Agglomerates clusters by Ward's criterion, and cuts the tree at given numbers of nodes.

    Args:
        centers: Centers ``(K, d)`` of the leaves.
        sizes: Points in each leaf ``(K,)``.
        counts: Nodes of each level, leaves first, not rising; ``counts[0]`` is K.

    Returns:
        Node of every leaf at every level, ``(L, K)``.
    """
    centers, sizes = centers.double().clone(), sizes.double().clamp_min(1e-6).clone()
    label = torch.arange(len(centers))
    alive = torch.ones(len(centers), dtype=torch.bool)
    cuts = []
    for count in counts:
        while int(alive.sum()) > count:
            rise = squared_distances(centers, centers) * (
                sizes[:, None] * sizes / (sizes[:, None] + sizes)
            )
            rise[~alive] = rise[:, ~alive] = float('inf')
            rise.fill_diagonal_(float('inf'))
            i, j = divmod(int(rise.argmin()), len(centers))
            total = sizes[i] + sizes[j]
            centers[i] = (sizes[i] * centers[i] + sizes[j] * centers[j]) / total
            sizes[i], alive[j] = total, False
            label[label == j] = i
        cuts.append(label.unique(return_inverse=True)[1])
    return torch.stack(cuts)


def _plus_plus(points: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    first = int(torch.randint(len(points), (1,), generator=generator))
    centers = [points[first]]
    nearest = squared_distances(points, points[first : first + 1]).squeeze(1)
    for _ in range(1, clusters):
        if nearest.sum() > 0:
            pick = int(torch.multinomial(nearest, 1, generator=generator))
        else:  # fewer distinct points than clusters
            pick = int(torch.randint(len(points), (1,), generator=generator))
        centers.append(points[pick])
        nearest = torch.minimum(
            nearest, squared_distances(points, points[pick : pick + 1]).squeeze(1)
        )
    return torch.stack(centers)
