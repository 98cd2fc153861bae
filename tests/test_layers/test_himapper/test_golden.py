"""Parity of the Hi-Mapper layers with the official modules and with the corrected reading."""

import pytest
import torch

from hyper_mm.layers import HierarchyMapper
from hyper_mm.layers.himapper.contrastive_loss import HierarchicalContrastiveLoss
from hyper_mm.layers.himapper.lift import euclidean_pairwise_dist
from hyper_mm.layers.himapper.official import official_expmap0
from hyper_mm.ops import lorentz
from tests.helpers.tools import load_tool

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max, relative

FILES = golden_files('himapper_*.npz')
PRECISIONS = [torch.float32, torch.float64]


def convert_state_dict(state):
    module = load_tool('model_converters/himapper2mm.py')
    return module.convert_state_dict(state)


class Case:
    """A golden file, its module in training mode, and the module's hierarchy."""

    def __init__(self, file, dtype, **options):
        self.g = g = Golden(file, dtype)
        self.dtype = dtype
        state = convert_state_dict(g.state_dict())
        self.leaves, self.dim = state['tree.mu'].shape
        self.levels = range(1, g['eps'].shape[0] + 1)
        module = HierarchyMapper(
            self.dim,
            num_leaves=self.leaves,
            num_levels=len(self.levels),
            width=state['decomposer.block.norm1.weight'].shape[0],
            num_heads=int(g['num_heads']),
            dropout=0.0,
            hyp_dim=state['lift.proj.weight'].shape[0],
            max_radius=None,
            **options,
        ).to(dtype)
        module.load_state_dict(state, strict=True)
        self.module = module
        self.memory = g['memory'].requires_grad_()
        self.token = g['cls'].requires_grad_()

    def run(self, eps=True):
        return self.module(self.memory, self.token, self.g['eps'] if eps else None)

    def limit(self, single, double=1e-9):
        return 3 * single if self.dtype == torch.float32 else double

    def correct(self, curvature, alpha):
        """Curvature and scale of the corrected reading."""
        with torch.no_grad():
            self.module.lift.curvature.log.copy_(curvature.log())
            self.module.lift.alpha.log.copy_(alpha.log())


@pytest.fixture(params=PRECISIONS, ids=['float32', 'float64'])
def dtype(request):
    return request.param


@pytest.mark.parametrize('file', FILES)
class TestHiMapperGolden:
    def test_golden_tree(self, file, dtype):
        case = Case(file, dtype)
        for level, (mean, var) in zip(case.levels, case.module.tree.moments()):
            assert absolute(mean, case.g.exact(f'node_mu_{level}')) < case.limit(1e-6)
            assert relative(var, case.g.exact(f'node_var_{level}')) < case.limit(1e-6)
        for reduction in ('mean', 'sum'):
            kl = case.module.tree.kl(reduction)
            assert relative(kl, case.g.exact(f'kl_{reduction}')) < case.limit(1e-6)

    def test_golden_nodes(self, file, dtype):
        case = Case(file, dtype)
        queries = case.module.tree(eps=case.g['eps'])
        nodes = case.module.decomposer(case.memory, queries, with_samples=True)
        for level, value, samples in zip(case.levels, nodes.levels, nodes.samples):
            assert absolute(value, case.g.exact(f'S_{level}')) < case.limit(3e-6)
            # full_* is stored in float32
            assert absolute(samples, case.g.exact(f'full_{level}')) < case.limit(3e-6, 1e-6)

    def test_golden_encoder(self, file, dtype):
        case = Case(file, dtype)
        found = case.run()
        states = case.module.encoder(case.token, found.levels, every_level=True)
        expected = case.g.exact('g_layers').transpose(0, 1)
        assert absolute(states.squeeze(2), expected) < case.limit(3e-6)
        assert absolute(found.token.squeeze(1), case.g.exact('v_hat')) < case.limit(3e-6)

    def test_golden_mean_mode(self, file, dtype):
        case = Case(file, dtype)
        case.module.eval()
        found = case.run(eps=False)
        for level, value in zip(case.levels, found.levels):
            assert absolute(value, case.g.exact(f'mean_S_{level}')) < case.limit(3e-6)
        assert absolute(found.token.squeeze(1), case.g.exact('mean_v_hat')) < case.limit(3e-6)

    def test_golden_official_losses(self, file, dtype):
        case = Case(file, dtype, compat='official')
        g, module = case.g, case.module
        assert relative(module.lift.curvature(), g.exact('curvature')) < case.limit(1e-6)
        levels = case.run().levels
        for level, nodes in zip(case.levels, levels):
            u, _ = module.lift(nodes)
            error = absolute(official_expmap0(u), g.exact(f'official_H_{level}'))
            assert error < case.limit(1e-5)
        losses, _ = module.losses(levels)
        error = relative(losses['cont'], 0.1 * g.exact('official_node_loss'))
        assert error < case.limit(1e-6)
        total = sum(losses.values())
        assert relative(total, g.exact('official_total')) < case.limit(1e-6)
        inputs = dict(
            mu=module.tree.mu,
            logvar=module.tree.logvar,
            memory=case.memory,
            W=module.lift.proj.weight,
            log_curv=module.lift.curvature.log,
        )
        for (name, _), grad in zip(inputs.items(), torch.autograd.grad(total, inputs.values())):
            grad = grad.T if name == 'W' else grad
            assert of_max(grad, g.exact(f'official_grad_{name}')) < case.limit(1e-4), name

    def test_golden_contrastive_variants(self, file, dtype):
        case = Case(file, dtype)
        g, nodes = case.g, case.module.tree.nodes
        stacked = torch.cat(case.run().levels, 1)
        case.correct(g['corr_c'][0], g['alpha'])
        u, _ = case.module.lift(stacked)
        variants = dict(
            L_cont=(u, {}),
            L_cont_tau05=(u, dict(tau=0.5)),
            L_cont_plusD=(u, dict(sign=1)),
            L_cont_nopos=(u, dict(include_positive=False)),
            L_cont_noW=(g['alpha_noW'] * stacked, {}),
        )
        for k, c in enumerate(g['corr_c']):
            for name, (tangents, options) in variants.items():
                distances = lorentz.pairwise_dist_tangent0(tangents, tangents, c)
                value = HierarchicalContrastiveLoss(**options)(distances, nodes)
                assert absolute(value, g.exact(name)[k]) < case.limit(3e-6), name
        value = HierarchicalContrastiveLoss()(euclidean_pairwise_dist(u, u), nodes)
        assert absolute(value, g.exact('L_cont_euclid')) < case.limit(3e-6)

    def test_golden_corrected(self, file, dtype):
        case = Case(file, dtype)
        g, module = case.g, case.module
        c = g['corr_c_main']
        case.correct(c, g['alpha'])
        found = case.run()
        stacked = torch.cat(found.levels, 1)
        u, _ = module.lift(stacked)
        points = lorentz.expmap0(u, c).split(module.tree.nodes, 1)
        for level, value in zip(case.levels, points):
            assert absolute(value, g.exact(f'corr_H_{level}')) < case.limit(2e-5)
        radius = (c.sqrt() * u.norm(dim=-1)).max()
        assert relative(radius, g.exact('max_radius')) < 1e-4 or radius <= g.exact('max_radius')
        distances = module.lift.pairwise_dist(u, u)
        per_level = torch.stack(module.contrast.per_level(distances, module.tree.nodes))
        assert absolute(per_level, g.exact('L_cont_main_per_level')) < case.limit(2e-6)

        losses, _ = module.losses(found.levels)
        total = sum(losses.values())
        assert relative(total, g.exact('corr_total')) < case.limit(1e-6)
        lift = module.lift
        inputs = dict(
            mu=module.tree.mu,
            logvar=module.tree.logvar,
            memory=case.memory,
            W=lift.proj.weight,
            c=lift.curvature.log,
            alpha=lift.alpha.log,
        )
        grads = torch.autograd.grad(total, inputs.values(), retain_graph=True)
        for name, grad in zip(inputs, grads):
            if name == 'W':
                grad = grad.T
            elif name in ('c', 'alpha'):  # golden gradients are of the values, not of their logs
                grad = grad / dict(c=lift.curvature, alpha=lift.alpha)[name]()
            assert of_max(grad, g.exact(f'corr_grad_{name}')) < case.limit(1e-4), name

        total2 = total + (g['cot'] * found.token.squeeze(1)).sum()
        inputs = dict(mu=module.tree.mu, logvar=module.tree.logvar, cls=case.token)
        assert absolute(total2, g.exact('corr_total2')) < case.limit(1e-5)
        for name, grad in zip(inputs, torch.autograd.grad(total2, inputs.values())):
            assert of_max(grad, g.exact(f'corr2_grad_{name}')) < case.limit(1e-4), name
