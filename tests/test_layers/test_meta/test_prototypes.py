"""Prototypes, logits and alignment."""

import pytest
import torch
from torch.nn import functional as F

from hyper_mm.layers import PrototypeClassifier
from hyper_mm.layers.meta.prototypes import DISTANCES
from hyper_mm.ops import lorentz, poincare
from hyper_mm.ops.stable import unit

from ...conftest import golden_files
from ...helpers.golden import Golden, absolute, of_max

FILES = golden_files('meta*.npz')


@pytest.fixture(params=[torch.float32, torch.float64], ids=['float32', 'float64'])
def dtype(request):
    return request.param


def limit(dtype, single, double=1e-9):
    return 3 * single if dtype == torch.float32 else double


def episode(g):
    """Features with gradients, and the masks with the ways and shots as one list of images."""
    supp, query = g['p_supp'].requires_grad_(), g['p_query'].requires_grad_()
    ways, shots = supp.shape[:2]
    own = torch.eye(ways, dtype=torch.long).repeat_interleave(shots, 1)
    fore = g['p_fore'].flatten(0, 1) * own[:, :, None, None]
    return supp, query, fore, g['p_back'].flatten(0, 1)


def cross_entropy(low, label):
    high = F.interpolate(low, label.shape[-2:], mode='bilinear')
    return high, F.cross_entropy(high, label, ignore_index=255)


@pytest.mark.parametrize('file', FILES)
def test_golden_panet(file, dtype):
    g = Golden(file, dtype)
    supp, query, fore, back = episode(g)
    module, flat = PrototypeClassifier(scale=g['p_scale'].item()), supp.flatten(0, 1)
    protos = module.prototypes(flat, fore, back)
    assert absolute(protos, g.exact('p_protos')) < limit(dtype, 1e-6)
    low = module.logits(query, protos)
    assert absolute(low, g.exact('p_logits_low')) < limit(dtype, 6e-6)
    high, ce = cross_entropy(low, g['p_label'])
    assert absolute(high, g.exact('p_logits')) < limit(dtype, 6e-6, 2e-6)  # stored as float32
    align = module.alignment_loss(query, low, flat, fore, back)
    assert torch.equal(low.argmax(1).flatten().bincount(), g['p_argmax_counts'])
    assert absolute(ce, g.exact('p_ce')) < limit(dtype, 1e-7)
    assert absolute(align, g.exact('p_align')) < limit(dtype, 1e-7)
    for loss, suffix in ((ce, '_ce'), (ce + align, '')):
        grads = torch.autograd.grad(loss, [supp, query], retain_graph=True)
        for name, grad in zip(('supp', 'query'), grads):
            assert of_max(grad, g.exact(f'p_grad_{name}{suffix}')) < limit(dtype, 2e-6)


@pytest.mark.parametrize('file', FILES)
def test_golden_lorentz(file, dtype):
    g = Golden(file, dtype)
    supp, query, fore, back = episode(g)
    scales = dict(scale=g['l_scale'].item(), feature_scale=g['l_feat_scale'].item())
    module, flat = PrototypeClassifier('lorentz', **scales), supp.flatten(0, 1)
    protos = module.prototypes(flat, fore, back)
    assert absolute(protos, g.exact('l_protos')) < limit(dtype, 1e-6)
    low = module.logits(query, protos)
    assert absolute(low, g.exact('l_logits_low')) < limit(dtype, 4e-6)
    high, ce = cross_entropy(low, g['p_label'])
    assert absolute(high, g.exact('l_logits')) < limit(dtype, 4e-6, 2e-6)  # stored as float32
    assert absolute(ce, g.exact('l_ce')) < limit(dtype, 1e-7)
    for name, grad in zip(('supp', 'query'), torch.autograd.grad(ce, [supp, query])):
        assert of_max(grad, g.exact(f'l_grad_{name}')) < limit(dtype, 2e-6)
    size = g['p_fore'].shape[-2:]
    points = module.points(F.interpolate(flat, size, mode='bilinear'))
    for name, masks in (('fg', g['p_fore']), ('bg', g['p_back'])):
        masks = masks.flatten(0, 1).flatten(1)
        shots = module.mean(points, masks).unflatten(0, supp.shape[:2])
        assert absolute(shots, g.exact(f'l_proto_shot_{name}')) < limit(dtype, 1e-6)
    masks = torch.cat([back[None], fore]).flatten(1)
    pooled = module.mean(points.flatten(0, 1).expand(len(masks), -1, -1), masks)
    assert absolute(pooled, g.exact('l_protos_pooled')) < limit(dtype, 1e-6)


def toy():
    support, query = torch.randn(3, 5, 4, 4), torch.randn(2, 5, 4, 4)
    fore = torch.rand(2, 3, 8, 8) > 0.6
    return support, query, fore, ~fore.any(0)


@pytest.mark.parametrize('distance', DISTANCES)
def test_prototype_of_one_pixel_is_nearest_to_it(distance):
    module = PrototypeClassifier(distance)
    features = torch.randn(1, 5, 3, 3)
    fore = torch.zeros(1, 1, 3, 3)
    fore[..., 1, 2] = 1
    low = module.logits(features, module.prototypes(features, fore, 1 - fore[0]))
    assert (low[0, 1].argmax() == 5) and low.shape == (1, 2, 3, 3)


def test_poincare_is_lorentz_with_features_of_twice_the_length():
    support, query, fore, back = toy()
    flat = PrototypeClassifier('poincare', feature_scale=0.1)
    curved = PrototypeClassifier('lorentz', feature_scale=0.2)
    a, b = (m.logits(query, m.prototypes(support, fore, back)) for m in (flat, curved))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    c = curved.curvature()
    expected = lorentz.to_poincare(curved.prototypes(support, fore, back), c)
    torch.testing.assert_close(flat.prototypes(support, fore, back), expected)


@pytest.mark.parametrize('distance', DISTANCES)
def test_empty_regions_and_zero_features_stay_finite(distance):
    module = PrototypeClassifier(distance, curvature=dict(learnable=True))
    support, query, fore, back = toy()
    fore[1], fore[0, 0] = False, False
    kept = module.prototypes(support[1:], fore[:, 1:], back[1:])
    torch.testing.assert_close(module.prototypes(support, fore, back)[1:], kept[1:])
    support[1:], query[0] = 0, 0
    support.requires_grad_()
    query.requires_grad_()
    low = module.logits(query, module.prototypes(support, fore, back))
    loss = low.square().sum() + module.alignment_loss(query, low, support, fore, back)
    loss.backward()
    assert loss.isfinite() and support.grad.isfinite().all() and query.grad.isfinite().all()


@pytest.mark.parametrize('distance', DISTANCES)
def test_autocast_computes_in_float32(distance):
    module = PrototypeClassifier(distance)
    support, query, fore, back = toy()
    expected = module.logits(query, module.prototypes(support, fore, back))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = module.logits(query, module.prototypes(support, fore, back))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    'options',
    [
        dict(distance='l1'),
        dict(scale=0),
        dict(feature_scale=-1),
        dict(eps=0),
        dict(distance='lorentz', curvature=0),
        dict(distance='lorentz', max_radius=0),
        dict(distance='poincare', max_radius=13),
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=list(options)[-1]):
        PrototypeClassifier(**options)


@pytest.mark.parametrize('norm', [0.0, 1e-8, 1e-3, 1.0, 5.0, 9.0, 30.0, 44.0, 90.0, 1e4])
@pytest.mark.parametrize('distance', DISTANCES)
@pytest.mark.parametrize('radius', [6.0, 12.0])
def test_features_of_any_length(distance, norm, radius):
    support, query, fore, back = toy()
    fore[1] &= ~fore[0]
    support, query = (norm * F.normalize(x, dim=1) for x in (support, query))
    support.requires_grad_()
    query.requires_grad_()
    module = PrototypeClassifier(distance, curvature=dict(learnable=True), max_radius=radius)
    low = module.logits(query, module.prototypes(support, fore, back))
    label = torch.randint(0, 3, (2, 8, 8))
    loss = cross_entropy(low, label)[1] + module.alignment_loss(query, low, support, fore, back)
    loss.backward()
    assert low.isfinite().all() and loss.isfinite()
    for grad in (support.grad, query.grad):
        assert grad.isfinite().all()
        assert norm < 1e-3 or (grad.flatten(2).norm(dim=1) > 0).any()


@pytest.mark.parametrize('norm', [0.5, 2.0, 2.9])
@pytest.mark.parametrize('distance', ['poincare', 'lorentz'])
def test_shortening_changes_only_what_is_beyond_the_limit(distance, norm):
    support, query, fore, back = toy()
    support, query = (norm * F.normalize(x.double(), dim=1) for x in (support, query))
    near, far = (PrototypeClassifier(distance, max_radius=r) for r in (6.0, 12.0))
    expected = far.logits(query, far.prototypes(support, fore, back))
    torch.testing.assert_close(near.logits(query, near.prototypes(support, fore, back)), expected)
    long = near.tangents(100 * query)
    torch.testing.assert_close(long.norm(dim=-1), torch.full(long.shape[:-1], 6.0).double())
    torch.testing.assert_close(unit(long), unit(query.flatten(2).mT))


@pytest.mark.parametrize('distance', ['poincare', 'lorentz'])
def test_distances_are_those_of_the_space(distance):
    support, query, fore, back = (x.double() for x in toy())
    module = PrototypeClassifier(distance, scale=1.0, feature_scale=0.3, curvature=0.7).double()
    protos = module.prototypes(support, fore, back)
    space = lorentz if distance == 'lorentz' else poincare
    expected = -space.pairwise_dist(module.points(query), protos, module.curvature())
    found = module.logits(query, protos).flatten(2).mT
    torch.testing.assert_close(found, expected)
