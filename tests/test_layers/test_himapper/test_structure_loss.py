import math

import pytest
import torch
from torch.nn.functional import one_hot

from hyper_mm.layers import HierarchyMapper, StructureLoss
from hyper_mm.layers.himapper.structure_loss import (
    balance_loss,
    containment_loss,
    reconstruction_loss,
)

NODES = (8, 4, 2)


def hard(leaves):
    """One-hot assignment of all levels where parents have the regions of their children."""
    return tuple(one_hot(leaves // (8 // n), n).mT.float() for n in NODES)


def soft(length=9):
    return tuple(torch.randn(2, n, length).softmax(1) for n in NODES)


class TestReconstruction:
    def test_zero_where_nodes_carry_the_features(self):
        leaves = torch.tensor([[0, 3, 5, 3, 7], [1, 1, 2, 6, 4]])
        memory = torch.randn(2, 5, 6)
        target = (memory - memory.mean((0, 1))) / memory.std((0, 1), unbiased=False)
        shares = one_hot(torch.arange(5), 5).float().expand(2, 5, 5)
        assert reconstruction_loss((target,), (shares,), memory) < 1e-5
        assert reconstruction_loss((-target,), (shares,), memory) > 2 - 1e-5
        assert 0.1 < reconstruction_loss((torch.randn(2, 8, 6),), hard(leaves)[:1], memory) < 1.9

    def test_features_get_no_gradient(self):
        memory = torch.randn(2, 9, 6, requires_grad=True)
        levels = tuple(torch.randn(2, n, 6, requires_grad=True) for n in NODES)
        reconstruction_loss(levels, soft(), memory).backward()
        assert memory.grad is None
        assert all((x.grad != 0).any() for x in levels)

    def test_ignores_shift_and_scale_of_channels(self):
        memory, levels, shares = torch.randn(2, 9, 6), (torch.randn(2, 8, 6),), soft()[:1]
        moved = memory * torch.rand(6).add(0.5) + torch.randn(6)
        torch.testing.assert_close(
            reconstruction_loss(levels, shares, memory),
            reconstruction_loss(levels, shares, moved),
            rtol=1e-3,
            atol=1e-4,
        )

    def test_constant_features_are_finite(self):
        levels = (torch.randn(1, 8, 6, requires_grad=True),)
        loss = reconstruction_loss(levels, (torch.full((1, 8, 1), 1 / 8),), torch.ones(1, 1, 6))
        loss.backward()
        assert loss.isfinite() and levels[0].grad.isfinite().all()


class TestBalance:
    def test_even_use_is_zero_and_one_node_is_one(self):
        even = hard(torch.arange(8).repeat(2, 1))
        assert balance_loss(even).abs() < 1e-6
        assert balance_loss(hard(torch.zeros(2, 8, dtype=torch.long))) == pytest.approx(1, abs=1e-5)

    def test_by_hand(self):
        share = torch.tensor([[[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])
        entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
        assert balance_loss((share,)).item() == pytest.approx(1 - entropy, abs=1e-6)

    def test_single_node_has_nothing_to_balance(self):
        assert balance_loss((torch.ones(1, 1, 5),)) == 0


class TestContainment:
    def test_zero_where_parents_hold_their_children(self):
        assert containment_loss(hard(torch.randint(8, (2, 9)))) == 0

    def test_by_hand(self):
        below = torch.tensor([[[0.5], [0.2], [0.2], [0.1]]])
        above = torch.tensor([[[0.6], [0.4]]])
        expected = -math.log(0.7 * 0.6 + 0.3 * 0.4)
        assert containment_loss((below, above)).item() == pytest.approx(expected, abs=1e-6)

    def test_total_disagreement_is_finite(self):
        below, above = hard(torch.zeros(1, 3, dtype=torch.long))[:2]
        loss = containment_loss((below, above.flip(1).requires_grad_()))
        assert loss.isfinite()


class TestStructureLoss:
    def test_only_terms_with_a_weight(self):
        levels, memory = tuple(torch.randn(2, n, 6) for n in NODES), torch.randn(2, 9, 6)
        assert StructureLoss()(levels) == {}
        assert not StructureLoss(entailment=1.0).needs_assignment
        found = StructureLoss(balance=2.0, containment=1.0)(levels, soft(), memory)
        assert set(found) == {'balance', 'containment'}

    def test_weights_multiply(self):
        shares = soft()
        one = StructureLoss(balance=1.0)((), shares)['balance']
        assert StructureLoss(balance=3.0)((), shares)['balance'] == pytest.approx(3 * one.item())

    @pytest.mark.parametrize('name', ['reconstruction', 'balance', 'containment', 'entailment'])
    def test_negative_weight(self, name):
        with pytest.raises(ValueError, match=f'structure.{name} must not be negative, got -1'):
            StructureLoss(**{name: -1})

    @pytest.mark.parametrize('name', ['reconstruction', 'balance', 'containment'])
    def test_without_an_assignment(self, name):
        with pytest.raises(ValueError, match='assignment must be given .* got None'):
            StructureLoss(**{name: 1.0})((), None, torch.randn(2, 5, 4))

    def test_without_features(self):
        with pytest.raises(ValueError, match='memory must be given .* got None'):
            StructureLoss(reconstruction=1.0)((), soft())


@pytest.mark.parametrize('competition', [False, True])
@pytest.mark.parametrize('manifold', ['lorentz', 'euclidean'])
def test_mapper_with_all_terms(competition, manifold):
    module = HierarchyMapper(
        12,
        num_leaves=8,
        num_levels=3,
        width=8,
        num_heads=2,
        manifold=manifold,
        competition=competition,
        structure=dict(reconstruction=1.0, balance=1.0, containment=1.0, entailment=1.0),
    )
    memory = torch.randn(2, 9, 12)
    found = module(memory, torch.randn(2, 1, 12))
    for share, nodes in zip(found.assignment, NODES):
        assert share.shape == (2, nodes, 9)
        torch.testing.assert_close(share.sum(1), torch.ones(2, 9))
    losses, _ = module.losses(found.levels, found.assignment, memory)
    assert set(losses) == {'cont', 'kl', 'reconstruction', 'balance', 'containment', 'entailment'}
    sum(losses.values()).backward()
    parts = (module.tree, module.decomposer, module.lift)
    assert all(p.grad.isfinite().all() for part in parts for p in part.parameters())


def test_assignment_costs_nothing_unless_asked_for():
    module = HierarchyMapper(12, num_leaves=8, num_levels=3, width=8, num_heads=2)
    memory, token = torch.randn(2, 9, 12), torch.randn(2, 1, 12)
    assert module(memory, token).assignment is None
    assert module(memory, token, with_assignment=True).assignment is not None
    structured = HierarchyMapper(
        12, num_leaves=8, num_levels=3, width=8, num_heads=2, structure=dict(balance=1.0)
    )
    assert structured(memory, token).assignment is not None
    assert structured.eval()(memory, token).assignment is None


def test_entailment_alone_builds_the_lift():
    module = HierarchyMapper(
        12, width=8, num_heads=2, contrastive_weight=0, structure=dict(entailment=1.0)
    )
    assert module.lift is not None and module.contrast is None
    losses, _ = module.losses(module(torch.randn(1, 9, 12), torch.randn(1, 1, 12)).levels)
    assert set(losses) == {'kl', 'entailment'}


def test_children_inside_the_cones_cost_nothing():
    module = HierarchyMapper(12, num_leaves=8, num_levels=3, structure=dict(entailment=1.0))
    top = torch.randn(1, 2, 128)
    top = 0.5 * top / top.norm(dim=-1, keepdim=True)
    levels = [top * s for s in (1, 2, 3)]
    levels = [x.repeat_interleave(x_n // 2, 1) for x, x_n in zip(levels, (2, 4, 8))]
    u = torch.cat(levels[::-1], 1)
    # collinear: float32 leaves an angle of about 1e-3
    assert module.lift.cone_energies(u, NODES).max() < 1e-6
    assert module.lift.cone_energies(u.flip(1), NODES[::-1][::-1]).shape == (1, 12)
    inverted = torch.cat([-levels[2], -levels[1], levels[0]], 1)
    assert module.lift.cone_energies(inverted, NODES)[:, 8:].min() > 1
