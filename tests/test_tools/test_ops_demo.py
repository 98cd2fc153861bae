"""The demo of the geometry alone."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tools import load_tool


@pytest.fixture(scope='module')
def ops_demo():
    return load_tool('ops_demo.py')


def test_distances_of_the_tree(ops_demo):
    parents, tree = ops_demo.binary_tree(2)
    assert parents.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(tree, tree.T) and tree.diagonal().eq(0).all()
    assert tree[3].tolist() == [2, 1, 3, 0, 2, 4, 4]


def test_the_hyperbolic_plane_has_room_for_the_tree(ops_demo):
    _, tree = ops_demo.binary_tree(4)
    distortion = {
        hyperbolic: ops_demo.embed(tree, ops_demo.sectors(4), hyperbolic, 300)[1]
        for hyperbolic in (False, True)
    }
    assert distortion[True] < 0.6 * distortion[False]


def test_picture(ops_demo, tmp_path, capsys):
    pytest.importorskip('matplotlib')
    ops_demo.main(['--depth', '2', '--steps', '3', '--out', str(tmp_path / 'tree.png')])
    assert (tmp_path / 'tree.png').stat().st_size > 5000
    assert 'hyperbolic plane, 7 nodes' in capsys.readouterr().out


def test_depth_is_checked(ops_demo, capsys):
    with pytest.raises(SystemExit):
        ops_demo.main(['--depth', '0'])
    assert '--depth and --steps must be at least 1, got 0' in capsys.readouterr().err
