"""Vision transformer on the hyperboloid."""

import pytest
import torch

from hyper_mm.layers.lorentz.attention import LorentzAttention
from hyper_mm.layers.lorentz.ffn import LorentzSwiGLU
from hyper_mm.layers.lorentz.hope import rotate
from hyper_mm.layers.lorentz.mice import MiCE
from hyper_mm.layers.lorentz.vit import (
    GridAttention,
    GridHoPE,
    LorentzVisionBlock,
    LorentzVisionTransformer,
    resize_grid,
)

SMALL = dict(embed_dims=16, depth=3, num_heads=2, image_size=(24, 24), patch_size=8)
EXPERTS = dict(num_experts=3, top_k=2)
both = pytest.mark.parametrize('positions', ['hope', 'learned'])


def vit(**options) -> LorentzVisionTransformer:
    return LorentzVisionTransformer(**{**SMALL, **options})


def images(height=24, width=24, batch=2, **options):
    return torch.randn(batch, 3, height, width, **options)


def rotations(size, prefix, dtype):
    table = GridHoPE(8).table(torch.zeros((), dtype=dtype), size, prefix)
    return table.real, table.imag


@both
class TestVisionTransformer:
    @pytest.mark.parametrize('size', [(24, 24), (8, 8), (40, 16), (30, 41)])
    def test_any_size_of_images(self, positions, size):
        module = vit(positions=positions, out_indices=(0, 2))
        found = module(images(*size))
        rows, columns = -(-size[0] // 8), -(-size[1] // 8)
        assert found.size == (rows, columns) and len(found.points) == 2
        assert {x.shape for x in found.points} == {(2, 1 + rows * columns, 16)}
        assert all(x.isfinite().all() for x in found.points)

    def test_padding_is_by_zeros_at_the_end(self, positions):
        module, x = vit(positions=positions).eval(), images(20, 17)
        padded = torch.nn.functional.pad(x, (0, 7, 0, 4))
        torch.testing.assert_close(module(x).points, module(padded).points)

    @pytest.mark.parametrize(
        'options', [{}, dict(experts=EXPERTS), dict(curvature=dict(learnable=True))]
    )
    def test_no_dead_parameters(self, positions, options):
        module = vit(positions=positions, **options)
        weight = torch.randn(16)
        (module(images(batch=4)).points[0] @ weight).square().sum().backward()
        for name, p in module.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            assert (p.grad != 0).any() or p.shape[:1] == (3,), name  # an expert may have no token

    @pytest.mark.parametrize('value', [0.0, 1e4])
    def test_flat_and_huge_images_stay_finite(self, positions, value):
        module = vit(positions=positions, with_cls_token=False, final_norm=False)
        x = torch.full((1, 3, 24, 24), value, requires_grad=True)
        points = module(x).points[0]
        points.square().mean().backward()
        assert points.isfinite().all() and x.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in module.parameters())

    def test_single_and_double_precision_agree(self, positions):
        module, x = vit(positions=positions, experts=EXPERTS).eval(), images()
        single = module(x).points[0]
        double = module.double()(x.double()).points[0]
        assert double.dtype == torch.float64
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)

    def test_autocast_keeps_points_in_single_precision(self, positions):
        module, x = vit(positions=positions).eval(), images()
        exact = module(x).points[0]
        with torch.autocast('cpu', torch.bfloat16):
            half = module(x).points[0]
        half.sum().backward()
        assert half.dtype == torch.float32
        assert (half - exact).norm() < 0.02 * exact.norm()
        assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)

    def test_images_do_not_see_each_other(self, positions):
        module, x = vit(positions=positions).eval().double(), images(batch=3, dtype=torch.float64)
        together = module(x).points[0]
        torch.testing.assert_close(module(x[1:2]).points[0], together[1:2])

    @pytest.mark.slow
    def test_compiled_equals_eager(self, positions):
        module, x = vit(positions=positions).double(), images(dtype=torch.float64)
        for parameter in module.parameters():  # so that no gradient is small
            torch.nn.init.normal_(parameter, std=0.3)
        weight, results = torch.randn(16, dtype=torch.float64), []
        for function in (module, torch.compile(module, backend='aot_eager')):
            module.zero_grad()
            points = function(x).points[0]
            (points @ weight).sum().backward()
            results.append((points.detach(), [p.grad.clone() for p in module.parameters()]))
        torch.testing.assert_close(*results)


class TestPositions:
    def test_scores_depend_on_offsets_alone(self):
        cos, sin = rotations((4, 5), 0, torch.float64)
        q, k = torch.randn(2, 8, dtype=torch.float64)
        scores = rotate(q, cos, sin)[:, 0] @ rotate(k, cos, sin)[:, 0].T
        scores = scores.view(4, 5, 4, 5)
        torch.testing.assert_close(scores[1, 2, 3, 1], scores[0, 3, 2, 2])
        torch.testing.assert_close(scores[0, 0, 0, 4], scores[3, 0, 3, 4])
        assert (scores[0, 0, 0, 1] - scores[0, 0, 1, 0]).abs() > 1e-3

    def test_prefix_does_not_turn(self):
        x = torch.randn(1 + 6, 2, 8)
        turned = rotate(x, *rotations((2, 3), 1, x.dtype))
        assert torch.equal(turned[0], x[0]) and not torch.allclose(turned[1], x[1])
        torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))

    @both
    def test_order_of_patches_counts(self, positions):
        module = vit(positions=positions, with_cls_token=True).eval()
        x = images(8, 16, batch=1)
        swapped = torch.cat(x.split(8, -1)[::-1], -1)
        cls, other = (module(y).points[0][:, 0] for y in (x, swapped))
        assert (cls - other).abs().max() > 1e-5

    def test_learned_ones_of_another_size_are_interpolated(self):
        large, small = vit(positions='learned', image_size=(40, 56)), vit(positions='learned')
        x = images(40, 56)
        small.load_state_dict(large.state_dict())
        grid = resize_grid(large.embedding.pos_embed, (3, 3))
        torch.testing.assert_close(small.embedding.pos_embed, grid)
        large.load_state_dict(large.state_dict())
        large.eval()(x)

    def test_rotary_ones_have_no_weights(self):
        large, small = vit(image_size=(40, 56)), vit()
        small.load_state_dict(large.state_dict())


class TestBlock:
    def block(self, drop_path):
        return LorentzVisionBlock(16, GridAttention(16, 2), LorentzSwiGLU(16, 8), 4.0, drop_path)

    def test_attention_is_that_of_helm(self):
        """With heads whose width counts time, the two are one."""
        ours, theirs = GridAttention(14, 2), LorentzAttention(15, 2, causal=False, rotary=False)
        assert theirs.head_dims == ours.shape[-1] == 7
        x = torch.randn(2, 5, 15)
        with torch.no_grad():
            weight = torch.cat([theirs.wq.weight, theirs.wk.weight, theirs.wv.weight])
        ours.qkv.weight, ours.wo = torch.nn.Parameter(weight), theirs.wo
        ours.qkv.bias, ours.tau = torch.nn.Parameter(torch.zeros(42)), theirs.tau
        torch.testing.assert_close(ours(x, 0.7), theirs(x, 0.7))

    def test_drop_path_leaves_points_where_they_are(self):
        block, x = self.block(0.5).train(), torch.randn(64, 3, 16)
        y = block(x, 1.0)
        same = (y == x).flatten(1).all(1)
        assert 4 < same.sum() < 32  # a quarter drops both branches
        assert torch.equal(block.eval()(x, 1.0), block(x, 1.0))

    def test_dropping_nothing_changes_nothing(self):
        block, x = self.block(0.0), torch.randn(4, 3, 16)
        torch.testing.assert_close(block.train()(x, 1.0), block.eval()(x, 1.0))

    def test_rates_rise(self):
        rates = [block.drop_path for block in vit(drop_path=0.2).blocks]
        assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_final_norm_fixes_the_radius():
    normed, free = vit(), vit(final_norm=False)
    torch.testing.assert_close(normed(images()).points[0].norm(dim=-1), torch.full((2, 10), 4.0))
    assert free(images()).points[0].norm(dim=-1).std() > 0.1


def test_curvature():
    flat, curved = vit(), vit(curvature=dict(init=4.0))
    own = {f'curvature.{name}': value for name, value in curved.curvature.state_dict().items()}
    curved.load_state_dict(flat.state_dict() | own)
    x = images()
    first, second = flat(x), curved(x)
    assert first.c.item() == 1.0 and second.c.item() == pytest.approx(4.0)
    assert (first.points[0] - second.points[0]).abs().max() > 1e-3
    assert not flat.curvature.learnable and vit(curvature=dict(learnable=True)).curvature.learnable


def test_experts():
    module = vit(experts=EXPERTS)
    assert [isinstance(b.ffn, MiCE) for b in module.blocks] == [False, True, True]
    module = vit(experts=dict(hidden_dims=5, **EXPERTS), expert_layers=(-1,))
    assert [isinstance(b.ffn, MiCE) for b in module.blocks] == [False, False, True]
    assert module.blocks[2].ffn.w1.shape == (3, 5, 17)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(positions='sine'), "positions must be one of .*, got 'sine'"),
        (dict(num_heads=3), 'num_heads must be a divisor of embed_dims = 16, got 3'),
        (dict(embed_dims=12), 'head_dims must be a positive multiple of 4, got 6'),
        (dict(embed_dims=0), 'embed_dims must be an integer of at least 1, got 0'),
        (dict(depth=0), 'depth must be an integer of at least 1, got 0'),
        (dict(hidden_dims=-1), 'hidden_dims must be an integer of at least 1, got -1'),
        (dict(patch_size=0), 'patch_size must be an integer of at least 1, got 0'),
        (dict(image_size=(24, 0)), 'image_size must be an integer of at least 1, got 0'),
        (
            dict(out_indices=(3,)),
            r'out_indices must be ascending .* 3 blocks, .*\(3,\)',
        ),
        (dict(out_indices=(2, 1)), 'out_indices must be ascending'),
        (dict(out_indices=()), 'out_indices must be ascending'),
        (dict(drop_path=1.0), r'drop_path must be in \[0, 1\), got 1.0'),
        (dict(residual_scale=0.0), 'scale must be positive, got 0'),
        (dict(curvature=dict(init=0.0)), 'curvature init must be positive'),
        (dict(expert_layers=(1,)), r'expert_layers needs experts, got expert_layers=\(1,\)'),
        (dict(experts=EXPERTS, expert_layers=(5,)), 'expert_layers must be ascending'),
        (dict(experts=dict(num_experts=2, top_k=3)), 'top_k must be 1 to num_experts = 2, got 3'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        vit(**options)


@pytest.mark.parametrize('shape', [(3, 24, 24), (2, 1, 24, 24)])
def test_bad_images(shape):
    with pytest.raises(ValueError, match=r'images must be \(B, 3, H, W\), got'):
        vit()(torch.randn(shape))
