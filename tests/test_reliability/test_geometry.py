"""The geometry over a grid of radii, distances, curvatures, precisions, beside other libraries."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.tools import load_tool

stress = load_tool('benchmarks/geometry_stress.py')
CELLS = list(stress.cells())


@pytest.mark.parametrize('name', ['hyper_mm.ops.lorentz', 'hyper_mm.ops.lorentz.dist_tangent0'])
def test_values_and_gradients_are_finite(name):
    peer = stress.peers()[name]
    for dtype, c, dim in CELLS:
        found = stress.measure(peer, getattr(torch, dtype), c, dim)
        assert (found.infinite_value, found.infinite_gradient) == (0, 0), (dtype, c, dim)
        assert found.wrong_return == 0, (dtype, c, dim)


@pytest.mark.parametrize('dtype, farthest', [('float32', 16), ('float64', 36)])
def test_the_ball_is_finite_up_to_its_boundary(dtype, farthest, monkeypatch):
    radii = tuple(r for r in stress.RADII if r <= farthest)
    monkeypatch.setattr(stress, 'RADII', radii)
    for kind, c, dim in CELLS:
        if kind == dtype:
            found = stress.measure(stress.ours_ball(), getattr(torch, dtype), c, dim)
            assert (found.infinite_value, found.infinite_gradient) == (0, 0), (c, dim)
            assert found.wrong_return == 0, (c, dim)


def test_distances_are_right_where_the_coordinates_hold_them(monkeypatch):
    monkeypatch.setattr(stress, 'RADII', (1e-6, 1e-3, 1.0, 3.0))
    for dtype, c, dim in CELLS:
        found = stress.measure(stress.ours(), getattr(torch, dtype), c, dim)
        assert found.wrong_distance == 0, (dtype, c, dim)


def test_the_grid_is_hard():
    """The formulas as written fail in it, and so do clamped ones, which hide it."""
    plain = stress.measure(stress.formulas(False), torch.float32, 1.0, 64)
    clamped = stress.measure(stress.formulas(True), torch.float32, 1.0, 64)
    assert plain.infinite_value and plain.infinite_gradient
    assert not clamped.infinite_value and clamped.wrong_distance


@pytest.mark.parametrize('name', ['geoopt Lorentz', 'geoopt PoincareBall', 'HypLL PoincareBall'])
def test_other_libraries_are_called_in_their_own_way(name, monkeypatch):
    """At moderate radii they agree with the truth: what is counted elsewhere is theirs."""
    if name not in stress.peers():
        pytest.skip(f'{name} is not installed')
    monkeypatch.setattr(stress, 'RADII', (1.0, 3.0))
    monkeypatch.setattr(stress, 'STEPS', (1.0,))
    found = stress.measure(stress.peers()[name], torch.float64, 1.0, 64)
    assert found == (4, 0, 0, 0, 0)


def test_report(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(stress, 'CURVATURES', (1.0,))
    monkeypatch.setattr(stress, 'DIMS', (4,))
    stress.main(['--out', str(tmp_path / 'counts.json')])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 * len(stress.peers())
    assert '| hyper_mm.ops.lorentz, float32 | 50 | 0 | 0 |' in '\n'.join(lines)
