import math

import pytest
import torch

from hyper_mm.layers import HierarchicalContrastiveLoss, HierarchyMapper, LorentzLift
from hyper_mm.layers.himapper.lift import euclidean_pairwise_dist
from hyper_mm.layers.himapper.official import official_expmap0
from hyper_mm.ops import lorentz

NODES = (8, 4, 2)
MANIFOLDS = ['lorentz', 'euclidean']


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


class TestLift:
    def test_is_a_scaled_projection(self):
        lift = LorentzLift(12, 8, max_radius=None)
        nodes = torch.randn(2, 14, 12)
        u, capped = lift(nodes)
        torch.testing.assert_close(u, 8**-0.5 * nodes @ lift.proj.weight.T)
        assert capped == 0

    def test_without_projection(self):
        lift = LorentzLift(12, None, max_radius=None)
        nodes = torch.randn(2, 14, 12)
        torch.testing.assert_close(lift(nodes)[0], 12**-0.5 * nodes)
        assert sorted(name for name, _ in lift.named_parameters()) == ['alpha.log', 'curvature.log']

    def test_starts_where_distances_are_not_saturated(self):
        """Nodes of length sqrt(d) would start at radius 20 without alpha."""
        lift = LorentzLift(384, 128)
        u, capped = lift(torch.randn(4, 60, 384))
        assert 0.5 < u.norm(dim=-1).mean() < 3
        assert capped == 0

    @pytest.mark.parametrize('c', [0.1, 1.0, 10.0])
    @pytest.mark.parametrize('max_radius', [0.5, 6.0])
    def test_radius_is_capped(self, c, max_radius):
        lift = LorentzLift(12, 8, curvature=dict(init=c), max_radius=max_radius).double()
        nodes = random(64, 12) * torch.logspace(-2, 3, 64, dtype=torch.float64)[:, None]
        u, capped = lift(nodes)
        free = lift.alpha() * lift.proj(nodes)
        radius, free_radius = (c**0.5 * x.norm(dim=-1) for x in (u, free))
        far = free_radius > max_radius
        assert 0 < far.sum() < 64
        torch.testing.assert_close(capped, far.double().mean())
        torch.testing.assert_close(u[~far], free[~far])
        torch.testing.assert_close(radius[far], torch.full_like(radius[far], max_radius))
        cosine = torch.nn.functional.cosine_similarity(u, free, dim=-1)
        torch.testing.assert_close(cosine, torch.ones_like(cosine))

    def test_capped_nodes_keep_a_finite_gradient(self):
        lift = LorentzLift(12, 8)
        nodes = torch.cat([torch.zeros(1, 12), 1e4 * torch.randn(3, 12)]).requires_grad_()
        u, capped = lift(nodes)
        lift.pairwise_dist(u, u).sum().backward()
        assert capped == 0.75
        for x in (nodes, *lift.parameters()):
            assert x.grad.isfinite().all()

    def test_alpha_is_projected_to_at_most_one(self):
        lift = LorentzLift(12, 8)
        with torch.no_grad():
            lift.alpha.log.fill_(3.0)
        lift(torch.randn(1, 12))
        assert lift.alpha().item() == pytest.approx(1.0, rel=1e-6)

    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
    def test_leaves_half_precision(self, dtype):
        u, _ = LorentzLift(12, 8).to(dtype)(torch.randn(2, 12, dtype=dtype))
        assert u.dtype == torch.float32

    def test_euclidean_has_no_curvature(self):
        lift = LorentzLift(12, 8, 'euclidean')
        assert lift.curvature is None
        u, v = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
        torch.testing.assert_close(lift.pairwise_dist(u, v), torch.cdist(u, v))

    @pytest.mark.parametrize('c', [0.1, 1.0, 4.0])
    def test_distances_are_those_of_the_points(self, c):
        lift = LorentzLift(12, 8, curvature=dict(init=c)).double()
        u, v = random(5, 8), random(3, 8)
        x, y = lorentz.expmap0(u, c), lorentz.expmap0(v, c)
        inner = x @ y.T - (1 / c + x.square().sum(-1)).sqrt().outer(
            (1 / c + y.square().sum(-1)).sqrt()
        )
        expected = torch.acosh(-c * inner) / c**0.5
        torch.testing.assert_close(lift.pairwise_dist(u, v), expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(manifold='poincare'), "manifold must be one of .*lorentz.*euclidean.*'poincare'"),
            (dict(max_radius=0.0), 'max_radius must be positive, got 0.0'),
            (dict(max_radius=math.nan), 'max_radius must be positive'),
            (dict(alpha_init=0.0), r'alpha init must be positive and within .*1.0\), got 0.0'),
            (dict(alpha_init=1.5), 'alpha init .* got 1.5'),
            (dict(curvature=dict(init=-1.0)), 'curvature init must be positive'),
            (dict(curvature=dict(init=20.0)), r'within \(0.1, 10.0\), got 20.0'),
            (dict(curvature=dict(bounds=(0.0, 1.0))), 'curvature bounds must be positive'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            LorentzLift(12, **options)


def test_euclidean_distance_of_coincident_points_has_no_gradient():
    x = random(1, 3, 5).expand(2, 3, 5).clone().requires_grad_()
    distance = euclidean_pairwise_dist(x, x)
    torch.testing.assert_close(distance.diagonal(dim1=1, dim2=2), torch.zeros(2, 3).double())
    distance.sum().backward()
    assert x.grad.isfinite().all()


def test_euclidean_distances_and_gradients_of_two_orders():
    x, y = random(2, 5, 3).requires_grad_(), random(4, 3).requires_grad_()
    expected = (x.unsqueeze(-2) - y.unsqueeze(-3)).norm(dim=-1)
    torch.testing.assert_close(euclidean_pairwise_dist(x, y), expected)
    assert torch.autograd.gradcheck(euclidean_pairwise_dist, (x, y), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(euclidean_pairwise_dist, (x, y))


def test_euclidean_distances_hold_no_differences_of_all_pairs():
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    x = torch.randn(2, 60, 128, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        euclidean_pairwise_dist(x, x).sum().backward()
    assert max(kept) <= 2 * 60 * 128


def test_euclidean_distances_of_near_points_far_out():
    near = torch.tensor([[3e3, 0.0], [3e3 + 0.25, 0.0]])
    assert euclidean_pairwise_dist(near, near)[0, 1] == 0.25


def test_official_expmap0_by_its_definition():
    u = torch.tensor([[0.5, 0.3, 0.4], [0.1, 3.0, 4.0], [2.0, 0.1, 0.1]], dtype=torch.float64)
    h = official_expmap0(u)
    for row, (a, b, c) in zip(h, u.tolist()):
        norm = math.sqrt(max(b * b + c * c - a * a, 1e-9))
        short = min(norm, 1.5)
        expected = [math.sinh(short) * x / norm for x in (a, b, c)]
        expected[0] += math.cosh(short)
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64))


def contrastive_loss(distances, sign=-1, tau=1.0, include_positive=True, weights=(1.0, 1.0)):
    """The loss node by node, for the tree NODES."""
    total, start = 0.0, 0
    for weight, count in zip(weights, NODES):
        terms = []
        for d in distances.tolist():
            for i in range(count):
                positive = math.exp(sign * d[start + i][start + count + i // 2] / tau)
                negatives = sum(
                    math.exp(sign * d[start + i][start + j] / tau) for j in range(count) if j != i
                )
                terms.append(-math.log(positive / (negatives + include_positive * positive)))
        total += weight * sum(terms) / len(terms)
        start += count
    return total


@pytest.fixture
def distances():
    x = random(3, sum(NODES), 4)
    return torch.cdist(x, x)


class TestContrastiveLoss:
    @pytest.mark.parametrize('sign', [-1, 1])
    @pytest.mark.parametrize('tau', [0.1, 1.0, 3.0])
    @pytest.mark.parametrize('include_positive', [True, False])
    def test_equals_the_formula(self, distances, sign, tau, include_positive):
        loss = HierarchicalContrastiveLoss(sign, tau, include_positive)(distances, NODES)
        expected = contrastive_loss(distances, sign, tau, include_positive)
        assert loss.item() == pytest.approx(expected, rel=1e-12)

    def test_defaults(self, distances):
        loss = HierarchicalContrastiveLoss()(distances, NODES)
        assert loss.item() == pytest.approx(contrastive_loss(distances), rel=1e-12)

    @pytest.mark.parametrize('weights', [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
    def test_level_weights(self, distances, weights):
        loss = HierarchicalContrastiveLoss(level_weights=weights)(distances, NODES)
        assert loss.item() == pytest.approx(contrastive_loss(distances, weights=weights), rel=1e-12)

    def test_one_term_for_each_pair_of_levels(self, distances):
        assert len(HierarchicalContrastiveLoss().per_level(distances, NODES)) == 2
        assert HierarchicalContrastiveLoss()(distances[:, :8, :8], (8,)) == 0

    def test_mean_over_images(self, distances):
        loss = HierarchicalContrastiveLoss()
        alone = [loss(distances[i : i + 1], NODES) for i in range(3)]
        torch.testing.assert_close(loss(distances, NODES), torch.stack(alone).mean())

    def test_two_children_a_parent_whatever_the_count(self):
        """12 -> 6 -> 3: parents pair up neighbours."""
        x = random(2, 21, 4)
        parents = x.clone()
        parents[:, 12:18] = x[:, 0:12:2]
        close = HierarchicalContrastiveLoss()(torch.cdist(parents, parents), (12, 6, 3))
        parents[:, 12:18] = x[:, 0:12:2].roll(1, 1)
        assert close < HierarchicalContrastiveLoss()(torch.cdist(parents, parents), (12, 6, 3))

    @pytest.mark.parametrize('manifold', MANIFOLDS)
    @pytest.mark.parametrize('sign', [-1, 1])
    def test_coincident_nodes(self, manifold, sign):
        lift = LorentzLift(6, None, manifold)
        nodes = torch.ones(2, sum(NODES), 6, requires_grad=True)
        u, _ = lift(nodes)
        loss = HierarchicalContrastiveLoss(sign)(lift.pairwise_dist(u, u), NODES)
        assert loss.item() == pytest.approx(math.log(8) + math.log(4), rel=1e-6)
        loss.backward()
        assert nodes.grad.isfinite().all()
        assert all(p.grad.isfinite().all() for p in lift.parameters())

    @pytest.mark.parametrize('manifold', MANIFOLDS)
    def test_gradient(self, manifold):
        lift = LorentzLift(4, 3, manifold).double()
        loss = HierarchicalContrastiveLoss()

        def function(nodes, *_):
            u, _ = lift(nodes)
            return loss(lift.pairwise_dist(u, u), NODES)

        nodes = random(1, 14, 4).requires_grad_()
        assert torch.autograd.gradcheck(function, (nodes,), fast_mode=True)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(sign=0), 'sign must be -1 or 1, got 0'),
            (dict(tau=0.0), 'tau must be positive, got 0.0'),
            (dict(tau=-1.0), 'tau must be positive, got -1.0'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            HierarchicalContrastiveLoss(**options)

    @pytest.mark.parametrize('weights', [(1.0,), (1.0, 1.0, 1.0)])
    def test_level_weights_must_fit_the_levels(self, distances, weights):
        with pytest.raises(ValueError, match='level_weights must have 2 entries'):
            HierarchicalContrastiveLoss(level_weights=weights)(distances, NODES)


def optimise(manifold, sign, steps=60):
    """Free nodes under gradient descent: the losses, and final parent and same-level distances."""
    lift = LorentzLift(8, None, manifold, alpha_init=1.0, max_radius=1.5).eval()
    loss, nodes = HierarchicalContrastiveLoss(sign), 0.3 * torch.randn(1, sum(NODES), 8)
    history = []
    for _ in range(steps):
        nodes.requires_grad_()
        u, _ = lift(nodes)
        distances = lift.pairwise_dist(u, u)
        value = loss(distances, NODES)
        (grad,) = torch.autograd.grad(value, nodes)
        history.append(value.item())
        nodes = (nodes - 0.5 * grad).detach()
    distances = distances[0].detach()
    parent = torch.stack([distances[i, 8 + i // 2] for i in range(8)]).mean()
    same = distances[:8, :8].sum() / (8 * 7)
    return history, parent, same


@pytest.mark.parametrize('manifold', MANIFOLDS)
def test_descent_brings_children_to_their_parents(manifold):
    history, parent, same = optimise(manifold, sign=-1)
    assert history[-1] < 0.7 * history[0]
    assert parent < 0.5 * same


@pytest.mark.parametrize('manifold', MANIFOLDS)
def test_the_sign_of_the_released_code_collapses_the_level(manifold):
    history, parent, same = optimise(manifold, sign=1)
    assert history[-1] < 0.7 * history[0]
    assert same < 0.5 * parent


def test_official_compat_uses_the_released_lift_and_sign():
    mapper = HierarchyMapper(12, 8, 3, 16, 2, hyp_dim=6, compat='official', max_radius=None)
    levels = tuple(torch.randn(2, n, 12) for n in NODES)
    losses, _ = mapper.losses(levels)
    h = official_expmap0(mapper.lift(torch.cat(levels, 1))[0])
    expected = contrastive_loss(lorentz.pairwise_dist(h, h, 1.0).double(), sign=1)
    assert losses['cont'].item() == pytest.approx(0.1 * expected, rel=1e-5)


class TestPoints:
    """Nodes that are points already."""

    @pytest.mark.parametrize('c', [0.5, 2.0])
    def test_are_not_lifted_again(self, c):
        """Points made by hand give the distances and energies of the tangent vectors they are."""
        flat = dict(hyp_dim=None, alpha_init=1.0, curvature=dict(init=c))
        by_hand, points = LorentzLift(6, **flat).double(), LorentzLift(6, **flat, points=True)
        tangent = 0.5 * random(2, 14, 6)
        u, capped = points.double()(lorentz.expmap0(tangent, c))
        v, _ = by_hand(tangent)
        torch.testing.assert_close(u, v)
        assert capped == 0
        torch.testing.assert_close(points.pairwise_dist(u, u), by_hand.pairwise_dist(v, v))
        torch.testing.assert_close(points.cone_energies(u, NODES), by_hand.cone_energies(v, NODES))

    def test_distances_are_those_of_the_points(self):
        lift, x = LorentzLift(6, points=True).double(), random(2, 14, 6)
        u, _ = lift(x)
        torch.testing.assert_close(lift.pairwise_dist(u, u), lorentz.pairwise_dist(x, x, 1.0))

    def test_have_neither_projection_nor_scale(self):
        lift = LorentzLift(12, 8, points=True)
        assert [name for name, _ in lift.named_parameters()] == ['curvature.log']

    def test_need_the_hyperboloid(self):
        with pytest.raises(ValueError, match="points=True needs manifold='lorentz'"):
            LorentzLift(12, 8, 'euclidean', points=True)
