"""Speed of HierarCaps' retrieval walk: the running maximum against the definition, a masked loop.

    python tools/benchmarks/hierarcaps_metric.py
    python tools/benchmarks/hierarcaps_metric.py --images 200 --texts 800

Both get the same random embeddings and must find the same texts; they take turns, and the ratio is
the median of the ratios of the rounds. Target: 20 at 1,000 images x 4,000 texts x 50 radii.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING

from timing import note

if TYPE_CHECKING:
    from torch import Tensor


def masked_loop(similarity: Tensor, radii: Tensor, levels: Tensor) -> Tensor:
    """The definition: at each radius, the most similar of the texts within it."""
    import torch

    picks = [similarity.masked_fill(radii > level, -2).argmax(1) for level in levels]
    return torch.stack(picks, 1)


def timed(function, *args) -> tuple[float, Tensor]:
    """Seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def main() -> None:
    """Runs the benchmark and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--images', type=int, default=1000)
    parser.add_argument('--texts', type=int, default=4000)
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    import torch
    from torch.nn.functional import normalize

    from hyper_mm.evaluation.functional.caption_hierarchy import radius_levels, walk
    from hyper_mm.layers.radial.radial import text_radii

    torch.manual_seed(0)
    images, texts = (normalize(torch.randn(n, 64), dim=-1) for n in (args.images, args.texts))
    similarity, radii = images @ texts.T, text_radii(texts, torch.randn(64))
    levels = radius_levels(radii, args.steps)
    rounds = []
    for _ in range(args.rounds):
        fast, picks = timed(walk, similarity, radii, levels)
        slow, expected = timed(masked_loop, similarity, radii, levels)
        if not torch.equal(picks, expected):
            raise SystemExit('the two forms differ')
        rounds.append((slow / fast, fast, slow))
    note(
        'masked loop over running maximum',
        [row[0] for row in rounds],
        'times',
        'higher',
        statistics.median(row[1] for row in rounds),
    )
    ratio, fast, slow = (statistics.median(column) for column in zip(*rounds))
    print(f'{args.images} images x {args.texts} texts x {args.steps} radii, equal results')
    print(f'running maximum {1e3 * fast:.1f} ms, masked loop {1e3 * slow:.1f} ms: x {ratio:.1f}')


if __name__ == '__main__':
    main()
