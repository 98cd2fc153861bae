import copy
import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from hyper_mm.layers import HierarchyMapper, used_nodes
from hyper_mm.ops import lorentz
from tests.conftest import no_half_autocast
from tests.helpers.gradients import dead_parameters

DIM = 12
SMALL = dict(dim=DIM, num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=6)
NODES = (8, 4, 2)


def mapper(**options) -> HierarchyMapper:
    return HierarchyMapper(**{**SMALL, **options})


def inputs(batch=2, length=9, tokens=1, dim=DIM, **options):
    return torch.randn(batch, length, dim, **options), torch.randn(batch, tokens, dim, **options)


def total_loss(module, memory, token, eps=None):
    """A scalar that everything in the module has a part in."""
    found = module(memory, token, eps, with_assignment=module.structure.needs_assignment)
    losses, _ = module.losses(found.levels, found.assignment)
    return found.token.square().sum() + sum(losses.values())


def without_effect(module: HierarchyMapper) -> set[str]:
    """Parameters that no output depends on.

    Attention to a level of one node is 1 whatever the query. Where queries compete, what is added
    to all of them plays no part.
    """
    parts = ('norm1.weight', 'norm1.bias', 'cross_attn.q_proj.weight', 'cross_attn.k_proj.weight')
    levels = [i for i, count in enumerate(module.tree.nodes) if count == 1]
    found = {f'encoder.blocks.{i}.{part}' for i in levels for part in parts}
    if module.decomposer.block.cross_attn.competition:
        found.add('decomposer.block.norm1.bias')
    return found


SWITCHES = {
    'defaults': {},
    'one level': dict(num_levels=1),
    'two levels': dict(num_levels=2, num_leaves=2),
    'euclidean': dict(manifold='euclidean'),
    'deterministic': dict(probabilistic=False),
    'deterministic sampled test': dict(probabilistic=False, test_mode='sample'),
    'mixture': dict(mixture=True),
    'max_samples': dict(max_samples=2),
    'competition': dict(competition=True),
    'competition, mean': dict(competition=True, probabilistic=False),
    'sample at test': dict(test_mode='sample'),
    'encode_samples': dict(encode_samples=True),
    'encode_samples mixture': dict(encode_samples=True, mixture=True, max_samples=3),
    'no residual': dict(residual=False),
    'zero_init_out': dict(zero_init_out=True),
    'usual scale': dict(cross_scale=None),
    'no projection': dict(hyp_dim=None),
    'alpha 1': dict(alpha_init=1.0),
    'no cap': dict(max_radius=None),
    'fixed curvature': dict(curvature=dict(init=0.5, learnable=False)),
    'curvature bounds': dict(curvature=dict(init=20.0, bounds=(1.0, 30.0))),
    'no contrast': dict(contrastive_weight=0.0),
    'no kl': dict(kl_weight=0.0),
    'no losses': dict(contrastive_weight=0.0, kl_weight=0.0),
    'kl sum': dict(kl_reduction='sum'),
    'sign and tau': dict(contrastive=dict(sign=1, tau=0.2)),
    'no positive': dict(contrastive=dict(include_positive=False)),
    'level weights': dict(contrastive=dict(level_weights=(1.0, 0.5))),
    'official': dict(compat='official'),
    'official with options': dict(compat='official', contrastive=dict(sign=1, tau=0.5)),
    'no dropout': dict(dropout=0.0),
    'recommended': dict(recipe='recommended'),
    'recommended, gaussian': dict(recipe='recommended', probabilistic=True),
    'recommended, top-down': dict(recipe='recommended', tree=dict(bottom_up=False)),
    'recommended, free radii': dict(recipe='recommended', lift=dict(radii='free')),
    'recommended, flat': dict(recipe='recommended', lift=dict(manifold='euclidean')),
    'recommended, points': dict(recipe='recommended', points=True),
    'points': dict(points=True),
    'points, learnable curvature': dict(points=True, curvature=dict(learnable=True)),
    'points, one level': dict(points=True, num_levels=1),
}


@pytest.mark.parametrize('options', SWITCHES.values(), ids=SWITCHES)
class TestSwitches:
    def test_trains_without_dead_parameters(self, options):
        module = mapper(**options).double()
        if options.get('zero_init_out') or options.get('recipe') == 'recommended':
            torch.nn.init.normal_(module.encoder.out_proj[1].weight)
        memory, token = inputs(dtype=torch.float64)
        total_loss(module, memory, token).backward()
        assert dead_parameters(module) == without_effect(module)

    def test_evaluates(self, options):
        module = mapper(**options).eval()
        memory, token = inputs(tokens=2)
        with torch.no_grad():
            first, second = module(memory, token), module(memory, token)
        assert first.token.shape == first.update.shape == (2, 2, DIM)
        assert [x.shape for x in first.levels] == [(2, n, DIM) for n in module.tree.nodes]
        samples = options.get('test_mode') == 'sample' and options.get('probabilistic', True)
        assert torch.equal(first.token, second.token) != samples

    def test_state_dict_round_trip(self, options):
        module, other = mapper(**options).eval(), mapper(**options).eval()
        memory, token = inputs()
        other.load_state_dict(module.state_dict())
        torch.manual_seed(1)
        expected = module(memory, token).token
        torch.manual_seed(1)
        assert torch.equal(other(memory, token).token, expected)


def test_residual():
    module = mapper().eval()
    memory, token = inputs()
    found = module(memory, token)
    assert torch.equal(found.token, token + found.update)
    module.residual = False
    assert torch.equal(module(memory, token).token, found.update)


def test_zero_init_out_starts_with_the_token():
    memory, token = inputs()
    assert torch.equal(mapper(zero_init_out=True)(memory, token).token, token)
    assert not torch.equal(mapper()(memory, token).token, token)


def test_without_encoder():
    module = mapper(encode=False).double()
    memory, token = inputs(dtype=torch.float64)
    found = module(memory, token)
    assert found.update is None and found.token is token
    assert not [name for name, _ in module.named_parameters() if name.startswith('encoder')]
    losses, _ = module.losses(found.levels)
    sum(losses.values()).backward()
    assert not dead_parameters(module)


def test_training_samples_and_evaluation_does_not():
    module = mapper(dropout=0.0)
    memory, token = inputs()
    assert not torch.equal(module(memory, token).token, module(memory, token).token)
    module.eval()
    assert module.queries().copies == (1, 1, 1)
    module.train()
    assert module.queries().copies == (1, 2, 4)


def test_given_noise_is_used_in_evaluation():
    module = mapper().eval()
    memory, token = inputs()
    eps = torch.randn(3, 8, DIM)
    found = module(memory, token, eps)
    assert torch.equal(found.token, module(memory, token, eps).token)
    assert not torch.equal(found.token, module(memory, token).token)
    zero = module(memory, token, torch.zeros(3, 8, DIM)).token
    torch.testing.assert_close(zero, module(memory, token).token)


def test_encode_samples_feeds_them_to_the_encoder():
    module = mapper(encode_samples=True, dropout=0.0)
    memory, token = inputs()
    eps = torch.randn(3, 8, DIM)
    nodes = module.decomposer(memory, module.tree(eps=eps), with_samples=True)
    update = module(memory, token, eps).update
    torch.testing.assert_close(update, module.encoder(token, nodes.samples))
    assert not torch.allclose(update, module.encoder(token, nodes.levels))


def test_images_do_not_see_each_other():
    module = mapper().eval().double()
    memory, token = inputs(batch=3, dtype=torch.float64)
    together = module(memory, token)
    for i in range(3):
        alone = module(memory[i : i + 1], token[i : i + 1])
        torch.testing.assert_close(alone.token[0], together.token[i])


class TestLosses:
    def test_are_weighted(self):
        module = mapper(contrastive_weight=1.0, kl_weight=1.0)
        scaled = mapper(contrastive_weight=0.3, kl_weight=0.2)
        scaled.load_state_dict(module.state_dict())
        levels = tuple(torch.randn(2, n, DIM) for n in NODES)
        losses, _ = module.losses(levels)
        smaller, _ = scaled.losses(levels)
        assert losses.keys() == {'cont', 'kl'}
        torch.testing.assert_close(smaller['cont'], 0.3 * losses['cont'])
        torch.testing.assert_close(smaller['kl'], 0.2 * losses['kl'])
        torch.testing.assert_close(losses['kl'], module.tree.kl())

    def test_default_weights_are_those_of_the_official_code(self):
        module = mapper()
        assert module.contrastive_weight == 0.1 and module.kl_weight == 0.01

    @pytest.mark.parametrize(
        'options, names',
        [
            (dict(contrastive_weight=0.0), {'kl'}),
            (dict(kl_weight=0.0), {'cont'}),
            (dict(probabilistic=False), {'cont'}),
            (dict(contrastive_weight=0.0, kl_weight=0.0), set()),
        ],
    )
    def test_without_weight_there_is_no_loss(self, options, names):
        module = mapper(**options)
        losses, _ = module.losses(tuple(torch.randn(2, n, DIM) for n in NODES))
        assert losses.keys() == names
        if 'cont' not in names:
            assert not [name for name in module.state_dict() if 'lift' in name]

    def test_diagnostics(self):
        module = mapper(curvature=dict(init=4.0), max_radius=2.0)
        levels = tuple(s * torch.randn(2, n, DIM) for n, s in zip(NODES, (100.0, 0.1, 0.0)))
        _, found = module.losses(levels)
        assert found.keys() == {'capped', 'curvature', 'radius_1', 'radius_2', 'radius_3'}
        assert not any(value.requires_grad for value in found.values())
        u, _ = module.lift(levels[1])
        assert found['curvature'].item() == pytest.approx(4.0)
        assert found['capped'].item() == pytest.approx(8 / 14)
        assert found['radius_1'].item() == pytest.approx(2.0, rel=1e-5)
        assert found['radius_2'].item() == pytest.approx(2 * u.norm(dim=-1).mean().item(), rel=1e-5)
        assert found['radius_3'].item() == 0

    def test_euclidean_has_no_curvature_to_report(self):
        _, found = mapper(manifold='euclidean').losses(tuple(torch.randn(2, n, DIM) for n in NODES))
        assert 'curvature' not in found and 'radius_3' in found


class TestPrecision:
    def test_float64(self):
        module = mapper().double()
        memory, token = inputs(dtype=torch.float64)
        found = module(memory, token)
        losses, _ = module.losses(found.levels)
        assert found.token.dtype == torch.float64
        assert all(loss.dtype == torch.float64 for loss in losses.values())

    @pytest.mark.parametrize('manifold', ['lorentz', 'euclidean'])
    @pytest.mark.parametrize(
        'dtype', [torch.bfloat16, pytest.param(torch.float16, marks=no_half_autocast)]
    )
    def test_autocast_is_close_to_float32(self, manifold, dtype):
        module = mapper(manifold=manifold, dropout=0.0)
        memory, token = inputs()
        eps = torch.randn(3, 8, DIM)
        losses, _ = module.losses(module(memory, token, eps).levels)
        with torch.autocast('cpu', dtype):
            found = module(memory, token, eps)
            half, _ = module.losses(found.levels)
        assert found.levels[0].dtype == dtype
        for name, loss in half.items():
            assert loss.dtype == torch.float32
            assert loss.item() == pytest.approx(losses[name].item(), rel=0.02)
        sum(half.values()).backward()
        assert module.tree.mu.grad.isfinite().all()

    @pytest.mark.parametrize('manifold', ['lorentz', 'euclidean'])
    def test_geometry_ignores_autocast(self, manifold):
        """Near nodes far out, where bfloat16 would see one point."""
        module = mapper(manifold=manifold)
        u = 3 * torch.randn(1, 1, 6) + 1e-3 * torch.randn(1, 14, 6)
        expected = module.lift.pairwise_dist(u, u)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(module.lift.pairwise_dist(u, u), expected)
            lifted, _ = module.lift(torch.randn(1, 14, DIM))
        assert lifted.dtype == torch.float32
        assert (expected[0, 0, 1:] > 0).all()

    def test_losses_of_half_precision_nodes(self):
        module = mapper()
        levels = tuple(torch.randn(2, n, DIM).bfloat16().float() for n in NODES)
        expected, _ = module.losses(levels)
        with torch.autocast('cpu', torch.bfloat16):
            found, _ = module.losses(tuple(x.bfloat16() for x in levels))
        assert found['cont'].item() == pytest.approx(expected['cont'].item(), rel=1e-2)


def test_checkpointing_gives_the_same_gradient():
    module = mapper()
    memory, token = inputs()
    grads = []
    for forward in (module, lambda *args: checkpoint(module, *args, use_reentrant=False)):
        module.zero_grad()
        torch.manual_seed(2)
        found = forward(memory, token)
        losses, _ = module.losses(found.levels)
        (found.token.square().sum() + sum(losses.values())).backward()
        grads.append([p.grad.clone() for p in module.parameters()])
    torch.testing.assert_close(*grads)


def test_copies_are_independent():
    module = mapper()
    memory, token = inputs()
    total_loss(module, memory, token).backward()
    reference = copy.deepcopy(module)
    with torch.no_grad():
        reference.tree.mu.zero_()
    assert (module.tree.mu != 0).any()


# dim, memory tokens -> parameters and MACs of one image in evaluation, of the official modules
RELEASED = {
    'deit-t': (192, 196, 1.51e6, 81e6),
    'deit-s': (384, 196, 1.69e6, 97e6),
    'deit-b': (768, 196, 2.07e6, 128e6),
    'swin-t': (768, 49, 2.07e6, 90e6),
    'resnet-50': (2048, 49, 3.31e6, 170e6),
    'efficientnet-b4': (1792, 49, 3.06e6, 154e6),
    'efficientnet-b4 at 380': (1792, 144, 3.06e6, 191e6),
}


@pytest.mark.parametrize('dim, length, params, macs', RELEASED.values(), ids=RELEASED)
def test_is_no_larger_than_the_official_module(dim, length, params, macs):
    attention = pytest.importorskip('torch.nn.attention', reason='torch < 2.3')
    module = HierarchyMapper(dim).eval()
    assert sum(p.numel() for p in module.parameters()) <= params
    memory, token = inputs(1, length, dim=dim)
    # the counter knows matrix products, not the fused attention of CPUs
    plain = attention.sdpa_kernel(attention.SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        module.lift(torch.cat(module(memory, token).levels, 1))
    flops = counter.get_total_flops()
    assert 2 * length * dim * 128 < flops <= 2 * macs


def test_module_grows_with_the_width_alone():
    sizes = {
        leaves: sum(p.numel() for p in mapper(num_leaves=leaves).parameters()) for leaves in (8, 16)
    }
    assert sizes[16] - sizes[8] == 2 * 8 * DIM


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(test_mode='median'), r"test_mode must be one of \('mean', 'sample'\), got 'median'"),
        (dict(kl_reduction='none'), "kl_reduction must be one of .*, got 'none'"),
        (dict(compat='paper'), "compat must be one of .*'official'.*, got 'paper'"),
        (dict(contrastive_weight=-0.1), 'contrastive_weight must not be negative, got -0.1'),
        (dict(kl_weight=-1), 'kl_weight must not be negative, got -1'),
        (dict(kl_weight=math.nan), 'kl_weight must not be negative, got nan'),
        (dict(compat='official', manifold='euclidean'), "compat='official' needs manifold"),
        (dict(compat='official', points=True), "compat='official' lifts the nodes"),
        (dict(manifold='euclidean', points=True), "points=True needs manifold='lorentz'"),
        (dict(manifold='sphere'), "manifold must be one of .*, got 'sphere'"),
        (dict(num_leaves=10), r'num_leaves must be divisible by .* = 4, got num_leaves=10'),
        (dict(num_heads=3), 'num_heads must divide width 8, got 3'),
        (dict(curvature=dict(init=0.0)), 'curvature init must be positive and within'),
        (dict(contrastive=dict(tau=0)), 'tau must be positive, got 0'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        mapper(**options)


@pytest.mark.slow
def test_compiled_equals_eager():
    module, (memory, token) = mapper(dropout=0.0), inputs()
    eps, results = torch.randn(3, 8, DIM), []
    for function in (total_loss, torch.compile(total_loss, fullgraph=True)):
        module.zero_grad()
        loss = function(module, memory, token, eps)
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in module.parameters()]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_official_lift_has_neither_scale_nor_cap():
    mapper = HierarchyMapper(16, compat='official', width=8, num_heads=2, hyp_dim=8)
    assert mapper.lift.alpha() == 1 and not mapper.lift.alpha.learnable
    nodes = 100 * torch.randn(2, 4, 16)
    u, capped = mapper.lift(nodes)
    assert capped == 0
    torch.testing.assert_close(u, mapper.lift.proj(nodes))


def test_level_weights_that_do_not_fit_are_refused_at_construction():
    with pytest.raises(ValueError, match='level_weights must have 3 entries'):
        HierarchyMapper(16, width=8, num_heads=2, contrastive=dict(level_weights=(1.0, 2.0)))


class TestPoints:
    """Features of a backbone whose tokens are points."""

    def test_losses_are_those_of_points_lifted_by_hand(self):
        options = dict(dropout=0.0, curvature=dict(init=0.5, learnable=False))
        points = mapper(points=True, **options).double()
        lifted = mapper(hyp_dim=None, alpha_init=1.0, **options).double()
        lifted.load_state_dict(points.state_dict(), strict=False)
        tangent = [torch.randn(2, n, DIM, dtype=torch.float64) for n in NODES]
        levels = tuple(lorentz.expmap0(v, 0.5) for v in tangent)
        ours, expected = points.losses(levels), lifted.losses(tuple(tangent))
        assert ours[0].keys() == {'cont', 'kl'}
        for name in ('cont', 'kl'):
            torch.testing.assert_close(ours[0][name], expected[0][name])
        for name in ('radius_1', 'curvature'):
            torch.testing.assert_close(ours[1][name], expected[1][name])

    def test_are_pooled_to_their_centroid(self):
        module, (memory, _) = mapper(points=True, curvature=dict(init=2.0)), inputs()
        expected = lorentz.centroid(memory, c=2.0).unsqueeze(1)
        torch.testing.assert_close(module.pool(memory), expected)
        assert torch.equal(mapper().pool(memory), memory.mean(1, keepdim=True))

    def test_curvature_is_fixed_unless_asked_for(self):
        assert not mapper(points=True).lift.curvature.learnable
        assert mapper(points=True, curvature=dict(learnable=True)).lift.curvature.learnable


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(manifold='euclidean'),
        dict(structure=dict(reconstruction=1.0, balance=1.0, containment=1.0, entailment=1.0)),
    ],
    ids=['defaults', 'euclidean', 'structure'],
)
def test_a_batch_without_images_has_losses_of_zero(options):
    """Ranks of a distributed run may have none; the names of the losses stay."""
    module = mapper(**options)
    found, some = (module(*inputs(batch), with_assignment=True) for batch in (0, 2))
    losses, diagnostics = module.losses(found.levels, found.assignment, inputs(0)[0])
    expected, more = module.losses(some.levels, some.assignment, inputs(2)[0])
    assert losses.keys() == expected.keys() and diagnostics.keys() == more.keys()
    assert all(x == 0 for name, x in losses.items() if name != 'kl')
    assert torch.equal(losses['kl'], expected['kl'])
    assert all(x.isfinite() for x in diagnostics.values())
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


class TestRecommended:
    def made(self, **options):
        torch.manual_seed(0)
        return mapper(recipe='recommended', loss=dict(balance=0.0), **options)

    def test_starts_closed_and_hands_the_gradient_to_the_whole_projection(self):
        module = self.made(dropout=0.0).double()
        memory, token = inputs(dtype=torch.float64)
        found = module(memory, token)
        assert torch.equal(found.token, token)
        found.token.square().sum().backward()
        assert (module.encoder.out_proj[1].weight.grad != 0).all()

    def test_training_computes_what_evaluation_does(self):
        module = self.made(dropout=0.0)
        torch.nn.init.normal_(module.encoder.out_proj[1].weight)
        memory, token = inputs()
        trained = module.train()(memory, token).token
        assert torch.equal(trained, module.eval()(memory, token).token)

    def test_radii_are_in_the_order_of_depth_and_none_is_capped(self):
        module = self.made()
        _, found = module.losses(tuple(torch.randn(3, n, DIM) for n in NODES))
        radii = [found[f'radius_{level}'].item() for level in (1, 2, 3)]
        assert radii == pytest.approx([3.0, 2.0, 1.0], rel=1e-6)
        assert found['capped'] == 0

    def test_images_that_are_one_have_a_higher_loss(self):
        module = self.made()
        levels = tuple(torch.randn(4, n, DIM) for n in NODES)
        same = tuple(x[:1].expand(4, -1, -1) for x in levels)
        assert module.losses(same)[0]['cont'] > module.losses(levels)[0]['cont']

    def test_curvature_has_no_part_in_the_optimum(self):
        assert not any('lift.curvature' in name for name, _ in self.made().named_parameters())


def test_used_nodes():
    share = torch.tensor(
        [[[0.6, 0.5], [0.1, 0.3], [0.3, 0.2]], [[0.2, 0.2], [0.7, 0.3], [0.1, 0.5]]]
    )
    (found,) = used_nodes((share,))
    assert found.tolist() == [[True, False, False], [False, True, True]]
    module = mapper()
    _, logged = module.losses(tuple(torch.randn(2, n, DIM) for n in NODES), alike())
    assert [logged[f'used_{level}'].item() for level in (1, 2, 3)] == [1, 1, 1]


def alike() -> tuple[torch.Tensor, ...]:
    """An assignment of all positions to the first node of each level."""
    return tuple(torch.eye(n)[:1].T.expand(2, n, 5) for n in NODES)
