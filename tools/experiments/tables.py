"""What the tables of the studies have in common: numbers, versions, and their place in a file."""

from __future__ import annotations

import math
import platform
import shlex
import statistics
import sys
from pathlib import Path


def spread(values: list[float], digits: int = 2) -> str:
    """Mean, and standard deviation where there are several; ``nan`` if one is not finite."""
    return _with(values, digits, 1)


def standard_error(values: list[float], digits: int = 2) -> str:
    """Mean, and its standard error where there are several; ``nan`` if one is not finite."""
    return _with(values, digits, math.sqrt(max(len(values), 1)))


def _with(values: list[float], digits: int, divisor: float) -> str:
    if not values:
        return ''
    if not all(map(math.isfinite, values)):
        return 'nan'
    mean = f'{statistics.mean(values):.{digits}f}'
    if len(values) < 2:
        return mean
    return f'{mean} ± {statistics.stdev(values) / divisor:.{digits}f}'


def markdown(rows: list[list[str]]) -> str:
    """A table in markdown; the first row is its head."""
    head, *body = rows
    lines = [head, ['---'] * len(head), *body]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def command() -> str:
    """The command that is running, as it may be typed again."""
    return f'`python {shlex.join(sys.argv)}`'


def versions() -> str:
    """Versions that produced the table."""
    from importlib.metadata import PackageNotFoundError, version

    parts = [f'Python {platform.python_version()}']
    for package in ('torch', 'mmengine', 'mmcv', 'mmsegmentation', 'mmdet', 'mmpretrain'):
        for name in (package, f'onedl-{package}'):
            try:
                parts.append(f'{name} {version(name)}')
            except PackageNotFoundError:
                continue
    return ', '.join(parts)


def write_table(file: Path, name: str, text: str) -> None:
    """Writes a table into a markdown file and leaves everything else in the file as it is.

    What stands between the lines ``<!-- name -->`` and ``<!-- end of name -->`` is replaced; a file
    without these marks gets the marked table at its end.

    Args:
        file: The file, made if it is not there.
        name: What the table is of; tables in one file need different names.
        text: The table and what belongs to it.

    Raises:
        ValueError: If the file does not hold both marks once, in their order, or none of them.
    """
    from hyper_mm.engine.records import write_text

    begin, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    block = [begin, '', text.strip(), '', end]
    lines = file.read_text(encoding='utf-8').rstrip().split('\n') if file.is_file() else []
    found = [i for i, line in enumerate(lines) if line in (begin, end)]
    marks = [lines[i] for i in found]
    if marks == [begin, end]:
        lines[found[0] : found[1] + 1] = block
    elif not marks:
        lines = [*lines, '', *block] if any(lines) else block
    else:
        raise ValueError(f'{file} must hold {begin} and {end} once, in this order, got {marks}')
    write_text(file, '\n'.join(lines) + '\n')
