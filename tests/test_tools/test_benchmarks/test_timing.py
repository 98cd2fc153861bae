"""How benchmarks take turns; no time is measured here."""

from __future__ import annotations

import itertools

import pytest

from tests.helpers.tools import load_tool


@pytest.fixture
def tool():
    return load_tool('benchmarks/timing.py')


def test_turns_alternate_and_the_first_do_not_count(tool):
    calls, ticks = [], itertools.count()
    now = []

    def clock():
        return sum(now)

    def run(name, seconds):
        calls.append(name)
        now.append(seconds + next(ticks) // 100)

    first, second = tool.in_turns(
        lambda: run('a', 1.0), lambda: run('b', 3.0), repeats=3, warm_up=1, clock=clock
    )
    assert first == [1.0] * 3 and second == [3.0] * 3
    assert ''.join(calls) in ('abbaabba', 'baabbaab')


def test_quartiles(tool):
    assert tool.quartiles([2.0]) == [2.0] * 3
    assert tool.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == [2.0, 3.0, 4.0]


def test_ratio_is_of_the_second_to_the_first(tool, monkeypatch):
    monkeypatch.setattr(tool, 'in_turns', lambda *args: ([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]))
    assert tool.ratio(None, None, 3) == (2.0, [0.75, 1.0, 1.5])
