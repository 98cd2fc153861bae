"""What hyperbolic classifiers share."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from hyper_mm.layers import (
    BusemannHead,
    EuclideanMLR,
    HyperbolicPrototypes,
    LorentzMLR,
    PoincareMLR,
    clip_features,
)

MLRS = {
    'lorentz': LorentzMLR,
    'poincare': PoincareMLR,
    'coordinate': lambda *a, **k: PoincareMLR(*a, factor='coordinate', **k),
    'gyroplane': lambda *a, **k: PoincareMLR(*a, form='gyroplane', **k),
    'euclidean': EuclideanMLR,
}
every = pytest.mark.parametrize('make', MLRS.values(), ids=MLRS)
ALL = {**MLRS, 'busemann': BusemannHead, 'prototypes': HyperbolicPrototypes}


def linear(num_classes=5, dim=8):
    torch.manual_seed(0)
    return nn.Linear(dim, num_classes)


class TestFromLinear:
    @every
    def test_logits_are_those_of_the_linear_classifier(self, make):
        model, stock, x = make(8, 5, init='from_linear'), linear(), torch.randn(20, 8)
        model.adopt_linear(stock.weight, stock.bias)
        # relative error of the order of (0.01 |x|)^2, |x| = 3 or so
        assert_close(model(x), stock(x), rtol=2e-3, atol=2e-3)

    @every
    @pytest.mark.parametrize('shape', [(), (1, 1)])
    def test_weights_are_taken_over_on_load(self, make, shape):
        model, stock = nn.Sequential(make(8, 5, init='from_linear')), linear()
        weight = stock.weight.detach().reshape(5, 8, *shape)
        model.load_state_dict({'0.weight': weight, '0.bias': stock.bias.detach()})
        x = torch.randn(20, 8)
        assert_close(model(x), stock(x), rtol=2e-3, atol=2e-3)
        other = nn.Sequential(make(8, 5, init='from_linear'))
        other.load_state_dict(model.state_dict())  # and its own weights as they are
        assert torch.equal(other(x), model(x))

    @every
    def test_linear_weights_are_refused_unless_asked_for(self, make):
        model, stock = make(8, 5), linear()
        with pytest.raises(RuntimeError, match='Unexpected key'):
            model.load_state_dict(stock.state_dict())

    def test_a_class_without_a_weight_is_refused(self):
        model, stock = LorentzMLR(8, 5, init='from_linear'), linear()
        with torch.no_grad():
            stock.weight[2] = 0
        with pytest.raises(ValueError, match=r'classes \[2\] have a bias and no weight'):
            model.adopt_linear(stock.weight, stock.bias)
        with pytest.raises(RuntimeError, match='have a bias and no weight'):
            model.load_state_dict(stock.state_dict())

    @pytest.mark.parametrize('options', [dict(embed_dims=4), dict(max_radius=2.0)])
    def test_needs_features_as_they_are(self, options):
        with pytest.raises(ValueError, match='embed_dims and max_radius must be None, got'):
            LorentzMLR(8, 5, init='from_linear', **options)
        with pytest.raises(ValueError, match='can be taken over only with embed_dims=None'):
            LorentzMLR(8, 5, **options).adopt_linear(*linear().parameters())

    @every
    def test_a_linear_classifier_without_bias(self, make):
        model, x = make(8, 5, init='from_linear'), torch.randn(20, 8)
        stock = nn.Linear(8, 5, bias=False)
        model.adopt_linear(stock.weight, stock.bias)
        assert_close(model(x), stock(x), rtol=2e-3, atol=2e-3)
        loaded = make(8, 5, init='from_linear')
        loaded.load_state_dict(stock.state_dict())
        assert torch.equal(loaded(x), model(x))

    def test_shapes_must_fit(self):
        with pytest.raises(ValueError, match=r'must be of shape \(5, 8\) and \(5,\), got \(4, 8\)'):
            LorentzMLR(8, 5).adopt_linear(*linear(4).parameters())


@pytest.mark.parametrize('make', ALL.values(), ids=ALL)
class TestClassifier:
    def test_shapes_and_gradients(self, make):
        model = make(8, 5, embed_dims=3)
        x = torch.randn(2, 4, 8, requires_grad=True)
        logits = model(x)
        assert logits.shape == (2, 4, 5)
        assert_close(logits[1], model(x[1]))
        logits.square().sum().backward()
        for name, parameter in model.named_parameters():
            if name != 'curvature.log' or model.curvature is not None:
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name

    @pytest.mark.parametrize('value', [0.0, 1e-6, 1.0, 100.0, 300.0, 1e4, 1e18, 1e30])
    @pytest.mark.parametrize('curvature', [0.1, 10.0])
    def test_values_and_gradients_are_finite_at_any_length(self, make, value, curvature):
        for limit in (None, 4.0):
            model = make(8, 5, max_radius=limit, curvature=curvature, scale=1.0)
            x = torch.zeros(3, 8)
            x[:, 0], x[:, 1] = value, torch.tensor([0, value, 1e-3 * value])
            x.requires_grad_()
            logits = model(x)
            assert logits.isfinite().all()
            logits.sum().backward()
            assert x.grad.isfinite().all()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)

    def test_clipping_limits_the_radius(self, make):
        model, free = make(8, 5, max_radius=1.5, curvature=2.0), make(8, 5, curvature=2.0)
        x = 20 * torch.randn(50, 8)
        scaled = 2**0.5 if model.curvature is not None else 1.0
        assert_close(scaled * model.radius(x), torch.full((50,), 1.5), rtol=1e-5, atol=0)
        near = 0.01 * x
        assert_close(model.radius(near), free.radius(near))

    def test_vectors_whose_squares_overflow_are_clipped(self, make):
        model, x = make(8, 5, max_radius=6.0), torch.randn(3, 8)
        expected = model(1e6 * x)
        assert_close(model(1e25 * x), expected)
        batch = torch.stack([1e25 * x, 1e6 * x])
        assert_close(torch.vmap(model)(batch), torch.stack([expected, expected]))

    def test_within_the_farthest_radius_nothing_is_clipped(self, make):
        model = make(8, 5, scale=1.0)
        limit = model.farthest / (model.unit_radius or 1.0)
        x = torch.eye(8) * (0.999 * limit)
        assert torch.equal(model.tangent(x, 1.0), x)
        expected = 1e3 * x if model.curvature is None else torch.eye(8) * limit
        assert_close(model.tangent(1e3 * x, 1.0), expected)
        if model.curvature is not None:
            with pytest.raises(ValueError, match=r'max_radius must be in \(0, .*0\], got 81'):
                make(8, 5, max_radius=81.0)

    def test_one_vector_and_none(self, make):
        model, x = make(8, 5), torch.randn(2, 3, 8)
        assert_close(model(x[0, 0]), model(x)[0, 0])
        assert model(x[:, :0]).shape == (2, 0, 5)

    @pytest.mark.parametrize('embed_dims', [None, 3])
    @pytest.mark.parametrize('shape', [(3, 4), (3, 16), (4,), ()])
    def test_refuses_features_of_another_width(self, make, embed_dims, shape):
        model = make(8, 5, embed_dims=embed_dims)
        for call in (model, model.radius):
            with pytest.raises(ValueError, match=r'features must be of shape \(\.\.\., 8\), got'):
                call(torch.randn(shape))

    @pytest.mark.parametrize('dtype', [torch.long, torch.complex64])
    def test_refuses_features_of_another_type(self, make, dtype):
        with pytest.raises(TypeError, match='features must be of a floating point type'):
            make(8, 5)(torch.ones(3, 8, dtype=dtype))

    def test_half_precision_features(self, make):
        model, x = make(8, 5), torch.randn(3, 8).half()
        assert model(x).dtype == torch.float32
        with torch.autocast('cpu', torch.bfloat16):
            assert_close(model(x.float()), model(x.float()))
            assert model(x.float()).dtype == torch.float32

    @pytest.mark.parametrize(
        ('options', 'words'),
        [
            (dict(max_radius=0.0), 'max_radius must be positive, got 0'),
            (dict(embed_dims=0), 'embed_dims must be'),
            (dict(init='linear'), "init must be .*got 'linear'"),
            (dict(scale=-1.0), 'scale init must be positive'),
        ],
    )
    def test_refuses(self, make, options, words):
        with pytest.raises(ValueError, match=words):
            make(8, 5, **options)


def test_clip_features():
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert_close(clip_features(x, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert_close(clip_features(1e30 * x[:1], 1.0), torch.tensor([[0.6, 0.8]]))
    for radius in (0.0, -1.0, float('nan'), torch.tensor([[1.0], [-1.0], [1.0]])):
        with pytest.raises(ValueError, match='radius must be positive, got'):
            clip_features(x, radius)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('make', ALL.values(), ids=ALL)
def test_traced_for_any_batch(make, training):
    model, x = make(8, 5).train(training), torch.randn(3, 8)
    traced = torch.jit.trace(model, x)
    for count in (3, 20):
        x = torch.randn(count, 8)
        assert_close(traced(x), model(x))
    own = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(traced(x).square().sum(), list(model.parameters()))
    assert_close(found, own, rtol=1e-4, atol=1e-5)
