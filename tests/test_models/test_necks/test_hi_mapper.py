import copy

import pytest
import torch

from hyper_mm.models import HiMapper
from hyper_mm.registry import MODELS
from tests.helpers.gradients import dead_parameters
from tests.helpers.losses import run

SMALL = dict(num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=6)
CHANNELS = (8, 12, 16)
FUSIONS = ['token', 'nodes']

# most tests call the neck without a model that would collect its losses
pytestmark = pytest.mark.filterwarnings('ignore:HiMapper computes')


def neck(in_channels=CHANNELS, **options) -> HiMapper:
    return MODELS.build(
        {'type': 'hyper_mm.HiMapper', 'in_channels': in_channels, **SMALL, **options}
    )


def pyramid(size=8, channels=CHANNELS, batch=2, **options):
    """Levels that halve in size."""
    return tuple(
        torch.randn(batch, c, max(size >> i, 1), max(size >> i, 1), **options)
        for i, c in enumerate(channels)
    )


def with_cls(levels):
    return tuple((x, torch.randn(*x.shape[:2], dtype=x.dtype)) for x in levels)


@pytest.mark.parametrize('fusion', FUSIONS)
class TestLevels:
    def test_come_out_as_they_went_in(self, fusion):
        levels = pyramid()
        out = neck(fusion=fusion, gate_init=0.5)(levels)
        assert isinstance(out, tuple) and len(out) == 3
        assert [x.shape for x in out] == [x.shape for x in levels]

    @pytest.mark.parametrize('level', [0, 1, 2, -1, -2, -3])
    def test_only_the_chosen_one_changes(self, fusion, level):
        levels = pyramid()
        out = neck(fusion=fusion, gate_init=0.5, level=level)(levels)
        for i, (before, after) in enumerate(zip(levels, out)):
            assert (after is before) == (i != level % 3)
        assert (out[level] != levels[level]).any(1).all()

    @pytest.mark.parametrize('training', [True, False])
    @pytest.mark.parametrize('give', [tuple, with_cls], ids=['plain', 'cls'])
    def test_closed_gate_changes_no_bit(self, fusion, training, give):
        levels = pyramid()
        out = neck(fusion=fusion).train(training)(give(levels))
        for before, after in zip(levels, out):
            assert torch.equal(before, after)

    def test_layout_of_the_map_is_kept(self, fusion):
        """A change of the features at one place stays at that place, up to the global token."""
        module = neck(8, fusion=fusion, gate_init=0.1, residual=True).eval()
        features = torch.randn(1, 8, 5, 7)
        changed = features.clone()
        changed[0, :, 3, 2] += 5.0
        (a,), (b,) = module((features,)), module((changed,))
        difference = (a - b).abs().sum(1)[0]
        assert difference.argmax() == 3 * 7 + 2

    @pytest.mark.parametrize('shape', [(1, 1), (1, 7), (5, 1), (3, 5), (20, 30)])
    def test_any_size(self, fusion, shape):
        features = torch.randn(2, 8, *shape)
        module = neck(8, fusion=fusion, gate_init=0.5)
        for given in (features, (features, torch.randn(2, 8))):
            (out,) = module((given,))
            assert out.shape == features.shape and out.isfinite().all()

    def test_batch_of_one(self, fusion):
        module = neck(fusion=fusion)
        out, found = run(module, pyramid(batch=1))
        sum(x.sum() for x in out).backward()
        assert found['loss_hier_cont'].isfinite()

    @pytest.mark.parametrize('give', [tuple, with_cls], ids=['plain', 'cls'])
    def test_dtype_is_kept(self, fusion, give):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            levels = pyramid(dtype=dtype)
            out = neck(fusion=fusion).to(dtype).eval()(give(levels))
            assert {x.dtype for x in out} == {dtype}

    def test_no_dead_parameters(self, fusion):
        module = neck(fusion=fusion, gate_init=0.5).double()
        out, losses = run(module, with_cls(pyramid(dtype=torch.float64)))
        total = losses['loss_hier_cont'] + losses['loss_hier_kl']
        (out[-1].square().sum() + total).backward()
        assert not dead_parameters(module)

    def test_images_do_not_see_each_other(self, fusion):
        module = neck(fusion=fusion, gate_init=0.5).eval().double()
        levels = pyramid(batch=3, dtype=torch.float64)
        together = module(levels)
        for i in range(3):
            alone = module(tuple(x[i : i + 1] for x in levels))
            torch.testing.assert_close(alone[-1][0], together[-1][i])


def test_single_number_of_channels_fits_any_count_of_levels():
    module = neck(8)
    for count in (1, 2, 4):
        assert len(module(pyramid(channels=(8,) * count))) == count


def test_class_token_stands_for_the_image():
    module = neck(8, gate_init=1.0).eval()
    features = torch.randn(2, 8, 4, 4)
    (plain,) = module((features,))
    (mean,) = module(((features, features.mean((2, 3))),))
    torch.testing.assert_close(plain, mean)
    (other,) = module(((features, torch.randn(2, 8)),))
    assert not torch.allclose(plain, other)


def test_class_tokens_of_passed_levels_are_dropped():
    levels = pyramid()
    out = neck()(with_cls(levels))
    assert all(a is b for a, b in zip(levels[:2], out[:2]))


class TestInnerNeck:
    @pytest.mark.mmseg
    def test_of_mmseg(self):
        pytest.importorskip('mmseg')
        inner = dict(
            type='mmseg.MultiLevelNeck', in_channels=[8, 8], out_channels=4, scales=[2, 0.5]
        )
        module = neck(8, neck=inner)
        levels = pyramid(channels=(8, 8))
        out = module(levels)
        assert [x.shape for x in out] == [(2, 4, 16, 16), (2, 4, 2, 2)]
        for a, b in zip(out, module.neck(levels)):
            assert torch.equal(a, b)

    @pytest.mark.mmdet
    def test_of_mmdet(self):
        pytest.importorskip('mmdet')
        inner = dict(type='mmdet.FPN', in_channels=list(CHANNELS), out_channels=4, num_outs=4)
        out = neck(neck=inner)(pyramid())
        assert [x.shape for x in out] == [(2, 4, s, s) for s in (8, 4, 2, 1)]

    @pytest.mark.mmseg
    def test_sees_the_enriched_level(self):
        pytest.importorskip('mmseg')
        inner = dict(type='mmseg.MultiLevelNeck', in_channels=[8], out_channels=4, scales=[1])
        module = neck(8, neck=inner, gate_init=1.0).eval()
        levels = (torch.randn(2, 8, 4, 4),)
        assert not torch.allclose(module(levels)[0], module.neck(levels)[0])


class TestMemoryGradient:
    def gradient(self, memory_grad, of_losses=True, cls=False):
        module = neck(8, memory_grad=memory_grad, dropout=0.0, probabilistic=False)
        torch.manual_seed(5)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, 0.5, 0.3)
        features = torch.randn(2, 8, 4, 4).requires_grad_()
        token = torch.randn(2, 8).requires_grad_()
        (out,), losses = run(module, ((features, token) if cls else features,))
        total = losses['loss_hier_cont'] if of_losses else (out - features).square().sum()
        return torch.autograd.grad(total, (features, token), allow_unused=True)

    @pytest.mark.parametrize('factor', [0.25, 0.5, 1.0])
    def test_scales_the_losses(self, factor):
        expected, _ = self.gradient(1.0)
        assert (expected != 0).any()
        torch.testing.assert_close(self.gradient(factor)[0], factor * expected)

    @pytest.mark.parametrize('cls', [False, True])
    @pytest.mark.parametrize('factor', [0.25, 0.5])
    def test_scales_the_update(self, factor, cls):
        full = self.gradient(1.0, of_losses=False, cls=cls)
        part = self.gradient(factor, of_losses=False, cls=cls)
        for a, b in list(zip(full, part))[: 1 + cls]:
            torch.testing.assert_close(b, factor * a)

    def test_zero_detaches_the_module(self):
        with pytest.raises(RuntimeError, match='does not require grad'):
            # nothing but the features asks for a gradient
            module = neck(8, memory_grad=0).requires_grad_(False)
            features = torch.randn(2, 8, 4, 4, requires_grad=True)
            run(module, (features,))[1]['loss_hier_cont'].backward()

    def test_does_not_touch_the_way_through(self):
        features = torch.randn(2, 8, 4, 4, requires_grad=True)
        neck(8, memory_grad=0)((features,))[0].sum().backward()
        assert torch.equal(features.grad, torch.ones_like(features))

    @pytest.mark.parametrize('factor', [0.0, 0.3, 0.7, 1.0])
    def test_does_not_change_the_values(self, factor):
        torch.manual_seed(0)
        module = neck(8, memory_grad=factor, gate_init=1.0).eval()
        features = torch.randn(2, 8, 4, 4)
        other = copy.deepcopy(module)
        other.memory_grad = 1.0
        assert torch.equal(module((features,))[0], other((features,))[0])


class TestLosses:
    def test_are_published(self):
        _, found = run(neck(), pyramid())
        assert {n for n in found if 'loss' in n} == {'loss_hier_cont', 'loss_hier_kl'}
        assert {n for n in found if 'loss' not in n} == {
            f'hi_mapper/{n}'
            for n in ('curvature', 'capped', 'radius_1', 'radius_2', 'radius_3', 'gate')
        }

    def test_are_those_of_the_mapper(self):
        module = neck(8, probabilistic=False, dropout=0.0)
        features = torch.randn(2, 8, 4, 4)
        _, found = run(module, (features,))
        memory = features.flatten(2).mT
        levels = module.mapper(memory, memory.mean(1, keepdim=True)).levels
        expected, _ = module.mapper.losses(levels)
        torch.testing.assert_close(found['loss_hier_cont'], expected['cont'])

    def test_carry_a_gradient_and_diagnostics_none(self):
        for name, value in run(neck(), pyramid())[1].items():
            assert value.ndim == 0 and value.requires_grad == ('loss' in name)

    def test_none_in_evaluation(self):
        assert run(neck().eval(), pyramid())[1] == {}

    def test_none_without_gradient(self):
        with torch.no_grad():
            assert run(neck(), pyramid())[1] == {}

    def test_gate_is_the_mean_size_of_the_gate(self):
        module = neck(gate_init=-0.5)
        assert run(module, pyramid())[1]['hi_mapper/gate'] == 0.5

    def test_without_weights_there_are_none(self):
        module = neck(contrastive_weight=0.0, kl_weight=0.0)
        assert not [n for n in run(module, pyramid())[1] if 'loss' in n]


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
def test_features_that_are_not_finite(training, bad):
    levels = pyramid()
    levels[-1][1, 3, 0, 1] = bad
    levels[-1][0, 0, 0, 0] = bad
    count = levels[-1].numel()
    message = rf'HiMapper: 2 of {count} input features at level -1 are not finite'
    with pytest.raises(ValueError, match=message):
        neck().train(training)(levels)


@pytest.mark.parametrize(
    'in_channels, found',
    [(8, (8, 12, 16)), ((8, 12, 32), (8, 12, 16)), ((8, 12, 16, 32), (8, 12, 16))],
)
def test_channels_that_do_not_fit(in_channels, found):
    with pytest.raises(ValueError) as error:
        neck(in_channels)(pyramid(channels=found))
    message = str(error.value)
    assert f'in_channels is {in_channels}' in message
    assert message.endswith(f'set in_channels={found} in the neck')


@pytest.mark.parametrize(
    'options, message',
    [
        (
            dict(fusion='concat'),
            r"fusion must be one of \('token', 'nodes', 'assignment'\), got 'concat'",
        ),
        (dict(memory_grad=-0.1), r'memory_grad must be in \[0, 1\], got -0.1'),
        (dict(memory_grad=1.5), r'memory_grad must be in \[0, 1\], got 1.5'),
        (dict(level=3), r'level must index in_channels \(8, 12, 16\), got 3'),
        (dict(level=-4), r'level must index in_channels \(8, 12, 16\), got -4'),
        (dict(num_leaves=10), r'num_leaves must be divisible by .* = 4, got num_leaves=10'),
        (dict(manifold='sphere'), r"manifold must be one of \('lorentz', 'euclidean'\)"),
        (dict(curvature=dict(init=20.0)), 'curvature init must be positive and within'),
        (dict(curvature=dict(init=-1.0)), 'curvature init must be positive and within'),
        (dict(test_mode='median'), 'test_mode must be one of'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        neck(**options)


def test_level_that_the_backbone_does_not_give():
    with pytest.raises(ValueError, match='level is 2, but the backbone gives 1 levels'):
        neck(8, level=2)((torch.randn(2, 8, 4, 4),))


def test_unknown_argument_is_named():
    with pytest.raises(TypeError, match='num_leafs'):
        neck(num_leafs=8)


def test_state_dict_round_trip():
    module, other = neck(gate_init=0.5).eval(), neck().eval()
    other.load_state_dict(module.state_dict())
    levels = pyramid()
    assert torch.equal(module(levels)[-1], other(levels)[-1])


def test_init_cfg_is_mmengines():
    module = neck(init_cfg=dict(type='Constant', layer='Linear', val=0.5))
    module.init_weights()
    assert (module.mapper.encoder.out_proj[1].weight == 0.5).all()


def test_init_weights_keeps_the_initialisation_of_the_layers():
    module = neck()
    before = copy.deepcopy(module.state_dict())
    module.init_weights()
    torch.testing.assert_close(dict(module.state_dict()), dict(before))


@pytest.mark.parametrize('fusion', [*FUSIONS, 'assignment'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_levels_of_half_precision_leave_as_they_came(dtype, fusion):
    """Of backbones in mixed precision, whose neck and gate are float32."""
    levels = pyramid(dtype=dtype)
    module = neck(fusion=fusion, gate_init=0.5).eval()
    with torch.autocast('cpu', dtype):
        out = module(levels)
    assert {x.dtype for x in out} == {dtype}
    assert (out[-1] != levels[-1]).any()


@pytest.mark.parametrize('fusion', [*FUSIONS, 'assignment'])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('give', [tuple, with_cls], ids=['plain', 'cls'])
def test_batch_without_images(give, training, fusion):
    module = neck(fusion=fusion, gate_init=0.5).train(training)
    out, losses = run(module, give(pyramid(batch=0)))
    assert [x.shape for x in out] == [(0, c, 8 >> i, 8 >> i) for i, c in enumerate(CHANNELS)]
    if training:
        losses = {n: x for n, x in losses.items() if 'loss' in n}
        assert losses['loss_hier_cont'] == 0
        (sum(losses.values()) + out[-1].sum()).backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())


def test_a_single_tensor_is_a_single_level():
    module = neck(8, gate_init=0.5).eval()
    features = torch.randn(3, 8, 4, 4)
    for a, b in zip(module(features), module((features,)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    'inputs, message',
    [
        (dict(p3=torch.ones(1, 8, 4, 4)), 'takes the levels of a backbone as a tuple.*got dict'),
        ((dict(x=torch.ones(1, 8, 4, 4)),), r'level 0 must be a tensor \(B, C, H, W\).*got dict'),
        ((torch.ones(1, 5, 8),), r'level 0 must have 4 dimensions, got \(1, 5, 8\)'),
        (torch.ones(1, 5, 8), r'level 0 must have 4 dimensions, got \(1, 5, 8\)'),
        (((torch.ones(1, 8, 4, 4), torch.ones(1, 1, 8)),), 'class token of level 0 must have 2'),
    ],
)
def test_inputs_that_are_no_levels(inputs, message):
    with pytest.raises(TypeError, match=message):
        neck(8)(inputs)


class TestStockCheckpoint:
    """A stock neck has its weights one step further up."""

    INNER = dict(type='mmdet.FPN', in_channels=list(CHANNELS), out_channels=4, num_outs=4)

    def models(self):
        pytest.importorskip('mmdet')
        stock = torch.nn.ModuleDict(dict(neck=MODELS.build(self.INNER)))
        ours = torch.nn.ModuleDict(dict(neck=neck(neck=self.INNER)))
        return stock, ours

    @pytest.mark.mmdet
    def test_is_loaded_into_the_inner_neck(self):
        stock, ours = self.models()
        state = stock.state_dict()
        missing, unexpected = ours.load_state_dict(state, strict=False)
        assert not unexpected and all(k.startswith(('neck.mapper', 'neck.fusion')) for k in missing)
        levels = pyramid()
        for a, b in zip(stock.neck(levels), ours.neck(levels), strict=True):
            assert torch.equal(a, b)
        assert state.keys() == stock.state_dict().keys()  # the caller's is not touched

    @pytest.mark.mmdet
    def test_own_checkpoints_are_read_as_before(self):
        _, ours = self.models()
        other = copy.deepcopy(ours)
        torch.nn.init.normal_(other.neck.neck.lateral_convs[0].conv.weight)
        ours.load_state_dict(other.state_dict())
        for a, b in zip(ours.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


class TestRecommended:
    @pytest.mark.parametrize('fusion', [None, 'token', 'nodes', 'assignment'])
    def test_starts_closed_and_learns_through_the_whole_projection(self, fusion):
        made = neck(recipe='recommended', fusion=fusion, dropout=0.0).double()
        levels = pyramid(dtype=torch.float64)
        out = made(levels)
        assert all(torch.equal(a, b) for a, b in zip(out, levels))
        out[-1].square().sum().backward()
        last = made.mapper.encoder if fusion == 'token' else made.fusion
        weight = last.out_proj[1].weight if fusion == 'token' else last.out_proj.weight
        assert (weight.grad != 0).all()
        assert (made.fusion.gate == 1).all()

    def test_default_fusion_is_the_assignment(self):
        assert type(neck(recipe='recommended').fusion).__name__ == 'AssignmentFusion'
        assert type(neck().fusion).__name__ == 'TokenFusion'

    def test_survives_the_initialization_of_a_model(self):
        made = neck(recipe='recommended')
        before = {name: x.clone() for name, x in made.state_dict().items()}
        made.init_weights()
        assert all(torch.equal(x, before[name]) for name, x in made.state_dict().items())

    def test_an_update_closed_twice_is_refused(self):
        for options in (dict(zero_init_out=True), dict(recipe='recommended')):
            with pytest.raises(ValueError, match='gate_init must not be 0 with zero_init_out=True'):
                neck(**options, gate_init=0.0)

    def test_publishes_what_the_assignment_says(self):
        _, found = run(neck(recipe='recommended'), pyramid())
        assert {'loss_hier_cont', 'loss_hier_balance', 'hi_mapper/used_1'} <= found.keys()
        assert 'loss_hier_kl' not in found  # the nodes are no distributions
