"""Inner loops of meta-learning."""

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional as F

from hyper_mm.layers import Bands, BatchDice, BoundaryInfoNCE, LorentzVisionTransformer
from hyper_mm.layers.meta.adapt import adapt, reptile_loss

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

ALGORITHMS = ['maml', 'fomaml', 'metasgd', 'anil', 'anil_fo']


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def limit(dtype, single):
    return 3 * single if dtype == torch.float32 else 1e-9


def theta_of(g, prefix='theta.'):
    return {n: p.requires_grad_() for n, p in g.state_dict(prefix).items()}


def net(theta, x):
    z = torch.tanh(F.conv2d(x, theta['w1'], theta['b1'], padding=1))
    z = torch.tanh(F.conv2d(z, theta['w2'], theta['b2'], padding=1))
    return z, F.conv2d(z, theta['w3'], theta['b3'])


def bce(theta, x, y):
    return F.binary_cross_entropy_with_logits(net(theta, x)[1], y.to(x.dtype))


def check_grads(g, prefix, total, theta, tolerance):
    for (name, _), grad in zip(theta.items(), torch.autograd.grad(total, list(theta.values()))):
        assert of_max(grad, g.exact(f'{prefix}{name}')) < tolerance, name


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('file', golden_files('meta*.npz'))
def test_golden_meta_gradient(file, algorithm, dtype):
    g = Golden(file, dtype)
    theta, alpha, losses = theta_of(g), theta_of(g, 'alpha.'), []
    for t, (xs, ys, xq, yq) in enumerate(zip(g['xs'], g['ys'], g['xq'], g['yq'])):
        before = bce(theta, xs, ys)
        assert absolute(before, g.exact('support_loss_before')[t]) < limit(dtype, 1e-7)
        phi = adapt(
            lambda p, xs=xs, ys=ys: bce(p, xs, ys),
            theta,
            alpha if algorithm == 'metasgd' else g['inner_lr'].item(),
            int(g['inner_steps']),
            first_order=algorithm in ('fomaml', 'anil_fo'),
            names=('w3', 'b3') if algorithm.startswith('anil') else None,
        )
        stored = g.keys()
        for key in stored:
            if key.startswith(f'{algorithm}.adapted.'):
                assert absolute(phi[key.split('.')[-1]], g.exact(key)[t]) < limit(dtype, 2e-7)
        losses.append(bce(phi, xq, yq))
    losses = torch.stack(losses)
    assert absolute(losses, g.exact(f'{algorithm}.query_loss')) < limit(dtype, 1e-7)
    wanted = {f'{algorithm}.grad.{n}': p for n, p in theta.items()}
    if algorithm == 'metasgd':
        wanted.update({f'metasgd.grad_alpha.{n}': p for n, p in alpha.items()})
    check_grads(g, '', losses.mean(), wanted, limit(dtype, 2e-6))


@pytest.mark.parametrize('file', golden_files('meta*.npz'))
def test_golden_reptile(file, dtype):
    g, losses = Golden(file, dtype), []
    theta = theta_of(g)
    for xs, ys in zip(g['xs'], g['ys']):
        args = (g['inner_lr'].item(), int(g['inner_steps']), True)
        phi = adapt(lambda p, xs=xs, ys=ys: bce(p, xs, ys), theta, *args)
        losses.append(reptile_loss(theta, phi))
    check_grads(g, 'reptile.pseudo_grad.', torch.stack(losses).mean(), theta, limit(dtype, 2e-6))


@pytest.mark.parametrize('case', ['fo', 'so', 'clip_fo', 'clip_so', 'neg_fo'])
@pytest.mark.parametrize('file', golden_files('feddg*.npz'))
def test_golden_episode(file, case, dtype):
    g = Golden(file, dtype)
    theta, prefix = theta_of(g, 'ep_theta.'), 'ep_' + case[:-2]
    clip = g['ep_clip_clip_value' if case.startswith('clip') else 'ep_clip_value'].item()

    def inner(p):
        return BatchDice()(net(p, g['ep_x'])[1].sigmoid(), g['ep_y'])

    phi = adapt(inner, theta, g['ep_beta'].item(), 1, case.endswith('fo'), clip)
    zx, _ = net(theta, g['ep_x'])
    zt, logits = net(phi, g['ep_t'])
    denominator = 'neg' if case.startswith('neg') else 'pos_neg'
    module = BoundaryInfoNCE(g['bnd_tau'].item(), denominator)
    found = module([zx, zt], Bands(g['ep_boundary'], g['ep_background']))
    outer = BatchDice()(logits.sigmoid(), g['ep_y'])
    total = inner(theta) + outer + g['ep_gamma'].item() * found.loss
    assert absolute(found.per_structure, g.exact(f'{prefix}boundary_loss')) < limit(dtype, 2e-6)
    assert absolute(total, g.exact(f'{prefix}total')) < limit(dtype, 2e-7)
    if not case.startswith('neg'):
        assert absolute(inner(theta), g.exact(f'{prefix}inner_dice')) < limit(dtype, 2e-7)
        assert absolute(outer, g.exact(f'{prefix}outer_dice')) < limit(dtype, 2e-7)
        for name, value in phi.items():
            assert absolute(value, g.exact(f'{prefix}theta_hat.{name}')) < limit(dtype, 2e-7)
    single = 2e-6 if case.endswith('fo') else 4e-6
    if case == 'fo':
        check_grads(g, 'ep_inner_grad.', inner(theta), theta, limit(dtype, 2e-6))
    check_grads(g, f'ep_{case}_grad.', total, theta, limit(dtype, single))


def test_second_order_through_a_lorentz_vit():
    """The meta-gradient along a direction is the difference quotient of the query loss."""
    vit = LorentzVisionTransformer(8, 2, 2, image_size=(16, 16), patch_size=8).double()
    support, query = torch.randn(2, 2, 3, 16, 16, dtype=torch.float64)
    theta = {n: p.detach().clone().requires_grad_() for n, p in vit.named_parameters()}

    def loss(parameters, images):
        return functional_call(vit, parameters, (images,)).points[0].square().mean()

    def meta(parameters, first_order=False):
        phi = adapt(lambda p: loss(p, support), parameters, 0.5, 2, first_order)
        return loss(phi, query)

    values = list(theta.values())
    found = torch.autograd.grad(meta(theta), values, allow_unused=True)
    first = torch.autograd.grad(meta(theta, first_order=True), values, allow_unused=True)
    used = [k for k, grad in enumerate(found) if grad is not None]
    direction = [torch.randn_like(values[k]) for k in used]
    # errors: eps / step, and step ** 4; in units of the weights, whose deviation is 0.02
    step = 0.02 * torch.finfo(torch.float64).eps ** (1 / 5)

    def quotient_of(step):
        names = list(theta)
        sides = []
        for signed in (step, -step):
            moved = {names[k]: values[k] + signed * d for k, d in zip(used, direction)}
            sides.append(meta({n: p.detach().requires_grad_() for n, p in (theta | moved).items()}))
        return ((sides[0] - sides[1]) / (2 * step)).item()

    quotient = (4 * quotient_of(step / 2) - quotient_of(step)) / 3  # Richardson
    along = [sum((g[k] * d).sum() for k, d in zip(used, direction)) for g in (found, first)]
    assert along[0].item() == pytest.approx(quotient, rel=1e-6)
    assert abs(along[1].item() - quotient) > 1e-3 * abs(quotient)


@pytest.mark.parametrize('options', [dict(lr=0), dict(steps=0), dict(clip=0), dict(names=['x'])])
def test_bad_options(options):
    theta = dict(w=torch.ones(2, requires_grad=True))
    with pytest.raises(ValueError, match=next(iter(options))):
        adapt(lambda p: p['w'].sum(), theta, **{'lr': 0.1, **options})


def test_no_gradient_for_the_adapted_subset():
    theta = {n: torch.ones(2, requires_grad=True) for n in 'wv'}
    with pytest.raises(ValueError, match='no gradient'):
        adapt(lambda p: p['w'].sum(), theta, 0.1, names=['v'])
    assert adapt(lambda p: p['w'].sum(), theta, 0.1)['v'] is theta['v']


def test_frozen_parameters_adapt_and_the_others_keep_their_meta_gradient():
    w, v = torch.ones(2, requires_grad=True), torch.ones(2)
    phi = adapt(lambda p: (p['w'] * p['v']).square().sum(), dict(w=w, v=v), 0.1)
    assert (phi['v'] != 1).all() and not v.requires_grad
    (grad,) = torch.autograd.grad(phi['w'].sum(), w)
    torch.testing.assert_close(grad, torch.full((2,), 0.8))
