import itertools

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from hyper_mm.layers import HierarchyTree


def tree(dim=6, num_leaves=8, num_levels=4, **options) -> HierarchyTree:
    """A tree in float64 whose leaves are far apart and differ in their variances."""
    tree = HierarchyTree(dim, num_leaves, num_levels, **options).double()
    with torch.no_grad():
        tree.mu.normal_(0, 2)
        if tree.logvar is not None:
            tree.logvar.normal_(0, 1)
    return tree


def mixture_moments(mu, var):
    """Mean and variance of a uniform mixture of the rows."""
    mean = mu.mean(0)
    return mean, (var + mu.square()).mean(0) - mean.square()


@pytest.mark.parametrize('leaves, levels', [(8, 4), (32, 4), (12, 3), (5, 1)])
def test_nodes_of_each_level(leaves, levels):
    made = HierarchyTree(6, leaves, levels)
    assert made.nodes == tuple(leaves // 2**level for level in range(levels))
    assert [m.shape for m, _ in made.moments()] == [(n, 6) for n in made.nodes]


def test_moments_are_those_of_the_mixture_of_the_leaves():
    t = tree()
    for level, (mean, var) in enumerate(t.moments()):
        for k in range(len(mean)):
            leaves = slice(k << level, (k + 1) << level)
            expected = mixture_moments(t.mu[leaves], t.logvar[leaves].exp())
            torch.testing.assert_close((mean[k], var[k]), expected)


def test_moments_of_distant_leaves_do_not_cancel():
    t = HierarchyTree(2, 2, 2)
    with torch.no_grad():
        t.mu.fill_(1e4)
        t.logvar.fill_(-10)
    torch.testing.assert_close(t.moments()[-1][1], torch.full((1, 2), torch.tensor(-10.0).exp()))


@pytest.mark.parametrize('mixture', [False, True])
def test_sample_statistics(mixture):
    t = tree(dim=3, mixture=mixture)
    count = 1500
    with torch.no_grad():
        draws = torch.stack([t().samples for _ in range(count)])
    per_level = draws.split([n * k for n, k in zip(t.nodes, t.copies)], 1)
    for (mean, var), samples, nodes in zip(t.moments(), per_level, t.nodes):
        samples = samples.unflatten(1, (nodes, -1)).transpose(0, 1).flatten(1, 2)
        error = 6 * (var / samples.shape[1]).sqrt()
        assert ((samples.mean(1) - mean).abs() < error).all()
        torch.testing.assert_close(samples.var(1), var, rtol=0.2, atol=0)


def test_mixture_has_the_modes_of_the_leaves():
    t = tree(dim=1, num_leaves=2, num_levels=2, mixture=True)
    with torch.no_grad():
        t.mu.copy_(torch.tensor([[-5.0], [5.0]]))
        t.logvar.fill_(-4)
        top = torch.cat([t().samples[2:] for _ in range(50)])
    assert ((top.abs() - 5).abs() < 1).all()
    assert (top > 0).any() and (top < 0).any()


@pytest.mark.parametrize('mixture', [False, True])
def test_leaves_are_always_plain_gaussians(mixture):
    t = tree(mixture=mixture)
    eps = torch.randn(8, 6, dtype=torch.float64)
    queries = t(eps=[eps] * 4)
    torch.testing.assert_close(queries.samples[:8], t.mu + (t.logvar / 2).exp() * eps)


def test_given_noise_is_used_row_by_row():
    t = tree()
    eps = [torch.randn(n * k, 6, dtype=torch.float64) for n, k in zip(t.nodes, t.copies)]
    samples = t(eps=eps).samples.split([len(e) for e in eps])
    for (mean, var), drawn, noise, copies in zip(t.moments(), samples, eps, t.copies):
        for row in range(len(drawn)):
            node = row // copies
            expected = mean[node] + var[node].sqrt() * noise[row]
            torch.testing.assert_close(drawn[row], expected)


def test_noise_may_be_one_tensor():
    t = tree()
    eps = torch.randn(4, 8, 6, dtype=torch.float64)
    torch.testing.assert_close(t(eps=eps).samples, t(eps=list(eps)).samples)


def test_samples_belong_to_the_batch_not_to_an_image():
    queries = tree()()
    assert queries.samples.shape == (4 * 8, 6)
    assert queries.nodes == (8, 4, 2, 1) and queries.copies == (1, 2, 4, 8)


def test_two_draws_differ_and_a_seed_repeats_them():
    t = tree()
    torch.manual_seed(3)
    first, second = t().samples, t().samples
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(first, t().samples)


@pytest.mark.parametrize('cap, copies', [(1, (1, 1, 1, 1)), (2, (1, 2, 2, 2)), (3, (1, 2, 3, 3))])
@pytest.mark.parametrize('mixture', [False, True])
def test_max_samples(cap, copies, mixture):
    queries = tree(max_samples=cap, mixture=mixture)()
    assert queries.copies == copies
    assert len(queries.samples) == sum(n * k for n, k in zip((8, 4, 2, 1), copies))


def test_without_sampling_the_queries_are_the_means():
    t = tree()
    queries = t(sample=False)
    torch.testing.assert_close(queries.samples, torch.cat([m for m, _ in t.moments()]))
    assert queries.copies == (1, 1, 1, 1)


def test_samples_carry_gradient_to_mean_and_variance():
    t = tree()
    t().samples.square().sum().backward()
    assert (t.mu.grad != 0).all() and (t.logvar.grad != 0).all()


def test_deterministic_tree():
    t = tree(probabilistic=False)
    assert [name for name, _ in t.named_parameters()] == ['mu']
    assert torch.equal(t(sample=True).samples, t(sample=False).samples)
    assert t.copies == (1, 1, 1, 1)
    assert all(var is None for _, var in t.moments())
    assert t.kl() == 0


def test_kl_equals_that_of_torch():
    t = tree()
    mean, var = t.moments()[-1]
    node = Independent(Normal(mean, var.sqrt()), 1)
    standard = Independent(Normal(torch.zeros_like(mean), torch.ones_like(var)), 1)
    expected = kl_divergence(node, standard)
    torch.testing.assert_close(t.kl('sum'), expected.sum())
    torch.testing.assert_close(t.kl('mean'), expected.sum() / mean.numel())


def test_kl_of_the_standard_normal_is_zero_and_smallest():
    t = tree()
    with torch.no_grad():
        t.mu.zero_()
        t.logvar.zero_()
    assert t.kl() == 0
    t.kl().backward()
    assert t.logvar.grad.abs().max() < 1e-12
    assert tree().kl() > 0


def test_siblings_start_together_and_apart_from_others():
    t = HierarchyTree(384)
    cosine = torch.nn.functional.cosine_similarity(t.mu[:, None], t.mu[None], dim=-1)
    for i, j in itertools.combinations(range(32), 2):
        if i // 2 == j // 2:
            assert cosine[i, j] > 0.9995
        else:
            assert cosine[i, j].abs() < 0.5
    assert t.mu.std().item() == pytest.approx(1.5, rel=0.1)
    assert t.logvar.abs().max() <= (6 / (32 + 384)) ** 0.5
    assert t.logvar.std() > 0


def test_a_single_leaf():
    t = HierarchyTree(6, 1, 1)
    assert t().samples.shape == (1, 6)


@pytest.mark.parametrize('leaves, levels', [(10, 4), (0, 1), (4, 4), (-8, 2)])
def test_leaves_must_fill_the_levels(leaves, levels):
    with pytest.raises(ValueError) as error:
        HierarchyTree(6, leaves, levels)
    message = str(error.value)
    assert message.startswith('num_leaves must be divisible by')
    assert f'num_leaves={leaves}' in message and f'num_levels={levels}' in message


@pytest.mark.parametrize(
    'options, message', [(dict(num_levels=0), 'num_levels'), (dict(max_samples=0), 'max_samples')]
)
def test_numbers_must_be_at_least_one(options, message):
    with pytest.raises(ValueError, match=f'{message} must be an integer of at least 1, got 0'):
        HierarchyTree(6, **options)


def test_parent_is_the_closest_gaussian_to_its_mixture():
    """Moment matching minimises KL(mixture || Gaussian): no perturbed Gaussian does better."""
    t = tree(dim=2, num_leaves=2, num_levels=2)
    mean, var = (x[0].detach() for x in t.moments()[-1])
    leaves = Normal(t.mu.detach(), (t.logvar.detach() / 2).exp())
    samples = leaves.sample((20000,)).flatten(0, 1)

    def cross_entropy(mean, var):
        return -MultivariateNormal(mean, var.diag()).log_prob(samples).mean()

    best = cross_entropy(mean, var)
    for shift, factor in itertools.product((-0.3, 0.3), (0.8, 1.25)):
        assert cross_entropy(mean + shift, var * factor) > best


class TestTreeInit:
    def test_relatives_are_nearer_the_closer_they_are(self):
        t = HierarchyTree(512, 16, 3, init='tree')
        unit = torch.nn.functional.normalize(t.mu.detach(), dim=-1)
        cosine = unit @ unit.T
        # shared vectors over all: siblings 2 of 3, cousins 1 of 3, others none
        for offset, expected in ((1, 2 / 3), (2, 1 / 3), (4, 0.0)):
            found = torch.stack([cosine[i, i + offset] for i in range(0, 12, 4)]).mean()
            assert found.item() == pytest.approx(expected, abs=0.1)

    def test_scale_and_sigma(self):
        t = HierarchyTree(512, 16, 3, init='tree', spread=2.0, sigma=0.2)
        assert t.mu.std().item() == pytest.approx(2 * 3**0.5, rel=0.15)
        torch.testing.assert_close(t.logvar.exp(), torch.full((16, 512), 0.04))
        std = HierarchyTree(4, 4, 2, init='tree').logvar.exp().sqrt()
        torch.testing.assert_close(std, torch.full((4, 4), 0.1))

    def test_sigma_of_pairs(self):
        var = HierarchyTree(4, 4, 2, sigma=0.5).logvar.exp()
        torch.testing.assert_close(var, torch.full((4, 4), 0.25))
