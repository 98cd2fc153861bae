"""Times of two functions that take turns, so that what the machine does besides hits both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def in_turns(
    first: Callable[[], object],
    second: Callable[[], object],
    repeats: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Runs two functions in turns; which one begins changes from pair to pair.

    Args:
        first: A function.
        second: Another one.
        repeats: Measured pairs of runs.
        warm_up: Pairs before, which do not count.
        clock: Seconds now; ``time.process_time`` counts those of this process alone.

    Returns:
        Seconds of each run of the first and of the second, pair by pair.
    """
    times = ([], [])
    for turn in range(-warm_up, repeats):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = clock()
            (first, second)[which]()
            taken = clock() - start
            if turn >= 0:
                times[which].append(taken)
    return times


def quartiles(values: list[float]) -> list[float]:
    """Quartiles of one number or more."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method='inclusive')


def ratio(
    base: Callable[[], object], other: Callable[[], object], repeats: int, warm_up: int = 2
) -> tuple[float, list[float]]:
    """Compares two functions; see :func:`in_turns`.

    Args:
        base: What is compared with.
        other: What is measured.
        repeats: Measured pairs of runs.
        warm_up: Pairs before, which do not count.

    Returns:
        Median seconds of the first, and quartiles of the ratio of the second to it.
    """
    times, others = in_turns(base, other, repeats, warm_up)
    return statistics.median(times), quartiles([b / a for a, b in zip(times, others)])
