"""Squared chords against the definition with 60 digits."""

import mpmath
import pytest
import torch

from hyper_mm.ops import chord
from hyper_mm.ops.lorentz import expmap0

RADII = [1e-6, 0.3, 4.0, 15.0]


def exact(x, y):
    """-2 - 2 <x, y> of points of curvature -1, given by their space parts."""
    with mpmath.workdps(60):
        x, y = ([mpmath.mpf(v) for v in z] for z in (x.tolist(), y.tolist()))
        times = [mpmath.sqrt(1 + sum(v * v for v in z)) for z in (x, y)]
        product = sum(a * b for a, b in zip(x, y)) - times[0] * times[1]
        return float(-2 - 2 * product)


def pairs(radius, gap, dim=5, n=6):
    """Points at a radius, others near them at the gap times their size, and the opposite ones."""
    u = torch.randn(n, dim, dtype=torch.float64)
    u = radius * u / u.norm(dim=-1, keepdim=True)
    v = u + gap * radius * torch.randn(n, dim, dtype=torch.float64)
    return torch.cat([u, u]), torch.cat([v, -v])


@pytest.mark.parametrize('radius', RADII)
@pytest.mark.parametrize('gap', [1e-9, 1e-3, 1.0])
def test_of_points(radius, gap):
    x, y = (expmap0(z, 1.0) for z in pairs(radius, gap))
    found = chord.squared_chord(x, y, 1.0)
    expected = torch.tensor([exact(a, b) for a, b in zip(x, y)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize('radius', RADII)
@pytest.mark.parametrize('gap', [1e-9, 1e-3, 1.0])
def test_of_tangents(radius, gap):
    """Points are computed with 60 digits too: near ones at a large radius have no others."""
    u, v = pairs(radius, gap)
    expected = []
    with mpmath.workdps(60):
        for a, b in zip(u.tolist(), v.tolist()):
            a, b = ([mpmath.mpf(t) for t in z] for z in (a, b))
            ra, rb = (mpmath.sqrt(sum(t * t for t in z)) for z in (a, b))
            cosine = sum(s * t for s, t in zip(a, b)) / (ra * rb)
            product = mpmath.sinh(ra) * mpmath.sinh(rb) * cosine - mpmath.cosh(ra) * mpmath.cosh(rb)
            expected.append(float(-2 - 2 * product))
    expected = torch.tensor(expected, dtype=torch.float64)
    found = chord.squared_chord_tangent0(u, v, 1.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_curvature_scales_the_points():
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    for function in (chord.squared_chord, chord.squared_chord_tangent0):
        torch.testing.assert_close(function(x, y, 0.5), function(x / 2, y / 2, 1.0))
