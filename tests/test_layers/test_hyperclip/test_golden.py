"""Parity of HyperCLIP's adapter with the official one: weights, blocks, and their gradients."""

import pytest
import torch

from hyper_mm.layers import BlockDiagonalMobius, HyperCLIPAdapter
from hyper_mm.layers.hyperclip.adapter import ProjectionMaps
from hyper_mm.layers.open_vocab.dense_clip import dense_block

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

ADAPTERS = golden_files('hyperclip_adapter*.npz')
BLOCKS = golden_files('hyperclip_blocks*.npz')


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def projection_maps(g, dtype, **options):
    blocks, n, _ = g['S_q'].shape
    maps = {part: BlockDiagonalMobius(blocks * n, n, **options).to(dtype) for part in 'qkv'}
    for part, one in maps.items():
        one.weight.data.copy_(g[f'S_{part}'])
    return ProjectionMaps(maps)


@pytest.mark.parametrize('file', ADAPTERS)
@pytest.mark.parametrize('rows', ['safe', 'clip'])
@pytest.mark.parametrize('which', [0, 1])
def test_golden_adapted_weights_and_gradients(file, rows, which, dtype):
    g = Golden(file, dtype)
    maps = projection_maps(g, dtype, curvature=float(g.exact('c')[which]))
    found = maps(g[f'W_{rows}'])
    name = f'{rows}_c{which}'
    clipped = g[f'clipped_rows_{name}'].double().mean()
    # three times what the README expects of float32; the rows are stored in float32, too
    single = dtype == torch.float32
    error = (9e-5 if clipped else 3e-6) if single else 9e-7
    assert absolute(found, g.exact(f'Wp_{name}')) < error
    (found * g['cot']).sum().backward()
    for part, one in maps.maps.items():
        expected = g.exact(f'grad_S_{part}_{name}')
        assert of_max(one.weight.grad, expected) < (3e-6 if single else 1e-9)
    shares = [one.clipped(w) for one, w in zip(maps.maps.values(), g[f'W_{rows}'].chunk(3))]
    assert abs(sum(shares) / 3 - clipped) < 1e-6


@pytest.mark.parametrize('file', ADAPTERS)
@pytest.mark.parametrize('rows', ['safe', 'clip'])
def test_golden_euclidean_weights(file, rows, dtype):
    g = Golden(file, dtype)
    found = projection_maps(g, dtype, space='euclidean')(g[f'W_{rows}'])
    assert absolute(found, g.exact(f'Wp_euclid_{rows}')) < (
        3e-6 if dtype == torch.float32 else 9e-7
    )


def tower(g, name, dtype):
    """A tower of open_clip with the weights of the file, and its adapter's state."""
    transformer = pytest.importorskip('open_clip.transformer')
    state = {k[len(name) + 1 :]: v for k, v in g.state_dict().items() if k.startswith(name)}
    mapped = {}
    for key in [k for k in state if 'hyperbolic_attn' in k]:
        ours = key.replace('hyperbolic_attn.adapter_attn_', 'attn.').replace('weights', 'weight')
        mapped[ours] = state.pop(key)
    layers = 1 + max(int(k.split('.')[1]) for k in state)
    module = transformer.Transformer(
        g['x'].shape[-1], layers, int(g['num_heads']), act_layer=transformer.QuickGELU
    ).to(dtype)
    module.load_state_dict(state)
    return module, mapped


def adapt(g, name, curvature, dtype):
    module, mapped = tower(g, name, dtype)
    adapter = HyperCLIPAdapter(int(g['block_size']), curvature=curvature).attach(module)
    for one in adapter.parameters():
        one.data = one.data.to(dtype)
    options = {k: v for k, v in adapter.state_dict().items() if k == 'options'}
    adapter.load_state_dict({**mapped, **options})
    return module, adapter


def check_gradients(g, prefix, adapter, error):
    checked, names = 0, g.keys()
    for name, one in adapter.named_maps():
        block, _, part = name.rsplit('.', 2)
        key = f'{prefix}.{block}.hyperbolic_attn.adapter_attn_{part}.weights'
        if key in names:
            expected = g.exact(key)
            found = torch.zeros_like(one.weight) if one.weight.grad is None else one.weight.grad
            assert absolute(found, expected) <= error * max(expected.abs().max().item(), 1e-6)
            checked += 1
    assert checked


@pytest.mark.parametrize('file', BLOCKS)
@pytest.mark.parametrize('which', [0, 1])
def test_golden_text_blocks(file, which, dtype):
    g = Golden(file, dtype)
    module, adapter = adapt(g, 'text', float(g.exact('text_c')[which]), dtype)
    length = g['x'].shape[1]
    mask = torch.full((length, length), -torch.inf, dtype=dtype).triu(1)
    error = 1e-5 if dtype == torch.float32 else 1e-9
    block = module.resblocks[0]
    x = block.ln_1(g['x'])
    attended = block.attn(x, x, x, need_weights=False, attn_mask=mask)[0]
    assert absolute(attended, g.exact(f'text_attn0_c{which}')) < error
    out = module(g['x'], attn_mask=mask)
    expected = g.exact(f'text_out_c{which}')
    assert absolute(out, expected) < error * expected.abs().max()
    if which == 0:
        (out * g['cot']).sum().backward()
        check_gradients(g, 'grad.text_c0', adapter, 1e-5 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize('file', BLOCKS)
def test_golden_vision_blocks_with_a_dense_last_one(file, dtype):
    g = Golden(file, dtype)
    module, adapter = adapt(g, 'vision', float(g.exact('vision_c')), dtype)
    error = 1e-5 if dtype == torch.float32 else 1e-9
    *blocks, last = module.resblocks
    x = blocks[0].ln_1(g['x'])
    attended = blocks[0].attn(x, x, x, need_weights=False)[0]
    assert absolute(attended, g.exact('vision_attn0')) < error
    x = g['x']
    for block in blocks:
        x = block(x)
    out = dense_block(last, x)
    expected = g.exact('vision_dense_out')
    assert absolute(out, expected) < error * expected.abs().max()
    (out * g['cot']).sum().backward()
    check_gradients(g, 'grad.vision', adapter, 1e-5 if dtype == torch.float32 else 1e-9)
