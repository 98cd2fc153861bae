"""Options and tables of an adaptation; the whole of it is tested with tools/adapt.py."""

import math
from pathlib import Path

import pytest

pytest.importorskip('mmseg')
pytest.importorskip('monai')

from hyper_mm.engine.adaptation.site_adaptation import (  # noqa: E402
    Options,
    finite,
    table_of,
)


@pytest.mark.parametrize(
    'options',
    [
        dict(steps=0), dict(rate=-1.0), dict(rates=[0.1, 0.0]), dict(crop=0), dict(folds=1),
        dict(spacing=0.0), dict(pictures=-1), dict(seed=-1), dict(rates=[0.1], rate=0.1),
        dict(classes=['a', 'a']),
    ],
)  # fmt: skip
def test_bad_options(options):
    name = {'rate': 'lr'}.get([*options][0], [*options][0])
    with pytest.raises(ValueError, match=name):
        Options(Path('x'), **options)


def test_table_of_what_was_tried():
    tried = {(None, 0): 10.0, (0.1, 2): 20.0, (0.1, 4): 30.0, (1.0, 2): -float('inf')}
    assert table_of(tried) == [
        ['rate', '2 steps', '4 steps'],
        ['not adapted', '10.0', ''],
        ['0.1', '20.0', '30.0'],
        ['1', 'diverges', 'diverges'],
    ]
    assert table_of({}) == []


def test_scores_are_json():
    """Which has no NaN: a reader of another language stops at it."""
    scores = dict(a=[1.0, math.nan, -math.inf], b=dict(c=(math.inf, 2, 'x', None)))
    assert finite(scores) == dict(a=[1.0, None, None], b=dict(c=[None, 2, 'x', None]))
