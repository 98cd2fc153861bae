"""Losses that know a tree."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from hyper_mm.layers.taxonomy import (
    LevelLoss,
    PathLogits,
    Taxonomy,
    TreeMinLoss,
    TreeSoftmax,
    TreeTripletLoss,
)

TREE = Taxonomy.load(
    {'animal': {'bird': ['owl', 'hen'], 'fish': ['cod']}, 'thing': ['cup'], 'sky': []}
)
OWL, HEN, COD, CUP, SKY, BIRD, FISH, THING, ANIMAL = range(9)


def logits(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, requires_grad=True)


class TestTreeSoftmax:
    def test_probabilities_multiply_along_the_path(self):
        z, model = logits(7, 9), TreeSoftmax(TREE)
        p = model(z).exp()
        assert_close(p.sum(1), torch.ones(7))
        top = z[:, [SKY, THING, ANIMAL]].softmax(1)[:, 2]
        bird = z[:, [BIRD, FISH]].softmax(1)[:, 0]
        owl = z[:, [OWL, HEN]].softmax(1)[:, 0]
        assert_close(p[:, OWL], top * bird * owl)
        assert_close(p[:, COD], top * (1 - bird))

    def test_shapes_and_large_logits(self):
        z = (200 * logits(2, 3, 9)).detach().requires_grad_()
        value = TreeSoftmax(TREE)(z)
        assert value.shape == (2, 3, 5)
        assert value.isfinite().all()
        value.sum().backward()
        assert z.grad.isfinite().all()

    def test_of_a_flat_tree_is_the_softmax(self):
        tree, z = Taxonomy(dict.fromkeys('abc', ())), logits(4, 3)
        assert_close(TreeSoftmax(tree)(z), z.log_softmax(1))


class TestTreeMin:
    @pytest.mark.parametrize('label', [-2, 6])
    def test_no_class_is_refused(self, label):
        """A negative one but -1 would be a class from the end."""
        with pytest.raises(IndexError):
            TreeMinLoss(TREE)(logits(1, 9), torch.tensor([label]))

    def test_as_of_the_paper(self):
        z, model = logits(6, 9), TreeMinLoss(TREE)
        target = torch.tensor([OWL, HEN, COD, CUP, SKY, OWL])
        s, inside, total = z.sigmoid(), TREE.membership(), 0
        for row, y in enumerate(target):
            for v in range(9):
                above = TREE.path(v)
                below = [u for u in range(9) if v in TREE.path(u)]
                if inside[v, y]:
                    total = total - s[row, above].min().log()
                else:
                    total = total - (1 - s[row, below].max()).log()
        assert_close(model(z, target), total / 6)

    def test_ignored_positions_do_not_count(self):
        z, target = logits(6, 9), torch.tensor([OWL, -1, COD, -1, SKY, OWL])
        model = TreeMinLoss(TREE, gamma=2.0)
        assert_close(model(z, target), model(z[target >= 0], target[target >= 0]))
        assert model(z, torch.full((6,), -1)) == 0

    def test_gamma_lowers_the_loss_of_what_is_known(self):
        z = logits(6, 9)
        target = torch.zeros(6, dtype=torch.long)
        assert TreeMinLoss(TREE, gamma=2.0)(z, target) < TreeMinLoss(TREE)(z, target)

    def test_path_logits_prefer_a_consistent_path(self):
        z = torch.full((1, 9), -4.0)
        z[0, [OWL, CUP, THING]] = 3.0  # the owl without bird and animal
        assert PathLogits(TREE)(z).argmax() == CUP


class TestLevelLoss:
    def test_sums_the_levels(self):
        z, target = logits(6, 5), torch.tensor([OWL, HEN, COD, CUP, SKY, OWL])
        p = z.softmax(1)
        expected = F.cross_entropy(z, target)
        for weight, d in ((0.5, 2), (0.25, 1)):
            group = TREE.at_depth(d)[0]
            member = (group[target][:, None] == group).float()
            expected = expected - weight * (p * member).sum(1).log().mean()
        assert_close(LevelLoss(TREE, decay=0.5)(z, target), expected)

    def test_finite_where_a_probability_underflows(self):
        z = torch.tensor([[200.0, -200, -200, -200, -200]], requires_grad=True)
        loss = LevelLoss(TREE)(z, torch.tensor([SKY]))
        loss.backward()
        assert loss.isfinite()
        assert z.grad.isfinite().all()


class TestTriplets:
    def test_orders_embeddings(self):
        torch.manual_seed(0)
        target = torch.tensor([OWL, HEN, COD, CUP, SKY] * 4)
        x, model = torch.randn(20, 3, requires_grad=True), TreeTripletLoss(TREE)
        before = model(x, target).item()
        optimizer = torch.optim.Adam([x], 0.05)
        for _ in range(100):
            optimizer.zero_grad()
            model(x, target).backward()
            optimizer.step()
        assert model(x, target) < 0.5 * before
        unit = F.normalize(x.detach(), dim=1)
        cosine = unit @ unit.T
        assert cosine[0, 1] > cosine[0, 2] > cosine[0, 3:5].mean()

    def test_no_triplet_is_no_loss(self):
        x = logits(4, 3)
        for target in (torch.full((4,), -1), torch.full((4,), OWL)):
            value = TreeTripletLoss(TREE)(x, target)
            assert value == 0
            value.backward()


@pytest.mark.parametrize('kind', [TreeMinLoss, TreeTripletLoss])
def test_refuses(kind):
    with pytest.raises(ValueError, match='loss_weight must not be negative'):
        kind(TREE, loss_weight=-1.0)
    with pytest.raises(ValueError, match='must be positive|must not be negative'):
        kind(TREE, **({'gamma': -1.0} if kind is TreeMinLoss else {'triplets': 0}))
    with pytest.raises(ValueError, match='decay must be positive'):
        LevelLoss(TREE, decay=0.0)


@pytest.mark.parametrize('name', ['coco133', 'camvid', 'tiny_imagenet', 'part_scenes'])
def test_consistent_logits_of_real_trees(name):
    """Against the definition; memory is in proportion to the nodes, not to their pairs."""
    tree = Taxonomy.load(name)
    z, model = torch.randn(5, tree.num_nodes, requires_grad=True), TreeMinLoss(tree)
    lines = [tree.path(v) for v in range(tree.num_nodes)]
    least = torch.stack([z[:, line].amin(1) for line in lines], 1)
    under = [[u for u, line in enumerate(lines) if v in line] for v in range(tree.num_nodes)]
    largest = torch.stack([z[:, nodes].amax(1) for nodes in under], 1)
    found = model.consistent(z)
    assert torch.equal(found[0], least) and torch.equal(found[1], largest)
    pull = torch.randn(2, 5, tree.num_nodes)
    grads = [
        torch.autograd.grad((pull[0] * a + pull[1] * b).sum(), z, retain_graph=True)[0]
        for a, b in (found, (least, largest))
    ]
    torch.testing.assert_close(*grads)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, id):
        model.consistent(z)
    assert max(sizes) <= 5 * 4 * tree.num_nodes
