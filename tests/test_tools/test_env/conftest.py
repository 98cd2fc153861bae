"""Fixtures of the tests of the set-up."""

from __future__ import annotations

import pytest

from tests.helpers.tools import load_tool


@pytest.fixture
def mmcv_wheel():
    return load_tool('env/mmcv_wheel.py')


@pytest.fixture
def target(mmcv_wheel):
    return mmcv_wheel.Target('2.11.0+cu130', 'cp311', 'linux_x86_64', cuda='13.0')
