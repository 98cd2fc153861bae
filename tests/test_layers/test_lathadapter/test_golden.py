"""Parity of LatHAdapter's layers with the official code of HIER and with the corrected reading."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hyper_mm.layers.lathadapter.latent_hierarchy import (
    AttributeRefiner,
    LatentHierarchyLoss,
    joint_logits,
)

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

PRECISIONS = [torch.float32, torch.float64]


@pytest.fixture(params=PRECISIONS, ids=['float32', 'float64'])
def dtype(request):
    return request.param


def limit(dtype, single):
    return 3 * single if dtype == torch.float32 else 1e-9


def refiner_of(g, affinity, start):
    attributes = g[f'A_{start}']
    refiner = AttributeRefiner(*attributes.shape, beta=float(g['beta']), affinity=affinity)
    refiner.attributes = torch.nn.Parameter(attributes)
    return refiner


@pytest.mark.parametrize('file', golden_files('hier_atr*.npz'))
class TestRefinerGolden:
    @pytest.mark.parametrize('case', ['relu_cone', 'raw_cone', 'relu_neg', 'raw_neg'])
    def test_golden_refinement(self, file, dtype, case):
        g = Golden(file, dtype)
        refiner = refiner_of(g, *case.split('_'))
        text = g['T'].requires_grad_()
        affinity, degree = refiner.affinities(torch.cat([text, refiner.attributes]))
        assert absolute(affinity, g.exact(f'S_{case}')) < limit(dtype, 1e-6)
        assert absolute(degree, g.exact(f'deg_{case}')) < limit(dtype, 5e-6)
        refined = refiner.diffuse(text)
        assert refined.isfinite().all()
        if case == 'raw_neg':  # the formula is undefined there
            return
        assert absolute(refined, g.exact(f'Fhat_{case}')) < limit(dtype, 1e-6)
        inputs = dict(T=text, A=refiner.attributes)
        grads = torch.autograd.grad((g['cot'] * refiner(text)).sum(), inputs.values())
        for name, grad in zip(inputs, grads):
            assert of_max(grad, g.exact(f'grad_{name}_{case}')) < limit(dtype, 3e-6), name

    def test_golden_classification(self, file, dtype):
        g = Golden(file, dtype)
        refiner = refiner_of(g, 'relu', 'cone')
        text, image = g['T'].requires_grad_(), g['v'].requires_grad_()
        tau = float(g['tau'])
        cosine, hyperbolic = joint_logits(image, refiner(text), float(g['c']), tau)
        assert absolute(cosine, g.exact('cos') / g.exact('tau')) < limit(dtype, 3e-5)
        assert absolute(-hyperbolic, g.exact('dist_h')) < limit(dtype, 1e-6)
        probs = (cosine + hyperbolic).softmax(-1)
        assert absolute(probs, g.exact('probs')) < limit(dtype, 1e-5)
        losses = [F.cross_entropy(x, g['labels']) for x in (cosine, hyperbolic)]
        assert absolute(losses[0], g.exact('L_ecls')) < limit(dtype, 3e-5)
        assert absolute(losses[1], g.exact('L_hcls')) < limit(dtype, 1e-6)
        inputs = dict(T=text, A=refiner.attributes, v=image)
        for (name, _), grad in zip(
            inputs.items(), torch.autograd.grad(sum(losses), inputs.values())
        ):
            assert of_max(grad, g.exact(f'grad_cls_{name}')) < limit(dtype, 1e-5), name


class Case:
    """A golden file of the triplet loss and the module with its settings.

    The file holds the curvature as the official code rounds it to float32; the number that the
    official code is given, and uses in the factor of its gradients, is the shortest decimal that
    rounds so.
    """

    def __init__(self, file, dtype, compat):
        self.g = g = Golden(file, dtype)
        c = g.exact('c').item()
        self.loss = LatentHierarchyLoss(
            curvature=float(str(np.float32(c))) if compat == 'official' else c,
            margin=float(g['margin']),
            tau=float(g['tau']),
            clip_radius=float(g['clip_r']),
            compat=compat,
        )

    def term(self, distances, name):
        g = self.g
        noise = g[f'gumbel_{name}_ij'], g[f'gumbel_{name}_ijk']
        losses, ij, ijk = self.loss.triplet_losses(distances, g[f'trip_{name}'], noise)
        assert torch.equal(ij, g[f'lca_{name}_ij'])
        assert torch.equal(ijk, g[f'lca_{name}_ijk'])
        return losses.mean()

    def terms(self, points, proxies):
        distances = self.loss.pairwise_dist
        return (
            self.term(distances(points, proxies), 'img'),
            self.term(distances(proxies, proxies), 'proxy'),
        )


@pytest.mark.parametrize('file', golden_files('hier_loss*.npz'))
class TestHierarchyLossGolden:
    @pytest.mark.parametrize('mode', ['official', 'exact'])
    def test_golden_on_the_ball(self, file, dtype, mode):
        case = Case(file, dtype, 'official' if mode == 'official' else None)
        g = case.g
        z, proxies = g['z'].requires_grad_(), g['proxies_ball'].requires_grad_()
        image, proxy = case.terms(z, proxies)
        assert absolute(image, g.exact(f'{mode}_loss_img')) < limit(dtype, 1e-6)
        assert absolute(proxy, g.exact(f'{mode}_loss_proxy')) < limit(dtype, 1e-6)
        assert absolute(image + proxy, g.exact(f'{mode}_loss')) < limit(dtype, 1e-6)
        if mode == 'exact':
            distances = case.loss.pairwise_dist
            error = absolute(distances(z, proxies), g.exact('exact_dist_img'))
            assert error < limit(dtype, 2e-6)
            error = absolute(distances(proxies, proxies), g.exact('exact_dist_proxy'))
            assert error < limit(dtype, 2e-6)
        grads = torch.autograd.grad(image + proxy, (z, proxies))
        assert absolute(grads[0], g.exact(f'{mode}_grad_z_ball')) < limit(dtype, 1e-5)
        assert absolute(grads[1], g.exact(f'{mode}_grad_proxies_ball')) < limit(dtype, 1e-5)

    @pytest.mark.parametrize('mode', ['official', 'exact'])
    def test_golden_end_to_end(self, file, dtype, mode):
        case = Case(file, dtype, 'official' if mode == 'official' else None)
        g = case.g
        feat, proxies = g['feat'].requires_grad_(), g['proxies'].requires_grad_()
        points, ancestors = case.loss.to_ball(feat), case.loss.to_ball(proxies)
        prefix = '' if mode == 'official' else 'exact_'
        assert absolute(points, g.exact(f'{prefix}z')) < limit(dtype, 1e-6)
        assert absolute(ancestors, g.exact(f'{prefix}proxies_ball')) < limit(dtype, 1e-6)
        total = sum(case.terms(points, ancestors))
        names = dict(
            official=('official_loss', 'official_grad_feat_riem', 'official_grad_proxies_riem'),
            exact=('exact_e2e_loss', 'exact_e2e_grad_feat', 'exact_e2e_grad_proxies'),
        )[mode]
        assert absolute(total, g.exact(names[0])) < limit(dtype, 1e-6)
        for name, grad in zip(names[1:], torch.autograd.grad(total, (feat, proxies))):
            assert absolute(grad, g.exact(name)) < limit(dtype, 1e-5), name
