"""The geometry ops beside those of geoopt and HypLL and MERU's formulas: accuracy and time.

    python tools/benchmarks/geometry_ops.py
    python tools/benchmarks/geometry_ops.py --radius 6 --out geometry_ops.json
    python tools/benchmarks/geometry_ops.py --pixels

Inputs are float32, at the given scaled radius. The error is the largest one of a row, relative to
the length of the result, against our ops in float64 from the same inputs, which the tests compare
with arithmetic of 120 digits. The time is of forward and backward, the libraries taking turns of
four calls; a ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from timing import note

if TYPE_CHECKING:
    import torch
    from torch import Tensor


NAMES = {
    'lorentz.expmap0': dict(geoopt='expmap0', textbook='exp_map0'),
    'lorentz.logmap0': dict(geoopt='logmap0', textbook='log_map0'),
    'lorentz.expmap': dict(geoopt='expmap'),
    'lorentz.logmap': dict(geoopt='logmap'),
    'lorentz.transport': dict(geoopt='transp'),
    'lorentz.transport0': dict(geoopt='transp0'),
    'lorentz.transport_to0': dict(geoopt='transp0back'),
    'lorentz.dist': dict(geoopt='dist', textbook='pairwise_dist'),
    'lorentz.centroid': dict(geoopt='weighted_midpoint'),
    'poincare.expmap0': dict(geoopt='expmap0', hypll='expmap'),
    'poincare.logmap0': dict(geoopt='logmap0', hypll='logmap'),
    'poincare.transport0': dict(geoopt='transp0'),
    'poincare.expmap': dict(geoopt='expmap', hypll='expmap'),
    'poincare.logmap': dict(geoopt='logmap', hypll='logmap'),
    'poincare.transport': dict(geoopt='transp'),
    'poincare.gyration': dict(geoopt='gyration'),
    'poincare.geodesic': dict(geoopt='geodesic'),
    'poincare.mobius_add': dict(geoopt='mobius_add', hypll='mobius_add'),
    'poincare.mobius_scalar': dict(geoopt='mobius_scalar_mul'),
    'poincare.mobius_matvec': dict(geoopt='mobius_matvec'),
    'poincare.dist': dict(geoopt='dist', hypll='dist'),
    'hyperplanes.gyroplane_dist': dict(geoopt='dist2plane'),
    'hyperplanes.poincare_pairwise_hyperplane_dist': dict(hypll='hyperplane_dists'),
    'logits.lorentz_logits': dict(hypll='hyperplane_dists'),
    'poincare.transport_to0': dict(geoopt='transp0back'),
    'means.poincare_frechet_mean': dict(hypll='frechet_mean'),
}
"""What ops are called elsewhere; ``textbook`` is MERU."""


def inputs(radius: float, rows: int, dim: int) -> dict[str, Tensor]:
    """float32 inputs: points of both models, vectors at the origin, a unit normal, and a matrix."""
    import torch

    from hyper_mm.ops import lorentz, poincare

    generator = torch.Generator().manual_seed(0)

    def unit() -> Tensor:
        v = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
        return v / v.norm(dim=-1, keepdim=True)

    u, v, w = radius * unit(), radius * unit(), unit()
    x, y = lorentz.expmap0(u, 1.0), lorentz.expmap0(v, 1.0)
    found = dict(x=x, y=y, v=v, w=w)
    found |= dict(p=lorentz.to_poincare(x, 1.0), q=lorentz.to_poincare(y, 1.0))
    found |= dict(t=lorentz.transport0(x, w, 1.0), s=poincare.transport0(found['p'], w / 2, 1.0))
    found['m'] = torch.eye(dim, dtype=torch.float64) / 2
    found |= dict(h=v / 2, n=w[:16])
    return {name: tensor.float() for name, tensor in found.items()}


def ambient(x: Tensor) -> Tensor:
    """Points with their time part in front."""
    from hyper_mm.ops import lorentz

    return lorentz.to_ambient(x, 1.0)


def with_time(x: Tensor, v: Tensor) -> Tensor:
    """Tangent vectors at ``x`` with their time part in front."""
    import torch

    from hyper_mm.ops import lorentz

    return torch.cat([(x * v).sum(-1, keepdim=True) / lorentz.time(x, 1.0, keepdim=True), v], -1)


def cases() -> dict[str, tuple[str, Callable, dict[str, tuple[Callable, Callable]]]]:
    """Name -> letters of the inputs, our op, and of each peer: what prepares, what runs.

    What a peer's op takes is prepared outside of the time; of ambient results the space components
    are compared.
    """
    import torch

    from hyper_mm.ops import (
        busemann,
        hyperplanes,
        logits,
        lorentz,
        means,
        poincare,
        riemannian_normal,
        wrapped_normal,
    )

    def number(op: Callable, *more: object) -> Callable:
        """An op whose results are one number a row, as a column."""
        return lambda *tensors: op(*tensors, *more, 1.0)[..., None]

    found: dict = {
        'lorentz.expmap0': ('v', lambda v: lorentz.expmap0(v, 1.0), {}),
        'lorentz.logmap0': ('x', lambda x: lorentz.logmap0(x, 1.0), {}),
        'lorentz.transport0': ('xw', lambda x, w: lorentz.transport0(x, w, 1.0), {}),
        'lorentz.translate': ('xy', lambda x, y: lorentz.translate(x, y, 1.0), {}),
        'lorentz.geodesic': ('xy', lambda x, y: lorentz.geodesic(x, y, 0.3, 1.0), {}),
        'lorentz.to_poincare': ('x', lambda x: lorentz.to_poincare(x, 1.0), {}),
        'lorentz.to_klein': ('x', lambda x: lorentz.to_klein(x, 1.0), {}),
        'lorentz.centroid': (
            'x',
            lambda x: lorentz.centroid(x.view(-1, 8, x.shape[-1]), None, 1.0),
            {},
        ),
        'means.lorentz_frechet_mean': (
            'x',
            lambda x: means.lorentz_frechet_mean(x.view(-1, 8, x.shape[-1])),
            {},
        ),
        'hyperplanes.lorentz_hyperplane_dist': (
            'xw',
            number(hyperplanes.lorentz_hyperplane_dist, 0.2),
            {},
        ),
        'busemann.lorentz_busemann': ('xw', number(busemann.lorentz_busemann), {}),
        'busemann.poincare_busemann': ('pw', number(busemann.poincare_busemann), {}),
        'wrapped_normal.lorentz_wrapped_log_prob': (
            'xy',
            number(wrapped_normal.lorentz_wrapped_log_prob, 0.7),
            {},
        ),
        'riemannian_normal.lorentz_riemannian_log_prob': (
            'xy',
            number(riemannian_normal.lorentz_riemannian_log_prob, 0.7),
            {},
        ),
        'poincare.expmap0': ('h', lambda h: poincare.expmap0(h, 1.0), {}),
        'poincare.logmap0': ('p', lambda p: poincare.logmap0(p, 1.0), {}),
        'poincare.transport0': ('pw', lambda p, w: poincare.transport0(p, w, 1.0), {}),
        'hyperplanes.poincare_pairwise_hyperplane_dist': (
            'pn',
            lambda p, n: hyperplanes.poincare_pairwise_hyperplane_dist(
                p, n, n.new_zeros(len(n)), 1.0
            ),
            {},
        ),
        'logits.lorentz_logits': (
            'xn',
            lambda x, n: logits.lorentz_logits(x, n, n.new_zeros(len(n)), 1.0),
            {},
        ),
        'poincare.transport_to0': ('ps', lambda p, s: poincare.transport_to0(p, s, 1.0), {}),
        'lorentz.expmap': ('xt', lambda x, t: lorentz.expmap(x, t, 1.0), {}),
        'lorentz.logmap': ('xy', lambda x, y: lorentz.logmap(x, y, 1.0), {}),
        'lorentz.transport': ('xyt', lambda x, y, t: lorentz.transport(x, y, t, 1.0), {}),
        'lorentz.transport_to0': ('xt', lambda x, t: lorentz.transport_to0(x, t, 1.0), {}),
        'lorentz.dist': ('xy', lambda x, y: lorentz.dist(x, y, 1.0)[..., None], {}),
        'poincare.expmap': ('ps', lambda p, s: poincare.expmap(p, s, 1.0), {}),
        'poincare.logmap': ('pq', lambda p, q: poincare.logmap(p, q, 1.0), {}),
        'poincare.transport': ('pqs', lambda p, q, s: poincare.transport(p, q, s, 1.0), {}),
        'poincare.gyration': ('pqw', lambda p, q, w: poincare.gyration(p, q, w, 1.0), {}),
        'poincare.geodesic': ('pq', lambda p, q: poincare.geodesic(p, q, 0.3, 1.0), {}),
        'poincare.mobius_add': ('pq', lambda p, q: poincare.mobius_add(p, q, 1.0), {}),
        'poincare.mobius_scalar': ('p', lambda p: poincare.mobius_scalar(0.7, p, 1.0), {}),
        'poincare.mobius_matvec': ('mp', lambda m, p: poincare.mobius_matvec(m, p, 1.0), {}),
        'poincare.dist': ('pq', lambda p, q: poincare.dist(p, q, 1.0)[..., None], {}),
        'hyperplanes.gyroplane_dist': (
            'pqw',
            lambda p, q, w: hyperplanes.gyroplane_dist(p, q, w, 1.0)[..., None],
            {},
        ),
        'means.poincare_frechet_mean': (
            'p',
            lambda p: means.poincare_frechet_mean(p.view(-1, 8, p.shape[-1])),
            {},
        ),
    }
    if importlib.util.find_spec('geoopt'):
        import geoopt

        space, ball = geoopt.Lorentz(), geoopt.PoincareBall()

        def lift(*letters: str) -> Callable:
            """Points and vectors at the first of them in ambient coordinates."""

            def prepare(*tensors: Tensor) -> list[Tensor]:
                pairs = zip(letters, tensors)
                return [with_time(tensors[0], a) if k == 't' else ambient(a) for k, a in pairs]

            return prepare

        def as_is(*tensors: Tensor) -> list[Tensor]:
            return list(tensors)

        def midpoint(p: Tensor) -> Tensor:
            return ball.weighted_midpoint(p.view(-1, 8, p.shape[-1]), reducedim=[-2])

        def flat(v: Tensor) -> list[Tensor]:
            """Vectors at the origin, whose time is 0."""
            return [torch.nn.functional.pad(v, (1, 0))]

        add = {
            'lorentz.expmap0': (flat, lambda v: space.expmap0(v)[..., 1:]),
            'lorentz.logmap0': (lift('x'), lambda x: space.logmap0(x)[..., 1:]),
            'lorentz.transport0': (
                lambda x, w: [ambient(x), *flat(w)],
                lambda x, w: space.transp0(x, w)[..., 1:],
            ),
            'poincare.expmap0': (as_is, ball.expmap0),
            'poincare.logmap0': (as_is, ball.logmap0),
            'poincare.transport0': (as_is, ball.transp0),
            'poincare.transport_to0': (as_is, ball.transp0back),
            'lorentz.centroid': (
                lambda x: [lorentz.to_poincare(x.double(), 1.0).float()],
                lambda p: lorentz.from_poincare(midpoint(p), 1.0),
            ),
            'lorentz.expmap': (lift('x', 't'), lambda x, t: space.expmap(x, t)[..., 1:]),
            'lorentz.logmap': (lift('x', 'y'), lambda x, y: space.logmap(x, y)[..., 1:]),
            'lorentz.transport': (
                lift('x', 'y', 't'),
                lambda x, y, t: space.transp(x, y, t)[..., 1:],
            ),
            'lorentz.transport_to0': (
                lift('x', 't'),
                lambda x, t: space.transp0back(x, t)[..., 1:],
            ),
            'lorentz.dist': (lift('x', 'y'), lambda x, y: space.dist(x, y)[..., None]),
            'poincare.expmap': (as_is, ball.expmap),
            'poincare.logmap': (as_is, ball.logmap),
            'poincare.transport': (as_is, ball.transp),
            'poincare.gyration': (as_is, ball.gyration),
            'poincare.geodesic': (as_is, lambda p, q: ball.geodesic(torch.tensor(0.3), p, q)),
            'poincare.mobius_add': (as_is, ball.mobius_add),
            'poincare.mobius_scalar': (
                as_is,
                lambda p: ball.mobius_scalar_mul(torch.tensor(0.7), p),
            ),
            'poincare.mobius_matvec': (as_is, ball.mobius_matvec),
            'poincare.dist': (as_is, lambda p, q: ball.dist(p, q)[..., None]),
            'hyperplanes.gyroplane_dist': (
                as_is,
                lambda p, q, w: ball.dist2plane(p, q, w, signed=True)[..., None],
            ),
        }
        for name, peer in add.items():
            found[name][2]['geoopt'] = peer
    if importlib.util.find_spec('hypll'):
        from hypll.manifolds.poincare_ball import Curvature, PoincareBall
        from hypll.tensors import ManifoldTensor, TangentTensor

        hypll_ball = PoincareBall(Curvature(1.0, constraining_strategy=lambda c: c))

        def points(*tensors: Tensor) -> list:
            return list(tensors)

        def point(x: Tensor) -> ManifoldTensor:
            return ManifoldTensor(x, hypll_ball)

        def distances(p: Tensor, n: Tensor) -> Tensor:
            # HypLL's are the logits, twice the length of the normals times them; it is 1 here
            planes = ManifoldTensor(n.T, hypll_ball, man_dim=0)
            return hypll_ball.hyperplane_dists(point(p), planes, None) / 2

        add = {
            'poincare.expmap0': (
                points,
                lambda h: hypll_ball.expmap(TangentTensor(h, manifold=hypll_ball)).tensor,
            ),
            'poincare.logmap0': (points, lambda p: hypll_ball.logmap(None, point(p)).tensor),
            'hyperplanes.poincare_pairwise_hyperplane_dist': (points, distances),
            'logits.lorentz_logits': (
                lambda x, n: [lorentz.to_poincare(x.double(), 1.0).float(), n],
                distances,
            ),
            'poincare.expmap': (
                points,
                lambda p, s: (
                    hypll_ball.expmap(
                        TangentTensor(s, manifold_points=point(p), manifold=hypll_ball)
                    ).tensor
                ),
            ),
            'poincare.logmap': (
                points,
                lambda p, q: hypll_ball.logmap(point(p), point(q)).tensor,
            ),
            'poincare.mobius_add': (
                points,
                lambda p, q: hypll_ball.mobius_add(point(p), point(q)).tensor,
            ),
            'poincare.dist': (
                points,
                lambda p, q: hypll_ball.dist(point(p), point(q))[..., None],
            ),
            'means.poincare_frechet_mean': (
                points,
                lambda p: (
                    hypll_ball.frechet_mean(point(p.view(-1, 8, p.shape[-1])), batch_dim=1).tensor
                ),
            ),
        }
        for name, peer in add.items():
            found[name][2]['hypll'] = peer
    add = dict(zip(('lorentz.expmap0', 'lorentz.logmap0', 'lorentz.dist'), textbook()))
    for name, function in add.items():
        found[name][2]['textbook'] = (lambda *tensors: list(tensors)), function
    return found


def textbook() -> tuple[Callable, Callable, Callable]:
    """Exponential and logarithmic map at the origin, and distance, as MERU's paper prints them.

    With the clamps that such code has: of lengths at 1e-8, of the argument of arcosh at 1 + 1e-8.
    """
    import torch

    def expmap0(v: Tensor) -> Tensor:
        r = v.norm(dim=-1, keepdim=True).clamp_min(1e-8)
        return r.sinh() / r * v

    def time(x: Tensor) -> Tensor:
        return (1 + x.square().sum(-1, keepdim=True)).sqrt()

    def logmap0(x: Tensor) -> Tensor:
        r = torch.acosh(time(x).clamp_min(1 + 1e-8))
        return r / r.sinh().clamp_min(1e-8) * x

    def dist(x: Tensor, y: Tensor) -> Tensor:
        inner = time(x) * time(y) - (x * y).sum(-1, keepdim=True)
        return torch.acosh(inner.clamp_min(1 + 1e-8))

    return expmap0, logmap0, dist


def step(function: Callable, tensors: list[Tensor]) -> Callable[[], None]:
    """One forward and backward."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).sum().backward()

    return run


def timed(run: Callable[[], None], calls: int = 4) -> float:
    """Seconds of the processors for a call, whatever else the machine does.

    The mean of some, after one that brings back memory which another one's turn has given away.
    """
    run()
    start = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - start) / calls


def error(value: Tensor, expected: Tensor) -> float:
    """Largest error of a row over the length of the expected one; inf where it is not finite."""
    import torch

    off = (value.double() - expected).norm(dim=-1) / expected.norm(dim=-1)
    return torch.where(off.isfinite(), off, torch.inf).max().item()


def bench_pixels(repeats: int, size: int = 128) -> dict[str, dict[str, float]]:
    """Pixel-wise classifiers of 150 classes: time over ``nn.Linear``, and what they keep.

    Args:
        repeats: Rounds in which they take turns, after one unmeasured.
        size: Height and width of the map.

    Returns:
        ``ratio`` of the times of forward and backward with the cross-entropy, ``mebibytes`` of the
        tensors kept for the backward pass, and ``asinh``, the share of that function in the time
        (ours, in pieces, once in each pass; 0 of the linear classifier).
    """
    import torch
    from torch.autograd.graph import saved_tensors_hooks

    from hyper_mm.layers import LorentzMLR
    from hyper_mm.ops import logits

    x, y = torch.randn(size * size, 64), torch.randint(150, (size * size,))
    models = {
        'nn.Linear': torch.nn.Linear(64, 150),
        'LorentzMLR, max_radius=6': LorentzMLR(64, 150, max_radius=6.0),
        'LorentzMLR': LorentzMLR(64, 150),
    }

    def loss(model: torch.nn.Module, x: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(model(x), y)

    kept = {}
    for name, model in models.items():
        seen: dict[int, int] = {}

        def pack(t: Tensor, seen: dict = seen) -> Tensor:
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with saved_tensors_hooks(pack, lambda t: t):
            alive = loss(model, x.clone().requires_grad_())
        kept[name] = sum(seen.values()) / 2**20
        del alive
    steps = {k: step(lambda x, m=m: loss(m, x), [x]) for k, m in models.items()}
    rooms = torch.randn(4, 256, 150)

    def asinh_alone() -> None:
        for _ in range(2 * size * size // 256):
            logits.asinh(*rooms)

    steps['asinh'] = asinh_alone
    seconds: dict[str, list[float]] = {k: [] for k in steps}
    for round_ in range(repeats + 1):
        for k, run in steps.items():
            found = timed(run)
            if round_:
                seconds[k].append(found)
    alone = seconds.pop('asinh')
    return {
        k: dict(
            ratio=statistics.median(a / b for a, b in zip(taken, seconds['nn.Linear'])),
            mebibytes=kept[k],
            asinh=statistics.median(a / b for a, b in zip(alone, taken)) * (k != 'nn.Linear'),
        )
        for k, taken in seconds.items()
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--rows', type=int, default=4096)
    parser.add_argument('--dim', type=int, default=64)
    parser.add_argument('--radius', type=float, default=3.0)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--pixels', action='store_true', help='only the pixel-wise classifiers')
    parser.add_argument('--out', type=Path)
    args = parser.parse_args(arguments)
    import torch

    torch.set_num_threads(args.threads)
    if args.pixels:
        for name, row in bench_pixels(args.repeats).items():
            print(
                f'{name}: {row["ratio"]:.2f} times nn.Linear, of it {row["asinh"]:.0%} in asinh, '
                f'keeps {row["mebibytes"]:.1f} MiB'
            )
        return
    given, report = inputs(args.radius, args.rows, args.dim), {}
    print(f'{args.rows} x {args.dim}, scaled radius {args.radius}, float32\n')
    print('| op | hyper_mm | geoopt | HypLL | MERU |\n|---|---|---|---|---|')
    for name, (letters, ours, peers) in cases().items():
        tensors = [given[letter] for letter in letters]
        exact = ours(*(tensor.double() for tensor in tensors))
        functions = {'hyper_mm': (ours, tensors)}
        functions |= {k: (run, prepare(*tensors)) for k, (prepare, run) in peers.items()}
        steps = {k: step(*pair) for k, pair in functions.items()}
        seconds: dict[str, list[float]] = {k: [] for k in steps}
        for round_ in range(args.repeats + 1):
            for k, run in steps.items():
                found = timed(run)
                if round_:
                    seconds[k].append(found)
        for k, taken in seconds.items():
            if k != 'hyper_mm':
                ratios = [a / b for a, b in zip(taken, seconds['hyper_mm'])]
                ours_median = statistics.median(seconds['hyper_mm'])
                note(f'{name}, {k} over ours', ratios, better='higher', seconds=ours_median)
        cells = []
        for k in ('hyper_mm', 'geoopt', 'hypll', 'textbook'):
            if k not in functions:
                cells.append('-')
                continue
            with torch.no_grad():
                off = error(functions[k][0](*functions[k][1]), exact)
            taken = statistics.median(seconds[k])
            ratio = statistics.median(a / b for a, b in zip(seconds[k], seconds['hyper_mm']))
            report[f'{name} {k}'] = dict(error=off, seconds=taken, ratio=ratio)
            slower = '' if k == 'hyper_mm' else f' ({ratio:.1f}x)'
            word = f'`{NAMES[name][k]}` ' if k != 'hyper_mm' else ''
            cells.append(f'{word}{off:.0e}, {1e3 * taken:.1f} ms{slower}')
        print(f'| `{name}` | {" | ".join(cells)} |', flush=True)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1), 'utf-8')


if __name__ == '__main__':
    main()
