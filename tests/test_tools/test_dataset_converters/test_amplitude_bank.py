"""The tool that writes the bank of amplitudes."""

import mmcv
import numpy as np
import pytest

from tests.helpers.tools import load_tool

TOOL = load_tool('dataset_converters/amplitude_bank.py')


def test_bank_bad_input(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    mmcv.imwrite(np.zeros((5, 20, 3), np.uint8), str(tmp_path / 'small' / 'x.png'))
    for names, message in (
        (['a=x', 'a=y'], "names must differ, got ['a', 'a']"),
        ([f'a={tmp_path / "empty"}'], 'no image'),
        ([f'a={tmp_path / "small"}'], 'x.png: half must be'),
        (['a'], 'NAME=DIR'),
    ):
        with pytest.raises(SystemExit):
            TOOL.main([*names, '-o', str(tmp_path / 'bank.npz')])
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'bank.npz').exists()
