"""Where the geometry of this package and of others stops to be finite, or is wrong.

    python tools/benchmarks/geometry_stress.py

Pairs of tangent vectors on one line through the origin, without any rounding in them, so that the
distance of their points is known: ``|s|`` for the points at signed radii ``r`` and ``r + s``. The
grid runs through precision, curvature, dimension, radius and distance. Each library maps the
vectors to its model by its own exponential map at the origin, takes the distance of the points, and
maps the first one back. Counted are the pairs for which a value or a gradient is not finite, and
those with a finite result that is off by more than a percent.

Peers: geoopt and HypLL where they are installed; the formulas as one writes them, with ``sinh`` and
``acosh``; and the same with clamps as in MERU (radius of at most ``asinh(2**15)``, ``acosh`` of at
least ``1 + 1e-8``). Where their rounding leaves nothing of a distance (``exp(r)`` times
the unit roundoff), no formula on them is right; a point of the ball beyond a scaled radius of 17
(float32) or 37 (float64) rounds to its boundary.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from timing import note

if TYPE_CHECKING:
    import torch
    from torch import Tensor

DTYPES = ('float32', 'float64')
CURVATURES = (1e-2, 1.0, 1e2)
DIMS = (4, 64, 256)
"""Even powers of two, so that a unit vector of equal entries is exact."""
RADII = (0.0, 1e-20, 1e-6, 1e-3, 1.0, 3.0, 6.0, 10.0, 20.0, 40.0)
"""Scaled: times the square root of the curvature."""
STEPS = (0.0, 1e-8, 1e-3, 1.0)
"""From one point to the other, scaled; beside these, the other point is the opposite one."""


class Count(NamedTuple):
    """Results of one library."""

    pairs: int
    infinite_value: int
    infinite_gradient: int
    wrong_distance: int
    wrong_return: int


class Peer(NamedTuple):
    """One library: maps at the origin and the distance, each of tensors and the curvature."""

    expmap0: Callable[[Tensor, float], Tensor]
    logmap0: Callable[[Tensor, float], Tensor]
    dist: Callable[[Tensor, Tensor, float], Tensor]


def pairs(dtype: torch.dtype, c: float, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tangent vectors of all pairs of a cell of the grid, and their true distances.

    Args:
        dtype: Precision of the vectors; distances are float64.
        c: Curvature.
        dim: Width of the vectors.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    grid = [(r, r + s) for r, s in itertools.product(RADII, STEPS)] + [(r, -r) for r in RADII]
    first, second = torch.tensor(grid, dtype=torch.float64).mul(c**-0.5).unbind(1)
    signs = torch.randint(2, (len(grid), dim), generator=generator) * 2 - 1
    first, second = first.to(dtype), second.to(dtype)
    v, w = (r[:, None] * signs * dim**-0.5 for r in (first, second))  # without any rounding
    return v, w, (first.double() - second.double()).abs()


def ours() -> Peer:
    """The Lorentz model of this package."""
    from hyper_mm.ops import lorentz

    return Peer(lorentz.expmap0, lorentz.logmap0, lorentz.dist)


def ours_ball() -> Peer:
    """The Poincare ball of this package; the metric there is twice the Euclidean one at 0."""
    from hyper_mm.ops import poincare

    return Peer(
        lambda v, c: poincare.expmap0(v / 2, c),
        lambda x, c: 2 * poincare.logmap0(x, c),
        poincare.dist,
    )


def ours_tangent() -> Peer:
    """Distances of points from their tangent vectors."""
    from hyper_mm.ops import lorentz

    return Peer(lambda v, c: v, lambda v, c: v, lorentz.dist_tangent0)


def formulas(clamped: bool) -> Peer:
    """The formulas as they are written down, in space components.

    Args:
        clamped: With clamps that keep most results finite.
    """

    def expmap0(v: Tensor, c: float) -> Tensor:
        r = c**0.5 * v.norm(dim=-1, keepdim=True)
        if clamped:
            r = r.clamp_min(1e-8)
            return r.clamp(max=math.asinh(2**15)).sinh() * v / r
        return r.sinh() * v / r

    def time(x: Tensor, c: float) -> Tensor:
        return (1 / c + x.square().sum(-1)).sqrt()

    def logmap0(x: Tensor, c: float) -> Tensor:
        cosh = c**0.5 * time(x, c)[..., None]
        distance = (cosh.clamp_min(1 + 1e-8) if clamped else cosh).acosh()
        r = c**0.5 * x.norm(dim=-1, keepdim=True)
        return distance * x / (r.clamp_min(1e-8) if clamped else r)

    def dist(x: Tensor, y: Tensor, c: float) -> Tensor:
        inner = (x * y).sum(-1) - time(x, c) * time(y, c)
        cosh = -c * inner
        return (cosh.clamp_min(1 + 1e-8) if clamped else cosh).acosh() / c**0.5

    return Peer(expmap0, logmap0, dist)


def geoopt_lorentz() -> Peer:
    """The Lorentz model of geoopt, in ambient points."""
    import geoopt
    import torch

    def space(c: float, like: Tensor):
        return geoopt.Lorentz(k=torch.tensor(1 / c, dtype=like.dtype))

    def expmap0(v: Tensor, c: float) -> Tensor:
        return space(c, v).expmap0(torch.cat([torch.zeros_like(v[..., :1]), v], -1))

    return Peer(
        expmap0,
        lambda x, c: space(c, x).logmap0(x)[..., 1:],
        lambda x, y, c: space(c, x).dist(x, y),
    )


def geoopt_ball() -> Peer:
    """The Poincare ball of geoopt."""
    import geoopt

    return Peer(
        lambda v, c: geoopt.PoincareBall(c).to(v.dtype).expmap0(v / 2),
        lambda x, c: 2 * geoopt.PoincareBall(c).to(x.dtype).logmap0(x),
        lambda x, y, c: geoopt.PoincareBall(c).to(x.dtype).dist(x, y),
    )


def hypll_ball() -> Peer:
    """HypLL's Poincare ball."""
    import torch
    from hypll.manifolds.poincare_ball import Curvature, PoincareBall
    from hypll.tensors import ManifoldTensor, TangentTensor

    def ball(c: float) -> PoincareBall:
        return PoincareBall(Curvature(c, constraining_strategy=lambda value: value))

    def expmap0(v: Tensor, c: float) -> Tensor:
        space = ball(c)
        return space.expmap(TangentTensor(v / 2, None, space)).tensor

    def logmap0(x: Tensor, c: float) -> Tensor:
        space = ball(c)
        return 2 * space.logmap(None, ManifoldTensor(x, space)).tensor

    def dist(x: Tensor, y: Tensor, c: float) -> Tensor:
        space = ball(c)
        return space.dist(ManifoldTensor(x, space), ManifoldTensor(y, space)).to(torch.float64)

    return Peer(expmap0, logmap0, dist)


def peers() -> dict[str, Peer]:
    """All that can be compared here."""
    found = {
        'hyper_mm.ops.lorentz': ours(),
        'hyper_mm.ops.lorentz.dist_tangent0': ours_tangent(),
        'hyper_mm.ops.poincare': ours_ball(),
        'the formulas': formulas(False),
        'the formulas, clamped': formulas(True),
    }
    if importlib.util.find_spec('geoopt'):
        found |= {'geoopt Lorentz': geoopt_lorentz(), 'geoopt PoincareBall': geoopt_ball()}
    if importlib.util.find_spec('hypll'):
        found['HypLL PoincareBall'] = hypll_ball()
    return found


def bad_rows(x: Tensor) -> Tensor:
    """Rows that hold what is not finite."""
    return ~x.reshape(len(x), -1).isfinite().all(-1)


def measure(peer: Peer, dtype: torch.dtype, c: float, dim: int) -> Count:
    """Counts the failures of one library in one cell of the grid."""
    v, w, true = pairs(dtype, c, dim)
    v.requires_grad_(), w.requires_grad_()
    x, y = peer.expmap0(v, c), peer.expmap0(w, c)
    distance, back = peer.dist(x, y, c), peer.logmap0(x, c)
    value = bad_rows(x) | bad_rows(y) | bad_rows(distance) | bad_rows(back)
    gradient = value.new_zeros(())
    for result in (distance, back):
        v.grad = w.grad = None
        result.sum().backward(retain_graph=True)
        gradient = gradient | bad_rows(v.grad)
        gradient = gradient | (False if w.grad is None else bad_rows(w.grad))
    length = v.detach().double().norm(dim=-1)
    wrong = (back.detach().double() - v.detach().double()).norm(dim=-1) > 0.01 * length
    far = (distance.detach().double() - true).abs() > 0.01 * true
    counted = value, gradient, far & ~value, wrong & ~value
    return Count(len(v), *(int(flags.sum()) for flags in counted))


def cells() -> Iterator[tuple[str, float, int]]:
    """Precision, curvature and dimension of each cell."""
    return itertools.product(DTYPES, CURVATURES, DIMS)


def count_all() -> dict[str, Count]:
    """Sums over the grid, by ``'library, precision'``."""
    import torch

    found: dict[str, Count] = {}
    for name, peer in peers().items():
        for dtype, c, dim in cells():
            new = measure(peer, getattr(torch, dtype), c, dim)
            old = found.get(f'{name}, {dtype}', Count(0, 0, 0, 0, 0))
            found[f'{name}, {dtype}'] = Count(*(a + b for a, b in zip(old, new)))
    return found


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, metavar='JSON', help='write the counts to a file')
    args = parser.parse_args(argv)
    found = count_all()
    print('| | pairs | value not finite | gradient not finite | distance wrong | map back wrong |')
    print('|---|---|---|---|---|---|')
    for name, count in found.items():
        bad = count.infinite_value + count.infinite_gradient
        note(f'{name}: not finite, of {2 * count.pairs}', [bad], 'results')
        print(f'| {name} | {" | ".join(map(str, count))} |')
    if args.out:
        counts = {name: count._asdict() for name, count in found.items()}
        args.out.write_text(json.dumps(counts, indent=1) + '\n')


if __name__ == '__main__':
    main()
