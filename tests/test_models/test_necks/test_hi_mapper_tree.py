import pytest
import torch

from hyper_mm.models.necks.hi_mapper_tree import HiMapperTree

SMALL = dict(in_channels=8, num_leaves=4, num_levels=2, width=8, num_heads=2, hyp_dim=4)


def test_words_of_every_level_in_training():
    neck = HiMapperTree(**SMALL, competition=True)
    levels = tuple(torch.randn(2, 8, 3, 5) for _ in range(2))
    assert [x.shape for x in neck(levels)] == [(2, 8, 3, 5)] * 4
    assert len(neck.eval()(levels)) == 2


def test_words_say_which_node_and_nothing_else():
    options = dict(probabilistic=False, dropout=0.0, cross_scale=1e4, competition=True, num_heads=1)
    neck = HiMapperTree(**{**SMALL, **options})
    *_, leaves, _ = neck((torch.randn(2, 8, 6, 6),))
    words = leaves.movedim(1, -1).flatten(0, 2)
    distance = torch.cdist(words, neck.norms[0](neck.mapper.tree.mu))
    assert (distance.min(1).values < 1e-3).float().mean() > 0.8


def test_words_teach_the_assignment_and_the_tree():
    neck = HiMapperTree(**SMALL, probabilistic=False)
    features = torch.randn(2, 8, 4, 4, requires_grad=True)
    *_, top = neck((features,))
    (top * torch.randn_like(top)).sum().backward()
    attention = neck.mapper.decomposer.block.cross_attn
    for weight in (attention.q_proj.weight, attention.k_proj.weight, neck.mapper.tree.mu):
        assert weight.grad.abs().max() > 0
    assert features.grad.abs().max() > 0


def test_the_tree_starts_as_one():
    mu = HiMapperTree(**{**SMALL, 'in_channels': 512}).mapper.tree.mu
    distance = torch.cdist(mu, mu)
    assert distance[0, 1] < 0.85 * distance[0, 2:].min()


def test_bad_options():
    with pytest.raises(ValueError, match='spread'):
        HiMapperTree(**SMALL, spread=0)
    with pytest.raises(ValueError, match='inner neck'):
        HiMapperTree(**SMALL, neck=dict(type='FPN'))
