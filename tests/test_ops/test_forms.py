"""Factors of the maps: what their limits say, and close points."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import forms, lorentz, poincare, stable

from .conftest import vectors_of_length


@pytest.mark.parametrize('form', [forms.LORENTZ_EXPMAP, forms.LORENTZ_TRANSPORT_TO0])
def test_limits_are_of_the_largest_row(form):
    near, far = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 2.0**17]).double()
    rest = [torch.zeros(2).double()] * (len(form.products) - 1)
    assert form.limits(near, *rest, 1.0)
    assert not form.limits(far, *rest, 1.0)
    assert form.limits(far, *rest, 0.1)
    assert not form.limits(torch.full((2,), torch.nan).double(), *rest, 1.0)


@pytest.mark.parametrize('radius', [1e-3, 1.0, 5.0])
def test_close_points_keep_their_digits(radius):
    """Pairs a few roundings apart, against float64 from the same numbers."""
    x = lorentz.expmap0(vectors_of_length(radius, 30, 6), 1.0).float()
    y = x * (1 + 1e-5 * torch.linspace(-1, 1, 6))
    for function in (lorentz.dist, lorentz.logmap):
        wide = function(x.double(), y.double(), 1.0)
        assert_close(function(x, y, 1.0), wide.float(), rtol=1e-6, atol=0)
    p, q = (lorentz.to_poincare(t.double(), 1.0).float() for t in (x, y))
    for function in (poincare.dist, poincare.logmap):
        wide = function(p.double(), q.double(), 1.0)
        assert_close(function(p, q, 1.0), wide.float(), rtol=1e-6, atol=0)


def test_chord_ratio():
    """Values and slope, at zero, near it by their limits, and beyond by differentiation."""
    t = torch.logspace(-20, 12, 400, dtype=torch.float64).requires_grad_()
    r = stable.chord_to_distance(t)
    assert_close(forms._ChordRatio.apply(t), 1 / stable.sinhc(r), rtol=1e-13, atol=0)
    (slope,) = torch.autograd.grad(forms._ChordRatio.apply(t).sum(), t)
    near = slope[t < 1e-6]
    assert_close(near, torch.full_like(near, -1 / 6), rtol=1e-6, atol=0)
    far = t[t > 1e-2].detach().requires_grad_()
    (expected,) = torch.autograd.grad((1 / stable.sinhc(stable.chord_to_distance(far))).sum(), far)
    assert_close(slope[t > 1e-2], expected, rtol=1e-8, atol=0)
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    value = forms._ChordRatio.apply(zero)
    assert value == 1
    assert_close(torch.autograd.grad(value, zero)[0], torch.full((1,), -1 / 6).double())
