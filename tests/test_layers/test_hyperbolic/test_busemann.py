"""Classification by ideal prototypes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from hyper_mm.layers import BusemannHead, ideal_prototypes
from hyper_mm.ops import busemann, lorentz


class TestPrototypes:
    @pytest.mark.parametrize(('num', 'dim'), [(2, 2), (3, 2), (4, 3), (5, 7), (9, 8), (2, 1)])
    def test_a_simplex_has_equal_angles(self, num, dim):
        cosine = ideal_prototypes(num, dim) @ ideal_prototypes(num, dim).T
        expected = torch.full((num, num), -1 / (num - 1)).fill_diagonal_(1)
        assert_close(cosine, expected, rtol=0, atol=1e-5)

    def test_a_polygon_of_the_plane(self):
        cosine = (ideal_prototypes(8, 2) @ ideal_prototypes(8, 2).T).fill_diagonal_(-1)
        assert_close(cosine.max(1).values, torch.full((8,), math.cos(math.pi / 4)))

    def test_many_are_farther_apart_than_random_ones(self):
        x, random = ideal_prototypes(40, 6), torch.randn(40, 6, generator=torch.Generator())
        random = random / random.norm(dim=1, keepdim=True)
        nearest = [(p @ p.T).fill_diagonal_(-1).max(1).values for p in (x, random)]
        assert nearest[0].max() < nearest[1].mean() - 0.1
        assert torch.equal(x, ideal_prototypes(40, 6))

    @pytest.mark.parametrize(('num', 'dim'), [(0, 2), (3, 1), (2, 0)])
    def test_refuses(self, num, dim):
        with pytest.raises(ValueError, match=r'must be'):
            ideal_prototypes(num, dim)


class TestHead:
    def test_logits_are_busemann_functions(self):
        model, x = BusemannHead(4, 3, curvature=0.7, tau=0.5), torch.randn(6, 4)
        points = lorentz.expmap0(model.tangent(x, 0.7), 0.7)
        expected = busemann.lorentz_busemann(points[:, None], model.prototypes, 0.7)
        assert_close(model(x), -2 * expected, rtol=1e-5, atol=1e-5)

    def test_loss_as_of_the_paper(self):
        """In the ball, of curvature -1."""
        model, x = BusemannHead(4, 3, penalty=0.6), torch.randn(6, 4)
        labels = torch.tensor([0, 1, 2, 0, 1, 2])
        p = lorentz.to_poincare(lorentz.expmap0(model.tangent(x, 1.0), 1.0), 1.0)
        gap = 1 - p.square().sum(1)
        value = torch.log((model.prototypes[labels] - p).square().sum(1) / gap) - 0.6 * gap.log()
        assert_close(model.loss(x, labels), value.mean(), rtol=1e-5, atol=1e-6)

    def test_prototypes_are_saved_and_not_trained(self):
        model = BusemannHead(4, 3, prototypes=torch.eye(4)[:3] * 5)
        assert_close(model.prototypes, torch.eye(4)[:3])
        assert 'prototypes' in model.state_dict()
        assert 'prototypes' not in dict(model.named_parameters())

    @pytest.mark.parametrize(
        ('options', 'words'),
        [
            (dict(prototypes=torch.eye(3)), r'prototypes must be of shape \(3, 4\), got \(3, 3\)'),
            (dict(prototypes=torch.zeros(3, 4)), 'must be no zero vectors'),
            (dict(penalty=-1.0), 'penalty must not be negative'),
            (dict(tau=0.0), 'tau must be positive'),
            (dict(logit_scale=1.0), 'logit_scale is 1 / tau here'),
            (dict(init='from_linear'), 'ideal prototypes are fixed'),
        ],
    )
    def test_refuses(self, options, words):
        with pytest.raises(ValueError, match=words):
            BusemannHead(4, 3, **options)
