"""Functions of a few points against those that training takes."""

from __future__ import annotations

import pytest
import torch

from hyper_mm.ops import few_calls, fused

CASES = [
    (dtype, c, size)
    for dtype in (torch.float32, torch.float64)
    for c in (0.3, 1.0, 5.0)
    for size in (1e-3, 1.0, 100.0)
]
every = pytest.mark.parametrize('dtype, c, size', CASES)


def close(found, wanted, condition=1.0):
    """Equal to a few dozen roundings, times a condition, of the largest number."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    limit = 50 * condition * torch.finfo(wanted.dtype).eps * wanted.abs().max()
    assert (found - wanted).abs().max() <= limit


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@every
def test_points(dtype, c, size):
    x, y = size * torch.randn(2, 2, 1, 3, 9, dtype=dtype)
    assert torch.equal(few_calls.norm(x), torch.linalg.vector_norm(x, dim=-1, keepdim=True))
    close(few_calls.to_ambient(x, c), fused.to_ambient(x, c))
    close(few_calls.time_of(few_calls.norm(x), c), fused.to_ambient(x, c)[..., :1])
    wanted = fused.gated_ambient(x, y, c)
    close(few_calls.gated_ambient(x.clone(), y, c), wanted)
    weight = torch.rand(9, dtype=dtype)
    wanted = fused.rms_norm(x, weight, 1e-8)
    close(few_calls.rms_norm(x, few_calls.norm(x), weight, 1e-8), wanted)


@every
@pytest.mark.parametrize('weight', [0.7, 0.0, -0.4])
def test_sums(dtype, c, size, weight):
    x, y = size * torch.randn(2, 3, 1, 9, dtype=dtype)
    wanted = fused.normalized_sum((x, y), (torch.tensor(weight, dtype=dtype),), c, 3.0)
    found = few_calls.add(x, few_calls.norm(x), y, weight, c, 3.0)
    # weights of both signs take the norm from 1 to a few percent of c size^2
    close(found, wanted, 1 if weight >= 0 else 1 + c * size**2)


@every
@pytest.mark.parametrize('count', [2, 3, 5])
def test_centroids(dtype, c, size, count):
    points = size * torch.randn(4, count, 9, dtype=dtype)
    weights = torch.rand(4, count, 1, dtype=dtype) + 0.1
    rest = [w / weights[:, 0] for w in weights.unbind(1)[1:]]
    close(few_calls.centroid(points, weights, c), fused.normalized_sum(points.unbind(1), rest, c))


@every
def test_means(dtype, c, size):
    points = fused.to_ambient(size * torch.randn(2, 3, 5, 9, dtype=dtype), c)
    u = points.mean(-2)
    found, wanted = few_calls.normalize(u, c), fused.normalize(u, None, c)
    close(found, wanted, 1 + c * size**2)


def test_numbers_are_kept_by_dtype():
    one = few_calls.number(0.5, torch.zeros(1))
    assert one is few_calls.number(0.5, torch.ones(3)) and one.dtype == torch.float32
    assert few_calls.number(0.5, torch.zeros(1).double()).dtype == torch.float64
    with torch.inference_mode():
        assert not few_calls.number(0.123, torch.zeros(1)).is_inference()
