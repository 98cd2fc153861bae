"""Dense vision towers, against open_clip's own tower and the official blocks."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hyper_mm.layers import DenseCLIP
from hyper_mm.layers.open_vocab.dense_clip import dense_block, dense_features, resize_positions

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

PRECISIONS = [torch.float32, torch.float64]


@pytest.fixture
def visual():
    open_clip = pytest.importorskip('open_clip')
    return open_clip.transformer.VisionTransformer(32, 8, 24, 3, 3, 2.0, output_dim=16).eval()


class TestTower:
    def test_maps_equal_open_clip_s(self, visual):
        images = torch.randn(2, 3, 32, 32)
        _, maps = DenseCLIP(visual, taps=(1, 0))(images)
        expected = visual.forward_intermediates(images, indices=[0, 1])['image_intermediates']
        torch.testing.assert_close(maps[0], expected[1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(maps[1], expected[0], rtol=1e-4, atol=1e-5)

    def test_features_step_by_step(self, visual):
        images = torch.randn(2, 3, 32, 32)
        x = visual._embeds(images)
        for block in visual.transformer.resblocks[:-1]:
            x = block(x)
        block = visual.transformer.resblocks[-1]
        _, _, value = F.linear(
            block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias
        ).chunk(3, dim=-1)
        x = block.attn.out_proj(value) + x[:, :1]
        x = visual.ln_post(x + block.mlp(block.ln_2(x))) @ visual.proj
        found = dense_features(visual, images).features
        assert found.shape == (2, 16, 4, 4)
        torch.testing.assert_close(
            found, x[:, 1:].transpose(1, 2).reshape(2, 16, 4, 4), rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize('size', [(32, 48), (16, 16), (64, 40)])
    def test_any_size(self, visual, size):
        features, (first,) = dense_features(visual, torch.randn(2, 3, *size), taps=(0,))
        grid = (size[0] // 8, size[1] // 8)
        assert features.shape == (2, 16, *grid)
        assert first.shape == (2, 24, *grid)
        assert features.isfinite().all()

    def test_images_of_a_batch_do_not_mix(self, visual):
        images = torch.randn(3, 3, 32, 40)
        together = dense_features(visual, images).features
        alone = torch.cat([dense_features(visual, image[None]).features for image in images])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)

    def test_checkpointed_gradients_are_the_same(self, visual):
        visual = copy.deepcopy(visual).double().train()
        images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
        parameters = [p for n, p in visual.named_parameters() if 'resblocks' in n]
        found = []
        for checkpointing in (False, True):
            visual.set_grad_checkpointing(checkpointing)
            total = dense_features(visual, images).features.square().sum()
            found.append(torch.autograd.grad(total, parameters, allow_unused=True))
        assert sum(g is None for g in found[0]) == 0
        for a, b in zip(*found):
            torch.testing.assert_close(a, b)

    def test_queries_and_keys_of_the_last_block_are_dead(self, visual):
        dense_features(visual, torch.randn(1, 3, 32, 32)).features.square().sum().backward()
        gradient = visual.transformer.resblocks[-1].attn.in_proj_weight.grad
        assert gradient[:48].eq(0).all()
        assert gradient[48:].ne(0).any()

    def test_double_and_bfloat16(self, visual):
        images = torch.randn(1, 3, 32, 32)
        single = dense_features(visual, images).features
        with torch.autocast('cpu', torch.bfloat16):
            low = dense_features(visual, images).features
        double = dense_features(copy.deepcopy(visual).double(), images.double()).features
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)
        assert (low.float() - single).abs().max() < 0.05 * single.abs().max()

    def test_parts_are_those_of_the_tower(self, visual):
        dense = DenseCLIP(visual)
        assert dict(dense.visual.named_parameters()) == dict(visual.named_parameters())


class TestPositions:
    def test_same_size_is_the_same_tensor(self):
        positions = torch.randn(13, 5)
        assert resize_positions(positions, (3, 4), (3, 4)) is positions

    def test_class_token_and_constants_stay(self):
        positions = torch.cat([torch.randn(1, 5), torch.randn(5).expand(12, 5)])
        larger = resize_positions(positions, (3, 4), (6, 7))
        torch.testing.assert_close(larger[0], positions[0])
        torch.testing.assert_close(larger[1:], positions[1:2].expand(42, 5))

    def test_rows_and_columns_are_not_exchanged(self):
        rows = torch.arange(3.0).repeat_interleave(4)[:, None]
        found = resize_positions(torch.cat([torch.zeros(1, 1), rows]), (3, 4), (3, 8))
        torch.testing.assert_close(
            found[1:].reshape(3, 8)[:, :1].expand(3, 8).reshape(-1, 1), found[1:]
        )

    def test_gradient(self):
        positions = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda p: resize_positions(p.float(), (2, 2), (3, 3)).double(),
            positions,
            eps=1e-2,
            atol=1e-3,
        )


class TestBadInput:
    def test_size(self, visual):
        with pytest.raises(ValueError, match='multiples of the patch size .*got 32 x 30'):
            DenseCLIP(visual)(torch.randn(1, 3, 32, 30))

    @pytest.mark.parametrize('tap', [-1, 2, 7])
    def test_taps(self, visual, tap):
        with pytest.raises(ValueError, match=rf'taps must lie in 0..1, got \[{tap}\]'):
            DenseCLIP(visual, taps=(0, tap))

    def test_tower_of_another_kind(self):
        with pytest.raises(TypeError, match='Linear lacks .*transformer'):
            DenseCLIP(nn.Linear(2, 2))

    def test_patch_dropout(self, visual):
        visual.patch_dropout = nn.Dropout(0.5)
        with pytest.raises(ValueError, match='patch_dropout=0'):
            DenseCLIP(visual)

    def test_attention_pooling(self, visual):
        visual.attn_pool = nn.Linear(2, 2)
        with pytest.raises(ValueError, match='not pool by attention'):
            DenseCLIP(visual)

    def test_blocks_that_are_not_batch_first(self, visual):
        visual.transformer.resblocks[1].attn.batch_first = False
        with pytest.raises(TypeError, match='batch first'):
            DenseCLIP(visual)


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """What a block of open_clip has, of torch alone."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module('c_fc', nn.Linear(width, hidden))
        self.mlp.add_module('gelu', QuickGELU())
        self.mlp.add_module('c_proj', nn.Linear(hidden, width))
        self.ls_1 = self.ls_2 = nn.Identity()

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


@pytest.mark.parametrize('dtype', PRECISIONS, ids=['float32', 'float64'])
@pytest.mark.parametrize('file', golden_files('hyperclip_blocks*.npz'))
def test_golden_dense_tower(file, dtype):
    """The official vision blocks; their adapters folded into the weights (Euclidean product)."""
    g = Golden(file, dtype)
    state, adapters = {}, {}
    for name, value in g.state_dict('sd.vision.resblocks.').items():
        (adapters if '.hyperbolic_attn.' in name else state)[name] = value
    width = g['x'].shape[-1]
    count = 1 + max(int(name.split('.')[0]) for name in state)
    hidden = state['0.mlp.c_fc.weight'].shape[0]
    blocks = nn.ModuleList(Block(width, int(g['num_heads']), hidden) for _ in range(count)).to(
        dtype
    )
    adapters = {name: value.requires_grad_() for name, value in adapters.items()}
    for i in range(count):
        weight = state[f'{i}.attn.in_proj_weight'].chunk(3)
        parts = [adapters[f'{i}.hyperbolic_attn.adapter_attn_{k}.weights'] for k in 'qkv']
        folded = torch.cat([w @ torch.block_diag(*s).mT for w, s in zip(weight, parts)])
        state[f'{i}.attn.in_proj_weight'] = folded

    def forward(x):
        for i, block in enumerate(blocks):
            own = {n.split('.', 1)[1]: v for n, v in state.items() if n.startswith(f'{i}.')}
            run = block if i < count - 1 else Dense(block)
            own = own if i < count - 1 else {f'block.{n}': v for n, v in own.items()}
            x = torch.func.functional_call(run, own, (x,))
        return x

    out = forward(g['x'])
    assert absolute(out, g.exact('vision_dense_out')) < (2e-5 if dtype == torch.float32 else 1e-7)
    gradients = torch.autograd.grad((out * g['cot']).sum(), adapters.values())
    for name, gradient in zip(adapters, gradients):
        expected = g.exact(f'grad.vision.resblocks.{name}')
        if expected.eq(0).all():
            assert gradient.eq(0).all(), name
        else:
            assert of_max(gradient, expected) < (3e-5 if dtype == torch.float32 else 1e-6), name


class Dense(nn.Module):
    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        return dense_block(self.block, x)
