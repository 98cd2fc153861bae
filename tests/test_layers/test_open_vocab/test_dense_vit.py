"""Dense features of timm's vision transformers against the formulas."""

import pytest
import torch
from torch import nn

pytest.importorskip('open_clip')
pytest.importorskip('timm')

from hyper_mm.layers import DenseCLIP, apply_hyperclip  # noqa: E402
from hyper_mm.layers.open_vocab.dense_vit import is_timm_vit  # noqa: E402
from tests.helpers.clip_families import make_family  # noqa: E402

POOLED = {
    'ViT-B-16-SigLIP': 'map',
    'PE-Core-B-16': 'map',
    'EVA02-B-16': 'token',
    'MobileCLIP-B': 'token',
    'ViTamin-S': 'avg',
}


def tower(name, tmp_path):
    visual = make_family(name, tmp_path).visual
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # layer scales, and the position-dependent parts, count
        for parameter in visual.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    images = torch.randn(2, 3, *visual.image_size, generator=generator)
    return visual, images


@pytest.mark.parametrize('name', POOLED)
@torch.no_grad()
def test_each_position_alone(name, tmp_path):
    visual, images = tower(name, tmp_path)
    trunk = visual.trunk
    assert is_timm_vit(visual)
    entering = []
    handle = trunk.blocks[-1].register_forward_pre_hook(lambda m, x: entering.append(x[0]))
    tokens = trunk.forward_features(images)
    handle.remove()
    assert (trunk.global_pool if trunk.attn_pool is None else 'map') == POOLED[name]
    found = DenseCLIP(visual)(images)
    skipped = trunk.num_prefix_tokens
    count = tokens.shape[1] - skipped
    assert found.features.flatten(2).shape == (2, visual(images).shape[1], count)
    for place in (0, count - 1):
        one = tokens[:, skipped + place : skipped + place + 1]
        if POOLED[name] == 'token':
            block, x = trunk.blocks[-1], entering[0]
            y = block.attn(block.norm1(x[:, skipped + place : skipped + place + 1]))
            gamma = [getattr(block, f'gamma_{i}', None) for i in (1, 2)]
            gamma = [1 if g is None else g for g in gamma]
            y = x[:, :1] + getattr(block, 'ls1', nn.Identity())(y) * gamma[0]
            z = getattr(block, 'ls2', nn.Identity())(block.mlp(block.norm2(y)))
            one = trunk.norm(y + z * gamma[1])
        pooled = trunk.attn_pool(one) if POOLED[name] == 'map' else one[:, 0]
        expected = visual.head(trunk.head(trunk.fc_norm(pooled)))
        got = found.features.flatten(2)[..., place]
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_value_path_by_its_weights(tmp_path):
    visual, images = tower('MobileCLIP-B', tmp_path)
    block, entering = visual.trunk.blocks[-1], []
    block.register_forward_pre_hook(lambda m, x: entering.append(x[0]))
    visual(images)
    x = block.norm1(entering[0][:, 1:])
    weight, bias = (p[2 * x.shape[-1] :] for p in (block.attn.qkv.weight, block.attn.qkv.bias))
    value = block.ls1(block.attn.proj(nn.functional.linear(x, weight, bias)))
    y = entering[0][:, :1] + value
    out = visual.trunk.norm(y + block.ls2(block.mlp(block.norm2(y))))
    expected = visual.head(visual.trunk.head(visual.trunk.fc_norm(out)))
    found = DenseCLIP(visual)(images).features.flatten(2).mT
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_mean_is_the_feature_of_the_image(tmp_path):
    visual, images = tower('ViTamin-S', tmp_path)
    if not isinstance(visual.trunk.fc_norm, nn.Identity):  # the mean of norms is no norm of means
        visual.trunk.fc_norm = nn.Identity()
    found = DenseCLIP(visual)(images).features.mean((2, 3))
    torch.testing.assert_close(found, visual(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('name', ['ViT-B-16-SigLIP', 'EVA02-B-16'])
@torch.no_grad()
def test_maps_are_those_of_the_blocks(name, tmp_path):
    visual, images = tower(name, tmp_path)
    kept = []
    visual.trunk.blocks[0].register_forward_hook(lambda m, x, y: kept.append(y))
    (found,) = DenseCLIP(visual, taps=(0,))(images).intermediate
    expected = kept[0][:, visual.trunk.num_prefix_tokens :]
    torch.testing.assert_close(found.flatten(2).mT, expected)


def test_adapters_and_gradients_reach_the_last_block(tmp_path):
    model = make_family('MobileCLIP-B', tmp_path)
    adapter = apply_hyperclip(model, 8, towers=('vision',))
    images = torch.randn(1, 3, *model.visual.image_size)
    DenseCLIP(model.visual)(images).features.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())


def test_what_has_no_dense_features_is_named(tmp_path):
    with pytest.raises(ValueError, match='norms in front .* EvaBlockPostNorm'):
        DenseCLIP(make_family('EVA02-E-14', tmp_path).visual)
    with pytest.raises(ValueError, match=r'taps must lie in 0..0, got \[1\]'):
        DenseCLIP(make_family('ViT-B-16-SigLIP', tmp_path).visual, taps=(1,))
