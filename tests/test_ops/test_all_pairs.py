"""Distances of all pairs, in pieces and by the formula."""

import math

import pytest
import torch

from hyper_mm.ops import all_pairs
from hyper_mm.ops.chord import squared_chord
from hyper_mm.ops.lorentz import expmap0, pairwise_dist
from tests.test_ops.test_chord import exact


@pytest.fixture
def narrow(monkeypatch):
    """Pieces of two rows, of three columns each."""
    monkeypatch.setattr(all_pairs, '_CACHE', 6)


def wide_factors(x, y):
    """Factors as the op makes them of float32 points, which are leaves of the graph."""
    left, right, rows, columns = all_pairs.chord_factors(x.double(), y.double())
    bounds = (
        (all_pairs._COINCIDENT * s).float().clamp_min(torch.finfo(torch.float32).tiny)
        for s in (rows, columns.mT)
    )
    return left.detach().requires_grad_(), right.detach().requires_grad_(), *bounds


def both_ways(x, y):
    """Distances and gradients in pieces and by the formula."""
    found = []
    for function in (all_pairs._Distances.apply, all_pairs._distances):
        left, right, rows, columns = wide_factors(x, y)
        value = function(left, right, rows, columns)
        weight = torch.linspace(-1, 2, value.numel()).view_as(value)
        found.append((value, *torch.autograd.grad((value * weight).sum(), (left, right))))
    return zip(*found)


def test_factors_of_chords():
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    left, right, x2, y2 = all_pairs.chord_factors(x, y)
    expected = [[exact(a, b) for b in y] for a in x]
    torch.testing.assert_close(left @ right.mT, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(x2, x.square().sum(-1, keepdim=True))
    assert torch.equal(y2, y.square().sum(-1, keepdim=True))


def test_gradients_of_factors():
    """First and second ones, of each side alone, equal those of the formula."""
    x, y = torch.randn(4, 5, dtype=torch.float64), torch.randn(2, 3, 5, dtype=torch.float64)
    x[0] = 0
    x.requires_grad_(), y.requires_grad_()

    def factors(*points):
        return all_pairs.chord_factors(*points)[:2]

    assert torch.autograd.gradcheck(factors, (x, y), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(factors, (x, y))
    for sides in ((x, y.detach()), (x.detach(), y)):
        for found, expected in zip(factors(*sides), all_pairs._factors(*sides)):
            if expected.requires_grad:
                weight = torch.randn_like(expected)
                one, other = (
                    torch.autograd.grad((t * weight).sum(), [z for z in sides if z.requires_grad])
                    for t in (found, expected)
                )
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize('radius', [1e-3, 0.5, 2.0, 8.0, 38.0])
@pytest.mark.parametrize('width', [2, 128])
def test_gradients_of_far_pairs_in_float32(radius, width):
    """Where a gradient does not cancel, products of float32 numbers keep its digits."""
    u, v = torch.rand(300, width) + 0.1, -torch.rand(200, width) - 0.1
    x, y = (expmap0(radius * t / t.norm(dim=-1, keepdim=True), 1.0) for t in (u, v))
    weight = torch.rand(300, 200)
    found = []
    for dtype in (torch.float32, torch.float64):
        points = [t.to(dtype).requires_grad_() for t in (x, y)]
        value = pairwise_dist(*points, 1.0)
        found.append(torch.autograd.grad((value * weight.to(dtype)).sum(), points))
    for one, other in zip(*found):
        error = (one.double() - other).norm(dim=-1) / other.norm(dim=-1)
        assert error.max() < 4e-6


def test_what_is_accumulated_in_float64():
    """A pair that is near for its radius, in some rows alone, and lengths beyond float32."""
    kinds = all_pairs._Nearness
    bound = all_pairs._COINCIDENT

    def kind(least, row, column):
        return all_pairs._nearness(least, bound * row, bound * column)

    assert kind(1.0, 8.0, 7.9) is kinds.FAR
    assert kind(1.0, 8.1, 0.1) is kinds.NEAR
    assert kind(1.0, 0.1, 8.1) is kinds.NEAR
    assert kind(bound, 1.0, 1.0) is kinds.NEAR
    assert kind(bound / 2, 1.0, 1.0) is kinds.COINCIDENT
    assert kind(0.0, 1.0, 1.0) is kinds.COINCIDENT
    assert kind(1e32, 1e31, 1e31) is kinds.NEAR
    assert kind(math.nan, 1.0, 1.0) is kinds.COINCIDENT
    assert kind(1.0, math.nan, 1.0) is kinds.COINCIDENT
    assert kind(math.inf, math.inf, math.inf) is not kinds.FAR


def test_rows_of_every_kind(narrow):
    """Coincident, near and far pairs in pieces of one product; each piece has its accuracy."""
    x = torch.tensor([[1.0, 0.0], [9.0, 1.0], [-1.0, 0.5], [-2.0, 0.1], [1.0, 1e-2], [0.9, 0.0]])
    y = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    found = []
    for dtype in (torch.float32, torch.float64):
        points = [t.to(dtype).requires_grad_() for t in (x, y)]
        found.append(torch.autograd.grad(pairwise_dist(*points, 1.0).sum(), points))
    for one, other in zip(*found):
        torch.testing.assert_close(one.double(), other, rtol=2e-6, atol=2e-6)


def test_close_pairs_are_computed_again():
    """Two points out there differ by less than the product of matrices rounds."""
    x = torch.tensor([[1e4, 0.0], [1e4, 1e-3]], dtype=torch.float64)
    found = all_pairs.distances(all_pairs.chord_factors(x, x), x, x, squared_chord, 1.0)
    expected = exact(x[0], x[1]) ** 0.5  # the distance of points this near
    assert found[0, 1].item() == pytest.approx(expected, rel=1e-6)
    assert (found.diagonal() == 0).all()


@pytest.mark.parametrize('radius', [1e-6, 1.0, 15.0, 38.0])
@pytest.mark.parametrize('rows', [1, 2, 5])
def test_pieces_equal_the_formula(narrow, radius, rows):
    """Also with coincident points, in some pieces alone, and where ``t^2`` would overflow."""
    u = torch.randn(5, 4)
    x = expmap0(radius * u / u.norm(dim=-1, keepdim=True), 1.0)
    y = torch.stack([x[0], -x[1], x[4]])
    for value, expected in both_ways(x[:rows], y):
        assert value.isfinite().all()
        scale = expected.abs().max().item()
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6 * scale)
    distance = all_pairs._Distances.apply(*wide_factors(x[:rows], y))
    assert distance[0, 0] == 0
    assert (distance[:, 1] > 0).all()


def test_coincident_points_have_no_gradient(narrow):
    x = torch.randn(5, 4)
    left, right, rows, columns = wide_factors(x, x[:3])
    diagonal = all_pairs._Distances.apply(left, right, rows, columns).diagonal()
    assert (diagonal == 0).all()
    for g in torch.autograd.grad(diagonal.sum(), (left, right)):
        assert (g == 0).all()


def test_what_is_no_number_stays_in_its_row_and_column(narrow):
    """A row that is no number does not hide the coincident pair beside it."""
    x = torch.randn(4, 3)
    y = x[:3].clone()
    x[1], y[2] = torch.nan, torch.nan
    found = all_pairs._Distances.apply(*wide_factors(x, y))
    broken = torch.zeros(4, 3, dtype=torch.bool)
    broken[1], broken[:, 2] = True, True
    assert torch.equal(found.isnan(), broken)
    assert found[0, 0] == 0


@pytest.mark.parametrize('which', [0, 1])
def test_one_gradient_alone(narrow, which):
    x, y = torch.randn(5, 4), torch.randn(3, 4)
    inputs = list(wide_factors(x, y))
    both = torch.autograd.grad(all_pairs._Distances.apply(*inputs).sum(), inputs[:2])
    inputs[1 - which] = inputs[1 - which].detach()
    (one,) = torch.autograd.grad(all_pairs._Distances.apply(*inputs).sum(), inputs[which])
    assert torch.equal(one, both[which])


def test_second_derivatives(narrow):
    x, y = torch.randn(5, 4), torch.randn(3, 4)
    found = []
    for function in (all_pairs._Distances.apply, all_pairs._distances):
        left, right, rows, columns = wide_factors(x, y)
        value = function(left, right, rows, columns)
        first = torch.autograd.grad(value.square().sum(), (left, right), create_graph=True)
        total = sum(g.square().sum() for g in first)
        found.append(torch.autograd.grad(total, (left, right)))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_nothing_but_the_roots_is_kept():
    """The product in float64 would take twice the memory of the result."""
    x, y = torch.randn(600, 4), torch.randn(700, 4)
    kept = []

    def pack(t):
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        value = pairwise_dist(x.requires_grad_(), y, 1.0)
    large = {t.data_ptr(): t for t in kept if t.numel() >= value.numel()}
    assert [t.dtype for t in large.values()] == [torch.float32]


@pytest.mark.parametrize('shape', [(0, 3), (3, 0), (0, 0)])
def test_no_points(shape):
    x, y = (torch.zeros(n, 4, requires_grad=True) for n in shape)
    found = pairwise_dist(x, y, 1.0)
    assert found.shape == shape
    found.sum().backward()
