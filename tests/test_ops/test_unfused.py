"""The formulas of the fused functions, against their definitions and against the fused ones."""

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.ops import fused, lorentz, unfused

C = 0.7


@pytest.fixture
def x():
    return torch.randn(2, 5, 3, 4, dtype=torch.float64)


def inner(x, y):
    """Lorentzian product of ambient points, time first."""
    return (x * y).sum(-1) - 2 * x[..., 0] * y[..., 0]


def test_lifted_points_are_on_the_hyperboloid(x):
    points = unfused.lift(x, C)
    assert_close(inner(points, points), torch.full_like(x[..., 0], -1 / C))
    assert torch.equal(points[..., 1:], x)
    gated = unfused.gated_lift(x, x + 1, C)
    assert_close(gated[..., 1:], x * x.sigmoid() * (x + 1))
    assert_close(inner(gated, gated), torch.full_like(x[..., 0], -1 / C))


def test_norm_is_one():
    x = 9 * torch.randn(3, 8, dtype=torch.float64)
    found = unfused.rms_norm(x, torch.full((8,), 2.0, dtype=torch.float64), 0.0)
    assert_close(found.square().mean(-1), torch.full((3,), 4.0, dtype=torch.float64))


def test_sum_is_that_of_ambient_points(x):
    points, weights = (x, 2 * x, x - 1), (0.4, 1.3)
    found = unfused.normalised_sum(points, weights, C, 1.0)
    ambient = sum(w * unfused.lift(p, C) for w, p in zip((1.0, *weights), points))
    length = (-C * inner(ambient, ambient)).sqrt().unsqueeze(-1)
    assert_close(found, ambient[..., 1:] / length)


def test_rotation_turns_the_last_pairs_alone(x):
    angle = torch.tensor([0.3], dtype=torch.float64)
    found = unfused.rotate(x, torch.polar(torch.ones_like(angle), angle))
    assert torch.equal(found[..., :2], x[..., :2])
    pair = torch.view_as_complex(x[..., 2:].contiguous()) * torch.exp(1j * angle[0])
    assert_close(found[..., 2:], torch.view_as_real(pair))


def test_queries_times_keys_are_lorentzian_products(x):
    keys, middle = unfused.heads(x, C, None, None, None, 8)
    assert middle is None and keys.shape[-1] == 8 and (keys[..., 5:] == 0).all()
    queries, _ = unfused.heads(x, C, None, torch.ones((), dtype=torch.float64), None, 8)
    points = unfused.lift(x, C)
    assert_close((queries * keys.flip(1)).sum(-1), inner(points, points.flip(1)))


@pytest.mark.parametrize('centre', ['mean', 'first'])
def test_centred_keys_add_up_to_the_points(x, centre):
    keys, middle = unfused.heads(x, C, None, None, centre, 5)
    assert_close(keys + middle, unfused.lift(x, C))


@pytest.mark.parametrize(
    'name, args',
    [
        ('lift', (C,)),
        ('gated_lift', (torch.ones((), dtype=torch.float64), C)),
        ('rms_norm', (torch.linspace(1, 2, 4, dtype=torch.float64), 1e-6)),
    ],
)
def test_equals_the_fused_one(x, name, args):
    assert_close(getattr(unfused, name)(x, *args), getattr(fused, name)(x, *args))


def test_points_stay_themselves_when_normalised(x):
    points = unfused.lift(x, C)
    mean = points.mean(1, keepdim=True)
    found = unfused.normalise(points - mean, mean, C)
    assert_close(lorentz.dist(found[..., 1:], x, C), torch.zeros_like(x[..., 0]), rtol=0, atol=1e-6)
