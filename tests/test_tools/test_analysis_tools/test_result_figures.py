"""Figures of results show the numbers of their tables."""

from __future__ import annotations

import pytest

from tests.conftest import REPO
from tests.helpers.tools import load_tool

figures = load_tool('analysis_tools/result_figures.py')
PAGE = """
| arm | x | note |
|---|---|---|
| a | 1 | another table |

| arm | x | y | x |
| --- | --- | --- | --- |
| a | 1.50 ± 0.25 | -2 | 9 |
| b | 3 | 4.0 ± 1.0 | 9 |
| a | 7 | 7 | 7 |
"""
FIGURE = figures.Figure('page', ('arm', 'y'), dict(x='X', y='Y'), dict(a='A', b='B'))


def test_values_are_those_of_the_first_table_row_and_column():
    assert figures.values(FIGURE, PAGE) == dict(
        x=dict(a=(1.5, 0.25), b=(3.0, 0.0)), y=dict(a=(-2.0, 0.0), b=(4.0, 1.0))
    )


def test_a_table_or_number_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match=r"page must have a table with \['arm', 'x', 'y'\]"):
        figures.values(FIGURE, PAGE.replace('| y |', '| z |'))
    with pytest.raises(ValueError, match="must have a number for 'b' in 'y'"):
        figures.values(FIGURE, PAGE.replace('4.0 ± 1.0', 'none'))


@pytest.mark.parametrize('name', figures.FIGURES)
def test_figures_of_the_documents_can_be_drawn(name, tmp_path):
    pytest.importorskip('matplotlib')
    figures.main(['--only', name, '--out-dir', str(tmp_path)])
    assert (tmp_path / f'results_{name}.png').stat().st_size > 5000
    pages = (path.read_text(encoding='utf-8') for path in (REPO / 'docs').glob('*.md'))
    assert any(f'images/results_{name}.png' in text for text in pages)
