"""Options that the tools have in common."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip('mmengine')

from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    load_tool('options.py').add_run_options(parser)
    return parser


def test_options_are_read_as_mmengine_reads_them(parser):
    given = ['a.b=1', 'c=[1,2]', 'd=(x,True)', 'e=text', 'f=a=b', 'g=None']
    args = parser.parse_args(['--cfg-options', *given, '--cfg-options', 'a.b=2.5'])
    expected = {'c': [1, 2], 'd': ('x', True), 'e': 'text', 'f': 'a=b', 'g': None, 'a.b': 2.5}
    assert args.cfg_options == expected
    assert parser.parse_args([]).cfg_options is None


def test_an_option_without_a_value_is_named(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a=1', 'model.neck'])
    assert "takes key=value, got 'model.neck'" in capsys.readouterr().err
