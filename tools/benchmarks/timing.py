"""Times of two functions that take turns, so that what the machine does besides hits both; memory.

Each benchmark notes its figures by :func:`note`, and run_all.py collects them.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RECORD = 'HYPER_MM_BENCH_RECORD'
"""Environment variable: the file that figures are noted in, a JSON object a line."""


def note(
    name: str,
    values: Sequence[float],
    unit: str = 'times',
    better: str = 'lower',
    seconds: float | None = None,
) -> None:
    """Notes a figure for run_all.py, where it asks for that.

    Args:
        name: What was measured, such as ``'training step over frozen'``.
        values: One value a round: ratios of neighboring runs.
        unit: Of the values; ``'times'`` for ratios.
        better: ``'lower'`` or ``'higher'``.
        seconds: Median time of what is compared with.
    """
    if RECORD in os.environ:
        row = dict(benchmark=Path(sys.argv[0]).stem, name=name, unit=unit, better=better)
        row |= dict(values=list(values), seconds=seconds)
        with open(os.environ[RECORD], 'a', encoding='utf-8') as file:
            file.write(json.dumps(row) + '\n')


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
    base: Callable[[], object],
    other: Callable[[], object],
    repeats: int,
    warm_up: int = 2,
    name: str | None = None,
    better: str = 'lower',
) -> tuple[float, list[float]]:
    """Compares two functions; see :func:`in_turns`.

    Args:
        base: What is compared with.
        other: What is measured.
        repeats: Measured pairs of runs.
        warm_up: Pairs before, which do not count.
        name: Name to :func:`note` the ratios under; None: they are not.
        better: See :func:`note`.

    Returns:
        Median seconds of the first, and quartiles of the ratio of the second to it.
    """
    times, others = in_turns(base, other, repeats, warm_up)
    ratios, seconds = [b / a for a, b in zip(times, others)], statistics.median(times)
    if name is not None:
        note(name, ratios, better=better, seconds=seconds)
    return seconds, quartiles(ratios)


def peak_rss() -> int:
    """Largest resident size of this process so far, in bytes.

    Linux keeps ``ru_maxrss`` over fork and exec, so that a child starts with that of its parent;
    ``VmHWM`` is the process's own.
    """
    status = Path('/proc/self/status')
    if status.exists():
        line = next(s for s in status.read_text().splitlines() if s.startswith('VmHWM'))
        return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
