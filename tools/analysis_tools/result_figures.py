"""Draws the figures of the pages about methods from the numbers of the tables in docs/tables.

    python tools/analysis_tools/result_figures.py                 # all, into docs/images
    python tools/analysis_tools/result_figures.py --only helm --out-dir work_dirs/figures

A figure has a panel for each column of a table and a row for each arm: the mean, with its standard
error where the table has one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).resolve().parents[2] / 'docs'
NUMBER = re.compile(r'(-?[\d.]+)(?: ± ([\d.]+))?')


class Figure(NamedTuple):
    """A figure.

    Attributes:
        table: Page of ``docs/tables``.
        header: Columns by which the table is found on it: the first one that has them all.
        panels: Columns that are drawn, and what each is called.
        arms: Rows that are drawn, and what each is called; the first is what others are compared
            with.
    """

    table: str
    header: Sequence[str]
    panels: dict[str, str]
    arms: dict[str, str]


def own_names(*arms: str) -> dict[str, str]:
    """Arms that are called in a figure what they are called in the table."""
    return dict(zip(arms, arms))


FIGURES = {
    'hyperclip': Figure(
        'hyperclip_lite',
        ('arm', 'trained', 'seen', 'unseen'),
        dict(seen='seen classes, mIoU', unseen='unseen classes, mIoU', camvid='CamVid, mIoU'),
        {
            'frozen': 'frozen text tower',
            'full': 'all weights',
            'q, v': 'q and v maps',
            'LoRA': 'LoRA',
            'OFT (peft)': 'OFT',
            'HyperCLIP': 'HyperCLIP',
        },
    ),
    'lathadapter': Figure(
        'lathadapter_lite',
        ('arm', 'trained', 'classes, 16'),
        {
            'classes, 16': 'classes, %',
            'superclasses, 16': 'superclasses, %',
            'breeds, 16': 'BREEDS, %',
            'omniglot, 16': 'Omniglot, %',
            'part-scenes, 16': 'PartScenes, %',
        },
        own_names(
            *('zero-shot', 'CoOp', 'CoOp + LatHAdapter'),
            *('deep prompts', 'deep prompts + LatHAdapter', 'deep prompts, rate of the head'),
        ),
    ),
    'radial': Figure(
        'radial_minilm',
        ('arm', 'trained', 'tau_d'),
        {'tau_d': 'order of captions, tau_d', 'HyperLex rho': 'HyperLex, rho'},
        own_names('untuned', 'radial', 'cone', 'Lorentz', 'Poincare', 'adapter'),
    ),
    'helm': Figure(
        'helm_hierarcaps',
        ('arm', 'seed 0', 'trained'),
        {'lm/perplexity, mean ± standard error': 'perplexity (less is better)'},
        {
            'llama': 'LLaMA-like, equal tokens',
            'llama-time': 'LLaMA-like, equal time',
            'helm-d': 'HELM-D',
            'helm-mice': 'HELM-MiCE',
        },
    ),
    'metaseg': Figure(
        'metaseg',
        ('arm', 'rate', 'fluorescence', 'over its plain'),
        dict(fluorescence='nuclei, Dice', membrane='membrane, Dice', chasedb1='vessels, Dice'),
        {
            'plain': 'plain',
            'plain, style': 'plain, with styles',
            'FOMAML, style': 'FOMAML, with styles',
        },
    ),
}  # fmt: skip


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown page, as rows of cells, their headers first."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith('|'):
            inside = False
            continue
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        if not inside:
            found.append([])
        inside = True
        if not all(set(cell) <= {'-', ':'} and cell for cell in cells):
            found[-1].append(cells)
    return found


def values(figure: Figure, text: str) -> dict[str, dict[str, tuple[float, float]]]:
    """What a figure shows.

    Args:
        figure: The figure.
        text: The page of its table.

    Returns:
        Means and standard errors (0 where there is none) by panel and arm.

    Raises:
        ValueError: If the page has no such table, row or number.
    """
    wanted = {*figure.header, *figure.panels}
    table = next((rows for rows in tables(text) if wanted <= {*rows[0]}), None)
    if table is None:
        raise ValueError(f'{figure.table} must have a table with {sorted(wanted)}')
    # of equal columns and rows the first one counts
    header, *rows = ([*reversed(row)] for row in table)
    by_name = {row[-1]: dict(zip(header, row)) for row in reversed(rows)}
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for panel in figure.panels:
        for arm in figure.arms:
            match = NUMBER.fullmatch(by_name.get(arm, {}).get(panel, ''))
            if match is None:
                raise ValueError(f'{figure.table} must have a number for {arm!r} in {panel!r}')
            found.setdefault(panel, {})[arm] = float(match[1]), float(match[2] or 0)
    return found


def draw(figure: Figure, shown: dict[str, dict[str, tuple[float, float]]], file: Path) -> None:
    """Draws a figure into a file."""
    import matplotlib

    matplotlib.use('agg')
    from matplotlib import pyplot as plt

    places = range(len(figure.arms))[::-1]
    width = 2.4 if len(figure.panels) < 4 else 1.7
    canvas, row = plt.subplots(
        1,
        len(figure.panels),
        figsize=(2.6 + width * len(figure.panels), 0.8 + 0.3 * len(figure.arms)),
        sharey=True,
        squeeze=False,
    )
    for axes, (panel, title) in zip(row[0], figure.panels.items()):
        means, errors = zip(*shown[panel].values())
        axes.errorbar(means, places, xerr=errors, fmt='o', color='tab:blue', capsize=3)
        axes.axvline(means[0], color='tab:gray', linewidth=0.8)
        axes.set_xlabel(title)
        axes.set_yticks(places, figure.arms.values())
        axes.margins(y=0.15)
        axes.grid(axis='x', alpha=0.3)
    canvas.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(file, dpi=110)
    plt.close(canvas)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', choices=FIGURES, default=list(FIGURES))
    parser.add_argument('--out-dir', type=Path, default=DOCS / 'images')
    args = parser.parse_args(argv)
    for name in args.only:
        figure = FIGURES[name]
        text = (DOCS / 'tables' / f'{figure.table}.md').read_text(encoding='utf-8')
        file = args.out_dir / f'results_{name}.png'
        draw(figure, values(figure, text), file)
        print(file)


if __name__ == '__main__':
    main()
