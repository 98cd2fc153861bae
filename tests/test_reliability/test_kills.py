"""SIGKILL at random moments and within a checkpoint: resumed runs have the bits of others."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

for library in ('mmseg', 'mmdet', 'mmpretrain', 'open_clip'):
    pytest.importorskip(library)

from tests.helpers import hard_life  # noqa: E402
from tests.helpers.doors import Place  # noqa: E402
from tests.helpers.runs import differing  # noqa: E402

FAST = ('himapper-cls',)


def names(folder):
    return sorted(path.name for path in folder.glob('iter_*.pth'))


@pytest.mark.parametrize(
    'family',
    [
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow])
        for name in hard_life.FAMILIES
    ],
)
def test_killed_runs_end_with_the_same_bits(family, tmp_path):
    place = Place(hard_life.FAMILIES[family], tmp_path)
    unbroken, broken = tmp_path / 'unbroken', tmp_path / 'broken'
    begun = time.monotonic()
    assert hard_life.end_of(hard_life.fork(lambda: hard_life.train(place, unbroken))) == 0
    duration = time.monotonic() - begun
    expected = hard_life.state(unbroken)
    size = (unbroken / 'iter_6.pth').stat().st_size

    # in the middle of the checkpoint of the fourth step
    cut = random.randrange(100, size)
    hook = hard_life.CutOff(4, cut)
    pid = hard_life.fork(lambda: hard_life.train(place, broken, (hook,)))
    assert hard_life.end_of(pid) == -signal.SIGXFSZ, cut
    assert names(broken) == ['iter_2.pth']
    # anywhere
    pid = hard_life.fork(lambda: hard_life.train(place, broken))
    delay = random.uniform(0, duration)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    assert hard_life.end_of(pid) in (0, -signal.SIGKILL)
    assert hard_life.end_of(hard_life.fork(lambda: hard_life.train(place, broken))) == 0
    found = hard_life.state(broken)
    assert differing(expected, found) == [], (cut, delay)
    assert not list(broken.glob('.iter_*.part'))
    assert names(broken)[-2:] == ['iter_4.pth', 'iter_6.pth']
