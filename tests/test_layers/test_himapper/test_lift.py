"""The lift to the hyperboloid, and distances."""

import math

import pytest
import torch

from hyper_mm.layers import LorentzLift
from hyper_mm.layers.himapper.lift import euclidean_pairwise_dist
from hyper_mm.ops import lorentz
from tests.conftest import no_half_autocast
from tests.helpers.hierarchy import NODES, random


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

    @pytest.mark.parametrize(
        'dtype',
        [pytest.param(torch.float16, marks=no_half_autocast), torch.bfloat16, torch.float32],
    )
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


@pytest.mark.parametrize('learn', [True, False])
def test_the_scale_is_trained_where_asked_for(learn):
    lift = LorentzLift(12, 8, alpha_init=0.5, learn_alpha=learn)
    lift(torch.randn(2, 5, 12))[0].square().sum().backward()
    names = {name for name, p in lift.named_parameters() if p.grad is not None}
    assert ('alpha.log' in names) == learn and 'proj.weight' in names
    assert lift.alpha().item() == pytest.approx(0.5)


class TestRadii:
    RADII = (3.0, 3.0, 1.0)

    def lift(self, **options):
        return LorentzLift(6, 4, radii=self.RADII, **options).double()

    @pytest.mark.parametrize('c', [0.5, 2.0])
    def test_scaled_radius_is_the_given_one_whatever_the_features(self, c):
        lift = self.lift(curvature=c)
        for scale in (1e-3, 1.0, 1e3):
            u, capped = lift(scale * torch.randn(2, 3, 6).double())
            radius = c**0.5 * u.norm(dim=-1)
            torch.testing.assert_close(radius, torch.tensor(self.RADII).double().expand(2, 3))
            assert capped == 0

    def test_direction_is_that_of_the_projection(self):
        lift, nodes = self.lift(), torch.randn(2, 3, 6).double()
        u, _ = lift(nodes)
        cosine = torch.nn.functional.cosine_similarity(u, lift.proj(nodes), dim=-1)
        torch.testing.assert_close(cosine, torch.ones(2, 3).double())

    def test_a_node_of_zero_has_a_finite_gradient(self):
        nodes = torch.zeros(1, 3, 6).double().requires_grad_()
        u, _ = self.lift()(nodes)
        u.sum().backward()
        assert torch.equal(u, torch.zeros_like(u)) and nodes.grad.isfinite().all()

    def test_neither_scale_nor_curvature_are_learned(self):
        lift = self.lift()
        assert [name for name, _ in lift.named_parameters()] == ['proj.weight']
        assert 'radii' not in lift.state_dict()

    def test_flat_space(self):
        u, _ = self.lift(manifold='euclidean')(torch.randn(2, 3, 6).double())
        torch.testing.assert_close(u.norm(dim=-1)[0], torch.tensor(self.RADII).double())

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(radii=(1.0, 0.0)), 'radii must be positive, got 0.0'),
            (dict(radii=(1.0,), points=True), 'radii must be None for points=True'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            LorentzLift(6, **options)
