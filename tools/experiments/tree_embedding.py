r"""Embeds a tree with several parameterizations and optimizers: distortion, mAP and time.

    python tools/experiments/tree_embedding.py --seeds 3

Every arm minimizes the mean squared relative error of the distances to the numbers of edges, over
all pairs of nodes of a balanced tree, for the same number of steps. The learning rate is the one of
the grid with the lowest loss at seed 99, which is not reported.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


ARMS = ('flat, Adam', 'tangent, Adam', 'tangent, SGD', 'ambient, RAdam', 'ambient, RSGD')


def flat_embedding(num: int, dim: int, spread: float) -> nn.Module:
    """Points of the plane, with ``pairwise()``, their distances ``(num, num)``."""
    import torch
    from torch import nn

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(spread * torch.randn(num, dim))

        def pairwise(self) -> Tensor:
            apart = self.weight[:, None] - self.weight
            return (apart.square().sum(-1) + 1e-12).sqrt()

    return Flat()


def balanced_tree(branching: int, depth: int) -> Tensor:
    """Parents ``(n,)`` of a tree whose nodes have the same number of children."""
    import torch

    parents, level = [-1], [0]
    for _ in range(depth):
        new = []
        for node in level:
            for _ in range(branching):
                new.append(len(parents))
                parents.append(node)
        level = new
    return torch.tensor(parents)


def embed(arm: str, hops: Tensor, dim: int, rate: float, seed: int, steps: int) -> dict:
    """Trains one arm: loss, distortion, precision and seconds."""
    import torch

    from hyper_mm.layers import HyperbolicEmbedding
    from hyper_mm.layers.hyperbolic.embedding import embedding_quality
    from hyper_mm.riemannian import AmbientEmbedding, riemannian_optimizer

    torch.manual_seed(seed)
    kind, optimizer_name = arm.split(', ')
    num = len(hops)
    makers = {
        'flat': lambda: flat_embedding(num, dim, 0.1),
        'tangent': lambda: HyperbolicEmbedding(num, dim, spread=0.1),
        'ambient': lambda: AmbientEmbedding(num, dim, spread=0.1),
    }
    model = makers[kind]()
    if optimizer_name.startswith('R'):
        name = 'adam' if optimizer_name == 'RAdam' else 'sgd'
        optimizer = riemannian_optimizer(model.parameters(), name, rate)
    else:
        optimizer = getattr(torch.optim, optimizer_name)(model.parameters(), rate)
    rows, columns = torch.triu_indices(num, num, 1)
    target = hops[rows, columns]
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model.pairwise()[rows, columns] / target - 1).square().mean()
        if optimizer_name.endswith('SGD'):
            loss = loss * num  # a rate that does not depend on the number of nodes
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    distances = model.pairwise().detach()
    loss = (distances[rows, columns] / target - 1).square().mean().item()
    distortion, precision = embedding_quality(distances, hops)
    if not math.isfinite(loss):
        loss = math.inf
    return dict(loss=loss, distortion=distortion, mAP=100 * precision, ms=1e3 * seconds / steps)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--branching', type=int, default=3)
    parser.add_argument('--depth', type=int, default=4)
    parser.add_argument('--dims', type=int, nargs='+', default=[2, 5])
    parser.add_argument('--rates', type=float, nargs='+', default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--seeds', type=int, default=3)
    args = parser.parse_args(arguments)
    import torch

    from hyper_mm.layers.hyperbolic.embedding import tree_distances

    torch.set_num_threads(1)
    hops = tree_distances(balanced_tree(args.branching, args.depth))
    print(f'{len(hops)} nodes, {args.steps} steps\n')
    print('| dim | arm | rate | distortion | mAP, % | ms a step |\n|---|---|---|---|---|---|')
    for dim in args.dims:
        for arm in ARMS:
            tuned = {r: embed(arm, hops, dim, r, 99, args.steps)['loss'] for r in args.rates}
            rate = min(tuned, key=tuned.__getitem__)
            runs = [embed(arm, hops, dim, rate, s, args.steps) for s in range(args.seeds)]
            cells = []
            for field, digits in (('distortion', 4), ('mAP', 1), ('ms', 2)):
                values = [run[field] for run in runs]
                error = statistics.stdev(values) / math.sqrt(len(values)) if len(runs) > 1 else 0
                cells.append(f'{statistics.mean(values):.{digits}f} +- {error:.{digits}f}')
            print(f'| {dim} | {arm} | {rate:g} | {" | ".join(cells)} |', flush=True)


if __name__ == '__main__':
    main()
