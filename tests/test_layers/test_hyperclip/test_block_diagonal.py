import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hyper_mm.layers import BlockDiagonalMobius
from hyper_mm.ops import poincare
from tests.conftest import no_old_dynamo


def random_map(dim=12, block_size=4, noise=0.3, **options):
    module = BlockDiagonalMobius(dim, block_size, **options).double()
    with torch.no_grad():
        module.weight += noise * torch.randn_like(module.weight)
    return module


def dense(module):
    blocks = module.weight.expand(module.dim // module.weight.shape[-1], -1, -1)
    return torch.block_diag(*blocks)


@given(c=st.sampled_from([0.01, 0.1, 1.0, 10.0]), seed=st.integers(0, 99), shared=st.booleans())
def test_equals_the_chain_of_maps_and_the_linear_map_within_the_largest_length(c, seed, shared):
    torch.manual_seed(seed)
    module = random_map(curvature=c, shared=shared)
    w = torch.randn(5, 12, dtype=torch.float64)
    matrix = dense(module)
    longest = torch.maximum(w.norm(dim=-1), (w @ matrix.T).norm(dim=-1)).max()
    w = w * 0.99 * module.max_length / longest
    found = module(w)
    torch.testing.assert_close(found, w @ matrix.T)
    torch.testing.assert_close(found, module.linear(w))
    ball = poincare.mobius_matvec(matrix, poincare.expmap0(w, c), c)
    torch.testing.assert_close(found, poincare.logmap0(ball, c), rtol=1e-6, atol=1e-9)
    assert module.clipped(w) == 0


@pytest.mark.parametrize('c', [0.01, 1.0])
def test_long_results_keep_their_direction_and_get_the_largest_length(c):
    module = random_map(curvature=c)
    w = torch.randn(6, 12, dtype=torch.float64) * 1e3
    found, linear = module(w), module.linear(w)
    assert torch.allclose(found.norm(dim=-1), torch.tensor(math.atanh(0.999) / c**0.5).double())
    torch.testing.assert_close(
        found / found.norm(dim=-1, keepdim=True), torch.nn.functional.normalize(linear, dim=-1)
    )
    half = torch.cat([w, 1e-3 * torch.ones_like(w)])
    assert module.clipped(half) == 0.5
    torch.testing.assert_close(random_map(space='euclidean').clipped(half), torch.tensor(0.0))


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('shared', [False, True])
def test_blocks_form_one_matrix(transposed, shared):
    module = random_map(space='euclidean', transposed=transposed, shared=shared)
    assert module.weight.shape == (1 if shared else 3, 4, 4)
    matrix = dense(module).T if transposed else dense(module)
    x = torch.randn(2, 3, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x), x @ matrix.T)
    torch.testing.assert_close(module.linear(x, transposed=not transposed), x @ matrix)


@pytest.mark.parametrize('transposed', [False, True])
def test_starts_as_the_identity(transposed):
    x = torch.randn(4, 12)
    torch.testing.assert_close(BlockDiagonalMobius(12, 4, transposed=transposed)(x), x)


@pytest.mark.parametrize('scale', [0.0, 1e-30, 1.0, 1e4, 1e15])
def test_values_and_gradients_are_finite(scale):
    module = BlockDiagonalMobius(12, 4, curvature=1.0)
    x = (scale * torch.randn(4, 12)).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert module.weight.grad.isfinite().all()


def test_gradcheck_on_both_sides_of_the_largest_length():
    module = random_map(curvature=1.0)
    x = torch.randn(3, 12, dtype=torch.float64) * torch.tensor([[0.3], [1.0], [9.0]]).double()
    assert torch.autograd.gradcheck(module, x.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(module, {'weight': w}, x.detach()), module.weight
    )


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    module = random_map(curvature=1.0).float()
    x = 3 * torch.randn(4, 12).to(dtype)
    expected = module(x.float()).to(dtype)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(module(x.float()), module(x.float()), rtol=0, atol=0)
        assert module.linear(x.float()).dtype == torch.float32


@no_old_dynamo
def test_compiles():
    module = random_map(curvature=1.0)
    x = torch.randn(4, 12, dtype=torch.float64)
    torch.testing.assert_close(torch.compile(module, backend='eager', fullgraph=True)(x), module(x))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(block_size=5), r'block_size must divide the width 12 .*6.*, got 5'),
        (dict(block_size=0), 'block_size .* got 0'),
        (dict(block_size=4, space='lorentz'), "space must be one of .*, got 'lorentz'"),
        (dict(block_size=4, curvature=0.0), r'curvature must be in \(0, inf\), got 0.0'),
        (dict(block_size=4, curvature=-1.0), r'curvature must be in \(0, inf\), got -1.0'),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        BlockDiagonalMobius(12, **options)
