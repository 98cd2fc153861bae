"""Speed, memory, precision and import time of ``hyper_mm.ops``, beside other libraries.

    python tools/benchmarks/geometry.py
    python tools/benchmarks/geometry.py --only error import --out geometry.json

Peers (left out with a note where they are not installed): geoopt (full Lorentz vectors), HypLL
(Poincare ball), and the formulas one writes by hand: the clamped arcosh on a matrix product, and
the two-line exponential and logarithmic map. All times are of float32, forward and backward, the
peers taking turns, in one process or, beside the libraries, each in one of its own; a ratio is the
median of the ratios of the rounds. The errors are against 50-digit arithmetic on the same float32
numbers. Exits 0 whether targets are met or not.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import mpmath
from timing import note, peak_rss

if TYPE_CHECKING:
    from torch import Tensor


SECTIONS = ('pairwise', 'maps', 'error', 'import')
PAIRS, DIM = 1024, 128
BATCH, WIDTH = 8192, 512
RATIO_GEOOPT, RATIO_HYPLL, RATIO_CLAMPED, RATIO_MEMORY = 15, 15, 2.0, 5
RATIO_MAPS_GEOOPT, RATIO_MAPS_PLAIN = 6, 1.2
RATIO_ERROR, IMPORT_SECONDS = 10, 0.3


class Row(NamedTuple):
    """A line of the report; ``met`` is None where there is no target."""

    section: str
    what: str
    measured: str
    target: str = ''
    met: bool | None = None


def installed(peer: str) -> bool:
    """Whether the library behind a peer can be imported."""
    return peer not in ('geoopt', 'hypll') or importlib.util.find_spec(peer) is not None


def full_vectors(x: Tensor) -> Tensor:
    """Points with their time part in front."""
    import torch

    from hyper_mm.ops import lorentz

    return torch.cat([lorentz.time(x, 1.0, keepdim=True), x], -1)


def hypll_ball():
    """The Poincare ball of curvature -1 of HypLL, and its tensor type."""
    from hypll.manifolds.poincare_ball import Curvature, PoincareBall
    from hypll.tensors import ManifoldTensor

    return PoincareBall(Curvature(1.0, constraining_strategy=lambda c: c)), ManifoldTensor


def clamped_arcosh(x: Tensor, y: Tensor) -> Tensor:
    """Distances of all pairs as written by hand."""
    import torch

    times = (1 + x.square().sum(-1)).sqrt()[:, None] * (1 + y.square().sum(-1)).sqrt()
    return torch.acosh((times - x @ y.mT).clamp_min(1 + 1e-6))


def geoopt_pairs(x: Tensor, y: Tensor) -> Tensor:
    """Distances of all pairs by geoopt, by broadcasting: it has no other way."""
    import geoopt

    return geoopt.Lorentz().dist(x[:, None], y[None])


def hypll_pairs(x: Tensor, y: Tensor) -> Tensor:
    """Distances of all pairs by HypLL."""
    ball, tensor = hypll_ball()
    return ball.cdist(tensor(x[None], ball), tensor(y[None], ball))


def identity(x: Tensor) -> Tensor:
    """The points as they are."""
    return x


def to_ball(x: Tensor) -> Tensor:
    """The points in the Poincare ball."""
    from hyper_mm.ops import lorentz

    return lorentz.to_poincare(x, 1.0)


def ours_pairs(x: Tensor, y: Tensor) -> Tensor:
    """Distances by this package."""
    from hyper_mm.ops import lorentz

    return lorentz.pairwise_dist(x, y, 1.0)


# name -> representation of the points of the hyperboloid, distances of all pairs
PAIRWISE: dict[str, tuple[Callable, Callable]] = {
    'hyper_mm': (identity, ours_pairs),
    'geoopt': (full_vectors, geoopt_pairs),
    'hypll': (to_ball, hypll_pairs),
    'clamped arcosh': (identity, clamped_arcosh),
    'matrix product': (identity, lambda x, y: x @ y.mT),
}


def pairwise_step(peer: str, n: int = PAIRS) -> Callable[[], None]:
    """One forward and backward of the distances of ``n x n`` pairs."""
    import torch

    from hyper_mm.ops import lorentz

    represent, distances = PAIRWISE[peer]
    generator = torch.Generator().manual_seed(0)
    u, v = (0.15 * torch.randn(n, DIM, generator=generator) for _ in range(2))
    x, y = (represent(lorentz.expmap0(t, 1.0)).requires_grad_() for t in (u, v))

    def step() -> None:
        x.grad = y.grad = None
        distances(x, y).sum().backward()

    return step


def maps_step(peer: str) -> Callable[[], None]:
    """One forward and backward of the exponential and the logarithmic map at the origin."""
    import torch

    from hyper_mm.ops import lorentz

    v = 0.05 * torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(0))

    def ours(v: Tensor) -> Tensor:
        return lorentz.logmap0(lorentz.expmap0(v, 1.0), 1.0)

    def geoopt_maps(v: Tensor) -> Tensor:
        return manifold.logmap0(manifold.expmap0(v))

    def two_lines(v: Tensor) -> Tensor:
        r = v.norm(dim=-1, keepdim=True)
        x = torch.sinh(r) / r * v
        s = x.norm(dim=-1, keepdim=True)
        return torch.asinh(s) / s * x

    if peer == 'geoopt':
        import geoopt

        manifold = geoopt.Lorentz()
        v = torch.cat([torch.zeros(BATCH, 1), v], -1)
    function = {'hyper_mm': ours, 'geoopt': geoopt_maps, 'two lines': two_lines}[peer]
    v.requires_grad_()

    def step() -> None:
        v.grad = None
        function(v).sum().backward()

    return step


def timed(step: Callable[[], None]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def race(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, list]:
    """Seconds of every step in every round; the steps take turns, after one unmeasured round."""
    seconds = {name: [] for name in steps}
    for k in range(rounds + 1):
        for name, step in steps.items():
            taken = timed(step)
            if k:
                seconds[name].append(taken)
    return seconds


def race_apart(peers: list[str], rounds: int, threads: int) -> dict[str, list]:
    """Seconds of the distances of all pairs; the peers take turns, each in a fresh process.

    In one process the gigabytes that one of them frees leave another the memory of the system
    anew at each step, which takes a third of the time of a step of milliseconds.
    """
    script = [str(Path(__file__).resolve()), '--threads', str(threads), '--time']
    seconds = {peer: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            seconds[peer].append(float(child(*script, peer)))
    return seconds


def measure_time(peer: str) -> None:
    """Prints the median seconds of a step in this (fresh) process, of about two seconds of them."""
    step = pairwise_step(peer)
    first = min(timed(step) for _ in range(2))
    print(statistics.median(timed(step) for _ in range(min(max(3, round(2 / first)), 50))))


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """Median of the ratios of the rounds."""
    return statistics.median(a / b for a, b in zip(numerator, denominator))


def measure_memory(peer: str) -> None:
    """Prints the bytes that one step adds to the peak of this (fresh) process."""
    pairwise_step(peer, n=8)()
    step = pairwise_step(peer)
    before = peak_rss()
    step()
    print(peak_rss() - before)


def child(*arguments: str) -> str:
    """Standard output of a fresh interpreter; empty, with its error shown, if that failed."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
    return done.stdout.strip()


def bench_pairwise(args: argparse.Namespace) -> tuple[list[Row], dict]:
    """Time and memory of the distances of all pairs."""
    peers = [peer for peer in PAIRWISE if installed(peer)]
    script = [str(Path(__file__).resolve()), '--threads', str(args.threads), '--memory']
    memory = {peer: int(out) for peer in peers if (out := child(*script, peer))}
    fast = race(
        {p: pairwise_step(p) for p in peers if p not in ('geoopt', 'hypll')}, 10 * args.repeats
    )
    apart = [p for p in peers if p in ('hyper_mm', 'geoopt', 'hypll')]
    slow = race_apart(apart, args.repeats, args.threads)
    seconds = {**fast, **slow}
    rows = []
    for peer in PAIRWISE:
        if peer not in peers:
            rows.append(Row('pairwise', peer, 'not installed'))
            continue
        used = f', {memory[peer] / 2**20:.0f} MiB' if peer in memory else ''
        rows.append(Row('pairwise', peer, f'{statistics.median(seconds[peer]):.4f} s{used}'))
    ratios = {p: ratio(slow[p], slow['hyper_mm']) for p in ('geoopt', 'hypll') if p in slow}
    for peer, least in (('geoopt', RATIO_GEOOPT), ('hypll', RATIO_HYPLL)):
        if peer in ratios:
            value = ratios[peer]
            what = f'times faster than {peer}'
            rows.append(Row('pairwise', what, f'{value:.1f}', f'>= {least}', value >= least))
    for peer, most in (('clamped arcosh', RATIO_CLAMPED), ('matrix product', None)):
        value = ratios[peer] = ratio(fast['hyper_mm'], fast[peer])
        target = '' if most is None else f'<= {most}'
        met = None if most is None else value <= most
        rows.append(Row('pairwise', f'time over that of the {peer}', f'{value:.2f}', target, met))
    if 'geoopt' in memory and 'hyper_mm' in memory:
        value = memory['geoopt'] / max(memory['hyper_mm'], 1)
        target = f'>= {RATIO_MEMORY}'
        row = ('pairwise', 'times less memory than geoopt', f'{value:.0f}', target)
        rows.append(Row(*row, value >= RATIO_MEMORY))
    return rows, {'fast': fast, 'slow': slow, 'bytes': memory, 'ratios': ratios}


def bench_maps(args: argparse.Namespace) -> tuple[list[Row], dict]:
    """Time of the exponential and the logarithmic map."""
    peers = [peer for peer in ('hyper_mm', 'geoopt', 'two lines') if installed(peer)]
    seconds = race({peer: maps_step(peer) for peer in peers}, 5 * args.repeats)
    rows = [Row('maps', p, f'{statistics.median(s):.4f} s') for p, s in seconds.items()]
    ratios = {}
    if 'geoopt' in seconds:
        value = ratios['geoopt'] = ratio(seconds['geoopt'], seconds['hyper_mm'])
        target = f'>= {RATIO_MAPS_GEOOPT}'
        row = ('maps', 'times faster than geoopt', f'{value:.1f}', target)
        rows.append(Row(*row, value >= RATIO_MAPS_GEOOPT))
    else:
        rows.append(Row('maps', 'geoopt', 'not installed'))
    value = ratios['two lines'] = ratio(seconds['hyper_mm'], seconds['two lines'])
    target = f'<= {RATIO_MAPS_PLAIN}'
    row = ('maps', 'time over that of the two lines', f'{value:.2f}', target)
    rows.append(Row(*row, value <= RATIO_MAPS_PLAIN))
    return rows, {'seconds': seconds, 'ratios': ratios}


def sample_pairs(kind: str, n: int) -> tuple[Tensor, Tensor]:
    """Tangent vectors at the origin ``(n, DIM)`` in float64.

    Near pairs are 1e-4 to 1e-2 apart (log-uniform) at a radius of 1 to 3; far pairs have radii of 1
    to 6 and an angle of 0 to pi between them.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, generator=generator).double()

    def directions() -> Tensor:
        v = torch.randn(n, DIM, generator=generator).double()
        return v / v.norm(dim=-1, keepdim=True)

    a, b = directions(), directions()
    if kind == 'near':
        u = uniform(1, 3) * a
        return u, u + 10 ** uniform(-4, -2) * b
    b = b - (a * b).sum(-1, keepdim=True) * a
    b = b / b.norm(dim=-1, keepdim=True)
    angle = uniform(0, math.pi)
    return uniform(1, 6) * a, uniform(1, 6) * (angle.cos() * a + angle.sin() * b)


def exact(kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Distances of the given float32 points or tangent vectors, by 50-digit arithmetic."""
    import torch

    mpmath.mp.dps = 50
    distances = []
    for a, b in zip(x.double().tolist(), y.double().tolist()):
        a2, b2, ab = mpmath.fdot(a, a), mpmath.fdot(b, b), mpmath.fdot(a, b)
        if kind == 'ball':
            cosh = 1 + 2 * (a2 + b2 - 2 * ab) / ((1 - a2) * (1 - b2))
        elif kind == 'tangent':
            ra, rb = mpmath.sqrt(a2), mpmath.sqrt(b2)
            turn = ab / (ra * rb)
            cosh = mpmath.cosh(ra) * mpmath.cosh(rb) - turn * mpmath.sinh(ra) * mpmath.sinh(rb)
        else:
            cosh = mpmath.sqrt(1 + a2) * mpmath.sqrt(1 + b2) - ab
        distances.append(float(mpmath.acosh(cosh)))
    return torch.tensor(distances, dtype=torch.float64)


def error_contestants() -> dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    """Name -> (what the distances are computed from, function of those float32 tensors)."""
    from hyper_mm.ops import lorentz, poincare

    contestants = {
        'hyper_mm dist': ('point', lambda x, y: lorentz.dist(x, y, 1.0)),
        'hyper_mm pairwise_dist': (
            'point',
            lambda x, y: lorentz.pairwise_dist(x, y, 1.0).diagonal(),
        ),
        'hyper_mm dist_tangent0': ('tangent', lambda u, v: lorentz.dist_tangent0(u, v, 1.0)),
        'hyper_mm poincare.dist': ('ball', lambda p, q: poincare.dist(p, q, 1.0)),
        'clamped arcosh': ('point', lambda x, y: clamped_arcosh(x, y).diagonal()),
    }
    if installed('geoopt'):
        import geoopt

        manifold = geoopt.Lorentz()
        contestants['geoopt'] = (
            'point',
            lambda x, y: manifold.dist(full_vectors(x), full_vectors(y)),
        )
    if installed('hypll'):
        ball, tensor = hypll_ball()
        contestants['hypll'] = ('ball', lambda p, q: ball.dist(tensor(p, ball), tensor(q, ball)))
    return contestants


def bench_error(args: argparse.Namespace) -> tuple[list[Row], dict]:
    """Relative error of float32 distances, each against exact arithmetic on its own inputs."""
    import torch

    from hyper_mm.ops import lorentz

    rows, errors = [], {}
    for kind in ('near', 'far'):
        u, v = sample_pairs(kind, args.error_pairs)
        points = [lorentz.expmap0(t, 1.0) for t in (u, v)]
        inputs = {
            'tangent': [u.float(), v.float()],
            'point': [x.float() for x in points],
            'ball': [to_ball(x).float() for x in points],
        }
        expected = {name: exact(name, *pair) for name, pair in inputs.items()}
        for name, (form, function) in error_contestants().items():
            with torch.no_grad():
                value = function(*inputs[form]).double()
            error = ((value - expected[form]) / expected[form]).abs()
            error = torch.where(error.isfinite(), error, torch.inf)
            largest, median = error.max().item(), error.median().item()
            errors[f'{kind} {name}'] = {'max': largest, 'median': median}
            measured = f'{largest:.1e} (median {median:.1e})'
            rows.append(Row('error', f'{kind} pairs, {name}', measured))
        peers = [k for k in errors if k.startswith(kind) and 'hyper_mm' not in k]
        for ours in ('dist', 'pairwise_dist'):
            own = errors[f'{kind} hyper_mm {ours}']['max']
            value = min(errors[peer]['max'] for peer in peers) / own
            what = f'{kind} pairs, largest error of the best peer over that of {ours}'
            target = f'>= {RATIO_ERROR}'
            rows.append(Row('error', what, f'{value:.0f}', target, value >= RATIO_ERROR))
    return rows, errors


def bench_import(args: argparse.Namespace) -> tuple[list[Row], dict]:
    """Import time beyond that of torch and mmengine."""
    before = 'torch, mmengine' if importlib.util.find_spec('mmengine') else 'torch'
    seconds = {}
    for module in ('hyper_mm', 'hyper_mm.ops'):
        code = (
            f'import {before}, time; start = time.perf_counter(); import {module}; '
            'print(time.perf_counter() - start)'
        )
        seconds[module] = [float(child('-c', code)) for _ in range(args.repeats)]
    rows = []
    for module, samples in seconds.items():
        value = statistics.median(samples)
        row = ('import', f'{module} after {before}', f'{value:.4f} s', f'<= {IMPORT_SECONDS} s')
        rows.append(Row(*row, value <= IMPORT_SECONDS))
        note(f'import, {module} after {before}', samples, unit='s')
    return rows, {'import': seconds}


def note_ratios(section: str, samples: dict) -> None:
    """Notes how many times faster ours is than each peer, round by round."""
    for group in ('fast', 'slow', 'seconds'):
        taken = samples.get(group, {})
        if not isinstance(taken, dict) or 'hyper_mm' not in taken:
            continue
        for peer, seconds in taken.items():
            if peer != 'hyper_mm':
                ratios = [a / b for a, b in zip(seconds, taken['hyper_mm'])]
                median = statistics.median(taken['hyper_mm'])
                note(f'{section}, {peer} over ours', ratios, better='higher', seconds=median)


def main() -> None:
    """Runs the chosen sections and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', nargs='+', choices=SECTIONS, default=SECTIONS)
    parser.add_argument('--repeats', type=int, default=3, help='rounds of the slow comparisons')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--error-pairs', type=int, default=500, help='pairs a kind for the errors')
    parser.add_argument('--out', type=Path, help='file for all samples, JSON')
    parser.add_argument('--memory', choices=PAIRWISE, help=argparse.SUPPRESS)
    parser.add_argument('--time', choices=PAIRWISE, help=argparse.SUPPRESS)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    if args.memory:
        measure_memory(args.memory)
        return
    if args.time:
        measure_time(args.time)
        return

    benches = dict(zip(SECTIONS, (bench_pairwise, bench_maps, bench_error, bench_import)))
    print(
        f'torch {torch.__version__}, {platform.machine()}, {args.threads} threads; pairwise '
        f'{PAIRS} x {PAIRS} x {DIM}, maps {BATCH} x {WIDTH}, float32, forward + backward'
    )
    samples = {}
    for section in SECTIONS:
        if section not in args.only:
            continue
        rows, samples[section] = benches[section](args)
        note_ratios(section, samples[section])
        for row in rows:
            verdict = '' if row.met is None else 'met' if row.met else 'NOT MET'
            print(f'{row.section:9} {row.what:67} {row.measured:27} {row.target:9} {verdict}')
            sys.stdout.flush()
    if args.out:
        args.out.write_text(json.dumps(samples, indent=1))


if __name__ == '__main__':
    main()
