"""Parity of the cost aggregator with the official one."""

import pytest
import torch

from hyper_mm.layers import CostAggregator
from tests.helpers.tools import load_tool

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

FILES = golden_files('hyperclip_aggregator*.npz')


def converter():
    return load_tool('model_converters/cat_seg2mm.py')


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def load(file, dtype, pad=True, **options):
    """The file, and a module with its weights."""
    g = Golden(file, dtype)
    state = converter().convert_aggregator(g.state_dict())
    if not pad:
        state = {k: v for k, v in state.items() if 'padding' not in k}
    layers = 1 + max(int(k.split('.')[1]) for k in state if k.startswith('layers.'))
    blocks = range(2)
    module = CostAggregator(
        text_dim=state['text_proj.0.weight'].shape[1],
        appearance_dim=state['appearance_proj.0.weight'].shape[1],
        guidance_dims=[state[f'guidance_projs.{i}.0.weight'].shape[1] for i in blocks],
        dim=state['embed.weight'].shape[0],
        projected_dim=state['text_proj.0.weight'].shape[0],
        decoder_dims=[state[f'decoder.blocks.{i}.conv1.weight'].shape[0] for i in blocks],
        decoder_guidance_dims=[state[f'guidance_projs.{i}.0.weight'].shape[0] for i in blocks],
        num_layers=layers,
        num_heads=int(g['nheads']),
        window=int(g['window']),
        pad_len=int(g['pad_len']) if pad else 0,
        **options,
    )
    module.load_state_dict(state, strict=True)
    return g, module.to(dtype).eval()


def inputs(g, text):
    image = g['img_feats']
    return image, g[text], [image, g['guid1'], g['guid2']]


def limit(dtype):
    return 9e-6 if dtype == torch.float32 else 3e-7  # stored in float32


@pytest.mark.parametrize('file', FILES)
@pytest.mark.parametrize(
    ('name', 'pooling', 'pad'),
    [('pool1_pad', 1, True), ('pool1_nopad', 1, False), ('pool2_pad', 2, True)],
)
def test_golden_logits(file, dtype, name, pooling, pad):
    g, module = load(file, dtype, pad, test_pooling=(pooling, pooling))
    assert absolute(module(*inputs(g, 'text_small')), g.exact(f'out_{name}')) < limit(dtype)


@pytest.mark.parametrize('file', FILES)
def test_golden_most_likely_classes(file, dtype):
    g, module = load(file, dtype)
    out = module(*inputs(g, 'text_large'))
    assert torch.equal(out.amax((2, 3)) == -100, g['topk_masked'].bool())
    assert absolute(out, g.exact('out_pool1_topk')) < limit(dtype)


@pytest.mark.parametrize('file', FILES)
@pytest.mark.parametrize('chunked', [False, True])
def test_golden_gradients(file, dtype, chunked):
    options = dict(class_chunk=4, checkpoint=True) if chunked else {}
    g, module = load(file, dtype, **options)
    module.train()
    image, text, guidance = inputs(g, 'text_small')
    guidance[0] = image.clone()
    image.requires_grad_()
    text.requires_grad_()
    out = module(image, text, guidance)
    assert absolute(out, g.exact('out_pool2_pad')) < limit(dtype)
    (out * g['cot']).sum().backward()
    error = 1e-5 if dtype == torch.float32 else 1e-9
    assert of_max(image.grad, g.exact('grad_img_feats')) < error
    assert of_max(text.grad, g.exact('grad_text')) < error
