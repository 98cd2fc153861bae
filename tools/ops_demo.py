"""Embeds a tree into the plane, hyperbolic and Euclidean: the geometry alone, without OpenMMLab.

    make ops-demo

Both arms place the nodes of one tree so that distances between points follow distances in the
tree, by the same optimizer from the same initialization (each node in the sector of its parent, at
a radius that grows with its depth). The mean distortion of each is printed, and a picture written.
It takes less than a minute on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def binary_tree(depth: int) -> tuple[Tensor, Tensor]:
    """A complete binary tree.

    Args:
        depth: Number of edges from the root to a leaf.

    Returns:
        Parents ``(n - 1,)`` of the nodes 1 to n - 1, and the distances ``(n, n)`` in edges.
    """
    import torch

    from hyper_mm.layers.hyperbolic.embedding import tree_distances

    parents = torch.tensor([-1, *((node - 1) // 2 for node in range(1, 2 ** (depth + 1) - 1))])
    return parents[1:], tree_distances(parents)


def sectors(depth: int) -> Tensor:
    """Initial places ``(n, 2)``: a level on a circle, each node in the middle of its sector."""
    import torch

    places = []
    for level in range(depth + 1):
        angles = 2 * math.pi * (torch.arange(2**level) + 0.5) / 2**level
        places.append(0.5 * level * torch.stack([angles.cos(), angles.sin()], -1))
    return torch.cat(places)


def embed(tree: Tensor, initial: Tensor, hyperbolic: bool, steps: int) -> tuple[Tensor, float]:
    """Places the nodes of a tree in the plane.

    Args:
        tree: Distances ``(n, n)`` in the tree.
        initial: Places ``(n, 2)`` at first.
        hyperbolic: Whether the plane is the hyperbolic one of curvature -1.
        steps: Steps of the optimizer.

    Returns:
        Tangent vectors at the origin (or points) ``(n, 2)``, and the mean distortion
        ``|d / (scale d_tree) - 1|`` over all pairs; the scale is learned.
    """
    import torch

    from hyper_mm.ops import lorentz

    points = initial.clone().requires_grad_()
    log_scale = torch.zeros(1, requires_grad=True)  # length of an edge
    optimizer = torch.optim.Adam([points, log_scale], lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows, columns = torch.triu_indices(len(tree), len(tree), 1)
    for _ in range(steps):
        if hyperbolic:
            distances = lorentz.pairwise_dist_tangent0(points, points, c=1.0)[rows, columns]
        else:
            distances = (points[rows] - points[columns]).norm(dim=-1)
        distortion = (distances / (log_scale.exp() * tree[rows, columns]) - 1).abs().mean()
        optimizer.zero_grad()
        distortion.backward()
        optimizer.step()
        schedule.step()
    return points.detach(), distortion.item()


def draw(arms: dict[str, tuple[Tensor, float]], parents: Tensor, path: Path) -> None:
    """Draws the placed trees side by side, the hyperbolic one in the Poincare disk."""
    import matplotlib
    import torch

    from hyper_mm.ops import lorentz

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(arms), figsize=(5 * len(arms), 5))
    for axis, (name, (points, distortion)) in zip(axes, arms.items()):
        ends, starts = points[1:], points[parents]
        t = torch.linspace(0, 1, 24)[:, None, None]
        if name == 'hyperbolic':  # edges are geodesics
            starts, ends = lorentz.expmap0(starts, c=1.0), lorentz.expmap0(ends, c=1.0)
            edges = lorentz.expmap(starts, t * lorentz.logmap(starts, ends, c=1.0), c=1.0)
            edges = lorentz.to_poincare(edges, c=1.0)
            flat = lorentz.to_poincare(lorentz.expmap0(points, c=1.0), c=1.0)
            axis.add_patch(plt.Circle((0, 0), 1, fill=False, color='0.6'))
        else:
            flat, edges = points, starts + t * (ends - starts)
        axis.plot(edges[..., 0], edges[..., 1], color='0.7', linewidth=0.8, zorder=1)
        axis.scatter(flat[:, 0], flat[:, 1], s=12, color='C0', zorder=2)
        axis.scatter(*flat[0], s=40, color='C3', zorder=3)
        axis.set_title(f'{name}: mean distortion {distortion:.3f}')
        axis.set_aspect('equal')
        axis.axis('off')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches='tight')


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--depth', type=int, default=5, help='depth of the tree')
    parser.add_argument('--steps', type=int, default=1000)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ops_demo/tree.png'))
    args = parser.parse_args(argv)
    if args.depth < 1 or args.steps < 1:
        parser.error(f'--depth and --steps must be at least 1, got {args.depth} and {args.steps}')
    parents, tree = binary_tree(args.depth)
    arms = {}
    for name in ('Euclidean', 'hyperbolic'):
        started = time.perf_counter()
        arms[name] = embed(tree, sectors(args.depth), name == 'hyperbolic', args.steps)
        took = time.perf_counter() - started
        print(
            f'{name} plane, {len(tree)} nodes: mean distortion {arms[name][1]:.3f} ({took:.0f} s)'
        )
    draw(arms, parents, args.out)
    print(f'picture: {args.out}')


if __name__ == '__main__':
    main()
