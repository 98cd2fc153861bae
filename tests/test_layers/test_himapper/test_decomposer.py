"""The decomposer against a reading of the specification in plain loops."""

import pytest
import torch

from hyper_mm.layers import HierarchyDecomposer, HierarchyTree, Queries
from tests.helpers.hierarchy import DIM, HEADS, WIDTH, Reference, random, randomised


@pytest.fixture
def tree():
    return HierarchyTree(DIM, 8, 3).double()


@pytest.fixture
def decomposer():
    return randomised(HierarchyDecomposer(DIM, WIDTH, HEADS, scale=1.7))


class TestDecomposer:
    @pytest.mark.parametrize('max_samples', [None, 1, 3])
    @pytest.mark.parametrize('sample', [True, False])
    def test_equals_the_formulas(self, decomposer, sample, max_samples):
        queries = HierarchyTree(DIM, 8, 3, max_samples=max_samples).double()(sample)
        memory = random(2, 5, DIM)
        found = decomposer(memory, queries, with_samples=True)
        parts = queries.samples.split([n * k for n, k in zip(queries.nodes, queries.copies)])
        reference = Reference(decomposer)
        for level, (samples, copies) in enumerate(zip(parts, queries.copies)):
            for image in range(2):
                nodes, full = reference.decompose(memory[image], samples, copies, 1.7)
                torch.testing.assert_close(found.levels[level][image], nodes)
                torch.testing.assert_close(found.samples[level][image], full)

    def test_one_query_for_each_mean_equals_copies_of_it(self, decomposer, tree):
        once = tree(sample=False)
        means = once.samples.split(once.nodes)
        copies = Queries(
            torch.cat([m.repeat_interleave(k, 0) for m, k in zip(means, tree.copies)]),
            tree.nodes,
            tree.copies,
        )
        memory = random(2, 5, DIM)
        for a, b in zip(decomposer(memory, once).levels, decomposer(memory, copies).levels):
            torch.testing.assert_close(a, b)

    @pytest.mark.parametrize('length', [1, 2, 49, 300])
    def test_any_memory_length(self, decomposer, tree, length):
        levels = decomposer(random(2, length, DIM), tree()).levels
        assert [x.shape for x in levels] == [(2, n, DIM) for n in (8, 4, 2)]
        assert all(x.isfinite().all() for x in levels)

    def test_images_do_not_see_each_other(self, decomposer, tree):
        memory, queries = random(4, 5, DIM), tree()
        together = decomposer(memory, queries).levels
        for image in range(4):
            alone = decomposer(memory[image : image + 1], queries).levels
            for a, b in zip(alone, together):
                torch.testing.assert_close(a[0], b[image])

    @pytest.mark.parametrize('sample', [True, False])
    def test_levels_do_not_see_each_other(self, decomposer, tree, sample):
        queries = tree(sample)
        memory = random(1, 5, DIM)
        samples = queries.samples.clone().requires_grad_()
        levels = decomposer(memory, queries._replace(samples=samples)).levels
        sizes = [n * k for n, k in zip(queries.nodes, queries.copies)]
        for level, nodes in enumerate(levels):
            (grad,) = torch.autograd.grad(nodes.square().sum(), samples, retain_graph=True)
            touched = [(part != 0).any().item() for part in grad.split(sizes)]
            assert touched == [i == level for i in range(3)]

    def test_order_of_the_memory_does_not_matter(self, decomposer, tree):
        memory, queries = random(2, 9, DIM), tree()
        shuffled = memory[:, torch.randperm(9)]
        for a, b in zip(decomposer(memory, queries).levels, decomposer(shuffled, queries).levels):
            torch.testing.assert_close(a, b)

    def test_samples_only_where_asked_for(self, decomposer, tree):
        assert decomposer(random(1, 5, DIM), tree()).samples is None

    @pytest.mark.parametrize('sample', [True, False])
    def test_attention_is_that_of_the_forward_pass(self, decomposer, tree, sample):
        queries, memory = tree(sample), random(2, 5, DIM)
        weights = decomposer.attention(memory, queries)
        assert [w.shape for w in weights] == [(2, n, 5) for n in (8, 4, 2)]
        for w in weights:
            torch.testing.assert_close(w.sum(-1), torch.ones_like(w[..., 0]))
        captured = {}

        def keep(module, inputs, output):
            captured['query'], captured['memory'] = inputs

        decomposer.block.cross_attn.register_forward_hook(keep)
        decomposer(memory, queries)
        query, kv = captured['query'], captured['memory']
        reference = Reference(decomposer)
        q = reference.linear('block.cross_attn.q_proj', query).unflatten(-1, (HEADS, -1))
        k = reference.linear('block.cross_attn.k_proj', kv).unflatten(-1, (HEADS, -1))
        expected = (1.7 * torch.einsum('qhd,bmhd->bhqm', q, k)).softmax(-1).mean(1)
        start = 0
        for w, nodes, copies in zip(weights, queries.nodes, queries.copies):
            for k in range(nodes):
                rows = expected[:, start + k * copies : start + (k + 1) * copies]
                torch.testing.assert_close(w[:, k], rows.mean(1))
            start += nodes * copies

    def test_default_scale_is_that_of_the_official_code(self):
        cross = HierarchyDecomposer(DIM, 128, 4).block.cross_attn
        assert cross.scale == pytest.approx(1 / 0.07)
        assert HierarchyDecomposer(DIM, 128, 4, None).block.cross_attn.scale == 32**-0.5
        assert HierarchyDecomposer(DIM, 128, 4).block.self_attn.scale == 32**-0.5

    def test_initial_weights(self):
        made = HierarchyDecomposer(DIM, 128, 4)
        for name, parameter in made.named_parameters():
            if parameter.ndim == 2:
                assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
            else:
                is_scale = name.endswith('weight')
                assert (parameter == float(is_scale)).all(), name


def test_dropout_is_of_training_alone(tree):
    queries, memory = tree(False), random(2, 5, DIM)
    module = randomised(HierarchyDecomposer(DIM, WIDTH, HEADS, dropout=0.5))
    plain = HierarchyDecomposer(DIM, WIDTH, HEADS, dropout=0.0).double()
    plain.load_state_dict(module.state_dict())
    for a, b in zip(module(memory, queries).levels, plain(memory, queries).levels):
        torch.testing.assert_close(a, b)
    a, b = (module.train()(memory, queries).levels[0] for _ in range(2))
    assert not torch.allclose(a, b)


def test_competition_changes_all_nodes(tree):
    memory, queries = random(1, 5, DIM), tree(False)
    plain = randomised(HierarchyDecomposer(DIM, WIDTH, HEADS))
    competing = HierarchyDecomposer(DIM, WIDTH, HEADS, competition=True).double().eval()
    competing.load_state_dict(plain.state_dict())
    found, other = (m(memory, queries).levels for m in (competing, plain))
    assert all(not torch.allclose(a, b) for a, b in zip(found, other))
    assert all(x.isfinite().all() for x in found)


class TestBottomUp:
    def made(self, **options):
        torch.manual_seed(0)
        decomposer = HierarchyDecomposer(
            DIM, WIDTH, HEADS, scale=1.7, competition=True, bottom_up=True, **options
        )
        return randomised(decomposer).eval()

    def test_region_of_a_parent_is_that_of_its_children(self, tree):
        nodes = self.made()(random(2, 9, DIM), tree(sample=False), with_assignment=True)
        assert [x.shape for x in nodes.levels] == [(2, n, DIM) for n in (8, 4, 2)]
        for below, above in zip(nodes.assignment, nodes.assignment[1:]):
            torch.testing.assert_close(above, below[:, 0::2] + below[:, 1::2])
            torch.testing.assert_close(above.sum(1), torch.ones(2, 9).double())

    def test_only_the_leaves_ask(self, tree):
        decomposer, memory = self.made(), random(2, 9, DIM)
        queries = tree(sample=False)
        others = torch.cat([queries.samples[:8], random(6, DIM)])
        changed = queries._replace(samples=others)
        for a, b in zip(decomposer(memory, queries).levels, decomposer(memory, changed).levels):
            assert torch.equal(a, b)
        for a, b in zip(
            decomposer.attention(memory, queries), decomposer.attention(memory, changed)
        ):
            assert torch.equal(a, b)

    def test_samples_of_a_level_are_not_needed(self, tree):
        drawn = tree(sample=True)
        nodes = self.made()(random(2, 9, DIM), drawn, with_assignment=True)
        assert [x.shape[1] for x in nodes.levels] == [8, 4, 2]
        torch.testing.assert_close(nodes.assignment[2].sum(1), torch.ones(2, 9).double())

    def test_a_node_whose_children_see_one_position_carries_what_is_there(self, tree):
        """The query is not a part of a node: equal images give equal nodes, whatever asks."""
        decomposer, memory = self.made(), random(2, 1, DIM)
        queries = tree(sample=False)
        leaves = decomposer(memory, queries).levels[0]
        torch.testing.assert_close(leaves, leaves[:, :1].expand_as(leaves))

    def test_needs_competition(self):
        with pytest.raises(ValueError, match='bottom_up=True needs competition=True'):
            HierarchyDecomposer(DIM, WIDTH, HEADS, bottom_up=True)
