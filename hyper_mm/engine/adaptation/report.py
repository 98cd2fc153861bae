"""One page on an adaptation for those who will use the model, in one file without anything else."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEW = 5
"""Images from which on an interval is given."""


class Case(NamedTuple):
    """One image that was judged."""

    name: str
    before: float
    """Dice in percent before the adaptation; NaN where there is nothing to find."""
    after: float
    distance: float
    """Boundary distance after it, in pixels or in the unit of the spacing."""
    picture: str
    """Image with outlines, as a data URI."""
    distance_before: float = math.nan
    """Boundary distance before the adaptation."""


class Estimate(NamedTuple):
    """Mean over images, with what is known of its spread."""

    mean: float
    low: float
    high: float
    count: int
    is_interval: bool
    """Whether low and high are a 95 % interval of the mean, or the least and greatest image."""


def estimate(values: Sequence[float], seed: int = 0, draws: int = 2000) -> Estimate:
    """Mean and 95 % bootstrap interval over images; the range where there are fewer than five.

    Args:
        values: One for each image; NaN does not count.
        seed: Of the bootstrap.
        draws: Of the bootstrap.
    """
    known = np.array([v for v in values if not math.isnan(v)])
    if not len(known):
        return Estimate(math.nan, math.nan, math.nan, 0, False)
    if len(known) < FEW:
        return Estimate(known.mean(), known.min(), known.max(), len(known), False)
    drawn = np.random.default_rng(seed).choice(known, (draws, len(known))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Estimate(float(known.mean()), float(low), float(high), len(known), True)


def say(found: Estimate, digits: int = 1) -> str:
    """An estimate in words.

    Args:
        found: The estimate.
        digits: After the point.
    """
    if not found.count:
        return 'not known'
    if found.count == 1:
        return f'{found.mean:.{digits}f} (one image)'
    kind = '95 % interval' if found.is_interval else 'range'
    return f'{found.mean:.{digits}f} ({kind} {found.low:.{digits}f} to {found.high:.{digits}f})'


def number_of(count: int, name: str) -> str:
    """A number and its noun: 1 image, 2 images.

    Args:
        count: The number.
        name: The noun, of which an s makes the plural.
    """
    return f'{count} {name}{"" if count == 1 else "s"}'


def trust(learned: int, judged: int, how: str, chosen: bool = True) -> list[str]:
    """What the numbers can be trusted for.

    Args:
        learned: Number of images that were learned from.
        judged: Number of images that were judged.
        how: ``'query'``, ``'left out'`` or ``'halves'``.
        chosen: Whether rate and steps were chosen on the support, not given.
    """
    found = {
        'query': f'Test images that were not learned from: {judged}. The numbers are what to '
        'expect of other images like these.',
        'left out': 'Each image was segmented by a model that had learned from the others alone. '
        'The adapted model has learned from all of them.',
        'halves': 'There is one image. One half of it was segmented by a model that had learned '
        'from the other: that says whether the model can learn this appearance, and nothing about '
        'other images or patients.',
    }
    lines = [found[how]]
    if chosen and how != 'query':
        lines.append(
            'Rate and steps were chosen on the same images, so the numbers may be a little too '
            'good.'
        )
    if judged < FEW:
        lines.append(
            f'Fewer than {FEW} images to judge ({judged}): no interval can be given, and a '
            'difference of several points may be chance. Trust the pictures more than the numbers, '
            f'and label {FEW - judged if how == "query" else FEW} more images for --query.'
        )
    lines.append(
        'Images of another device, stain or patient group need a test of their own. If several '
        'images are of one patient, judge on other patients.'
    )
    return lines


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;max-width:60rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;margin:.5rem 0}
th,td{border-bottom:1px solid #ccc;padding:.3rem .8rem;text-align:right}
th:first-child,td:first-child{text-align:left}
.cases{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;max-width:18rem}
img{max-width:100%;image-rendering:auto}figcaption{font-size:.9rem}
.note{background:#fff6e0;border-left:4px solid #d55e00;padding:.5rem 1rem}
.truth{color:#009e73;font-weight:bold}.found{color:#d55e00;font-weight:bold}
@media print{body{margin:0}}
"""


def page(
    title: str,
    cases: Sequence[Case],
    learned: int,
    how: str,
    unit: str,
    warnings: Sequence[str],
    settings: dict[str, str],
    tried: Sequence[Sequence[str]] = (),
    chosen: bool = True,
) -> str:
    """The page.

    Args:
        title: Its title.
        cases: The judged images.
        learned: Number of images that were learned from.
        how: See :func:`trust`.
        unit: Of the distances.
        warnings: Sentences on what is wrong with the data.
        settings: What was done, by name.
        tried: Table of the rates that were tried, its head first.
        chosen: See :func:`trust`.

    Returns:
        HTML, pictures included.
    """
    text = html.escape
    after = estimate([case.after for case in cases])
    before = estimate([case.before for case in cases])
    far = [
        estimate([case.distance_before for case in cases]),
        estimate([case.distance for case in cases]),
    ]
    gains = [case.after - case.before for case in cases]
    worse = sum(gain < 0 for gain in gains)
    known = sorted((c for c in cases if not math.isnan(c.after)), key=lambda c: c.after)
    rows = [
        ['', 'before', 'after'],
        ['Dice, % (100 is perfect agreement)', say(before), say(after)],
        [f'boundary distance, {unit} (95 % of the outline is nearer)', *map(say, far)],
        ['images that became worse', '', f'{worse} of {len(cases)}'],
    ]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<title>{text(title)}</title><style>{_STYLE}</style></head><body>',
        f'<h1>{text(title)}</h1>',
        f'<p>{text(_summary(before, after, learned))}</p>',
        _table(rows),
        '<div class="note">',
        *(f'<p>{text(line)}</p>' for line in [*warnings, *trust(learned, len(cases), how, chosen)]),
        '</div>',
        '<p>Outlines: <span class="truth">green is the expert</span>, '
        '<span class="found">orange is the adapted model</span>.</p>',
    ]
    half = min(3, max(len(known) // 2, 1))
    groups = {'Worst cases': known[:half]}
    if len(known) > 1:
        groups['Best cases'] = known[half:][-half:][::-1]
    for name, chosen in groups.items():
        figures = ''.join(
            f'<figure><img alt="{text(case.name)} with both outlines" src="{case.picture}">'
            f'<figcaption>{text(case.name)}: Dice {case.after:.1f} (before {case.before:.1f}), '
            f'distance {case.distance:.1f} {text(unit)}</figcaption></figure>'
            for case in chosen
        )
        parts.append(f'<h2>{name}</h2><div class="cases">{figures}</div>')
    listed = [['image', 'Dice before', 'Dice after', f'distance, {unit}']]
    listed += [
        [c.name, f'{c.before:.1f}', f'{c.after:.1f}', f'{c.distance:.1f}']
        for c in sorted(cases, key=lambda c: c.name)
    ]
    parts += ['<h2>All judged images</h2>', _table(listed)]
    if tried:
        parts += ['<h2>Rates that were tried</h2>', _table(tried)]
        parts.append('<p>Mean Dice of support images that were left out of the learning.</p>')
    parts += [
        '<h2>What was done</h2>',
        _table([['setting', 'value'], *map(list, settings.items())]),
    ]
    return '\n'.join([*parts, '</body></html>\n'])


def _summary(before: Estimate, after: Estimate, learned: int) -> str:
    images = number_of(learned, 'labeled image')
    if not after.count:
        return f'The model was adapted to {images}. No image had anything to judge it by.'
    change = after.mean - before.mean
    verb = 'rose' if change > 0 else 'fell' if change < 0 else 'stayed'
    return (
        f'The model was adapted to {images}. The mean Dice {verb} from {before.mean:.1f} to '
        f'{after.mean:.1f}, judged on {number_of(after.count, "image")}.'
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ['<tr>' + ''.join(f'<th>{html.escape(x)}</th>' for x in head) + '</tr>']
    lines += ['<tr>' + ''.join(f'<td>{html.escape(x)}</td>' for x in row) + '</tr>' for row in body]
    return f'<table>{"".join(lines)}</table>'
