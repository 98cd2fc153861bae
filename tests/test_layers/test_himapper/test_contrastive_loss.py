"""The contrastive loss of Hi-Mapper against its formula, and what descent on it does."""

import math

import pytest
import torch

from hyper_mm.layers import HierarchicalContrastiveLoss, LorentzLift
from tests.helpers.hierarchy import NODES, contrastive_loss, random

MANIFOLDS = ['lorentz', 'euclidean']


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
def test_the_sign_of_the_official_code_collapses_the_level(manifold):
    history, parent, same = optimise(manifold, sign=1)
    assert history[-1] < 0.7 * history[0]
    assert same < 0.5 * parent


class TestAcrossImages:
    @pytest.mark.parametrize('sign', [-1, 1])
    def test_equals_the_formula(self, sign):
        x = random(3, sum(NODES), 4)
        within = torch.cdist(x, x)
        rows = x[:, : -NODES[-1]].transpose(0, 1)
        to_others = torch.cdist(rows, rows).transpose(0, 1)
        is_other = ~torch.eye(3, dtype=torch.bool)
        loss = HierarchicalContrastiveLoss(sign, tau=0.7, across_images=True)
        found = loss(within, NODES, (to_others, is_other))
        expected, start = 0.0, 0
        for count in NODES[:-1]:
            terms = []
            for b in range(3):
                for i in range(count):
                    node, parent = start + i, start + count + i // 2
                    positive = sign * within[b, node, parent] / 0.7
                    logits = [positive]
                    logits += [
                        sign * within[b, node, start + j] / 0.7 for j in range(count) if j != i
                    ]
                    logits += [
                        sign * (x[b, node] - x[other, node]).norm() / 0.7
                        for other in range(3)
                        if other != b
                    ]
                    terms.append(torch.stack(logits).logsumexp(0) - positive)
            expected = expected + torch.stack(terms).mean()
            start += count
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)

    def test_one_image_has_no_others(self):
        distances = torch.cdist(random(1, sum(NODES), 4), random(1, sum(NODES), 4))
        across = torch.zeros(1, sum(NODES[:-1]), 1).double(), torch.zeros(1, 1, dtype=torch.bool)
        loss = HierarchicalContrastiveLoss()
        torch.testing.assert_close(loss(distances, NODES, across), loss(distances, NODES))


@pytest.mark.parametrize('across', [False, True])
def test_only_negatives_of_other_images_drive_the_images_apart(across):
    """Free nodes of given radii, the same in three images but for a trace."""
    from hyper_mm.layers import HierarchyMapper

    torch.manual_seed(0)
    tree = dict(num_leaves=8, num_levels=3)
    module = HierarchyMapper(
        8, recipe='recommended', width=8, tree=tree, lift=dict(hyp_dim=None),
        loss=dict(across_images=across, balance=0.0),
    ).double()  # fmt: skip
    base = torch.randn(1, sum(NODES), 8).double()
    nodes = base + 0.05 * torch.randn(3, sum(NODES), 8).double()
    assert module.tree.nodes == NODES
    for _ in range(60):
        nodes.requires_grad_()
        loss = module.losses(nodes.split(NODES, 1))[0]['cont']
        (grad,) = torch.autograd.grad(loss, nodes)
        nodes = (nodes - 20 * grad).detach()
    leaves = torch.nn.functional.normalize(nodes[:, :8], dim=-1)
    cosine = torch.einsum('ind,jnd->nij', leaves, leaves)
    between = (cosine.sum() - 8 * 3) / (8 * 6)
    assert (between < 0.5) == across
