import copy
import math
import warnings

import pytest
import torch

from hyper_mm.layers import (
    Curvature,
    LogParameter,
    LorentzLift,
    LorentzVisionTransformer,
    PrototypeClassifier,
)
from hyper_mm.layers.common.curvature import curvature_options
from hyper_mm.layers.radial.radial import RadialGeometry


@pytest.mark.parametrize('init', [0.1, 1.0, 2.5, 10.0])
def test_starts_at_its_initial_value(init):
    assert Curvature(init)().item() == pytest.approx(init, rel=1e-6)


@pytest.mark.parametrize('init', [0, -1.0, 0.05, 11.0, math.nan, math.inf])
def test_init_outside_bounds(init):
    with pytest.raises(
        ValueError, match=r'curvature init must be positive and within \(0.1, 10.0\)'
    ):
        Curvature(init)


@pytest.mark.parametrize(
    'bounds', [(0, 1.0), (-1.0, 1.0), (2.0, 1.0), (0.1, math.inf), (math.nan, 1.0)]
)
def test_bad_bounds(bounds):
    with pytest.raises(ValueError, match='curvature bounds must be positive, finite and ordered'):
        Curvature(1.0, bounds)


def test_messages_call_it_by_its_name():
    with pytest.raises(ValueError, match='temperature init'):
        LogParameter(-1.0, name='temperature')


@pytest.mark.parametrize(('step', 'bound'), [(50.0, 10.0), (-50.0, 0.1)])
def test_training_is_projected_onto_the_bounds(step, bound):
    c = Curvature()
    with torch.no_grad():
        c.log.add_(step)
    assert c().item() == pytest.approx(bound, rel=1e-5)
    assert c.log_value.item() == pytest.approx(math.log(bound), rel=1e-5)


def test_gradient_lives_at_the_bound_and_leads_back():
    c = Curvature(1.0, bounds=(0.5, 2.0))
    for target, steps in ((10.0, 20), (1.0, 50)):  # out of the bounds, then within
        for _ in range(steps):
            (grad,) = torch.autograd.grad((c() - target).square(), c.log)
            assert grad.abs() > 0 or c().item() == target
            with torch.no_grad():
                c.log.sub_(0.5 * grad.clamp(-0.2, 0.2))
        value = c().item()
        assert value == pytest.approx(min(target, 2.0), abs=0.1)


def test_evaluation_does_not_move_it():
    c = Curvature().eval()
    with torch.no_grad():
        c.log.fill_(5.0)
    c()
    assert c.log.item() == 5.0


def test_fixed_curvature_is_a_buffer():
    c = Curvature(2.0, learnable=False)
    assert not list(c.parameters()) and not c.learnable
    assert 'log' in c.state_dict()
    assert not c().requires_grad
    assert Curvature(2.0).learnable


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_value_is_at_least_float32(dtype, expected):
    assert Curvature(2.0).to(dtype)().dtype == expected


def test_state_dict_round_trip():
    c = Curvature(3.0)
    other = Curvature()
    other.load_state_dict(c.state_dict())
    assert other().item() == c().item()


def move_to_bound(c: Curvature) -> Curvature:
    with torch.no_grad():
        c.log.fill_(-9.0)
    c()
    return c


def test_warns_once_at_the_bound():
    c = move_to_bound(Curvature())
    assert c.at_bound()
    with pytest.warns(UserWarning, match=r'reached its bound \(0.1\).*curvature.bounds') as caught:
        for mode in (False, True, False):
            c.train(mode)
    assert len(caught) == 1


def test_a_sharded_curvature_is_at_no_bound_here():
    """With FSDP the number may be another process's: nothing of it is in this one."""
    c = Curvature()
    c.log.data = c.log.data[:0]
    assert not c.at_bound()
    c.train().eval()


@pytest.mark.parametrize('c', [Curvature(), Curvature(0.1, learnable=False)])
def test_does_not_warn_where_there_is_nothing_to_say(c):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        copy.deepcopy(c).eval()


def test_warning_comes_through_a_parent_module():
    parent = torch.nn.Sequential(move_to_bound(Curvature()))
    with pytest.warns(UserWarning, match='reached its bound'):
        parent.eval()


def test_representation_tells_the_bounds():
    assert 'curvature, bounds=(0.1, 10), learnable=True' in repr(Curvature())


@pytest.mark.parametrize('learnable', [True, False])
@pytest.mark.parametrize('init', [0.2, 1.0, 4.0])
def test_zero_is_the_initial_value(init, learnable):
    """Weight decay draws to zero: that must be the initial value, and not 1."""
    c = Curvature(init, learnable=learnable)
    assert c.log.shape == (1,) and c.log.item() == 0  # FSDP refuses 0-dimensional parameters
    assert c().shape == () and c().item() == pytest.approx(init, rel=1e-6)


def test_weight_decay_leads_back_to_the_initial_value():
    c = Curvature(4.0)
    optimizer = torch.optim.SGD(c.parameters(), lr=0.1, weight_decay=1.0)
    with torch.no_grad():
        c.log.fill_(0.5)
    for _ in range(200):
        optimizer.zero_grad()
        (0 * c()).backward()
        optimizer.step()
    assert c().item() == pytest.approx(4.0, rel=1e-5)


@pytest.mark.parametrize('learnable', [True, False])
def test_a_checkpoint_means_the_same_value_in_a_module_of_another_init(learnable):
    c, other = Curvature(4.0, learnable=learnable), Curvature(0.5, learnable=learnable)
    with torch.no_grad():
        c.log.add_(0.3)
    other.load_state_dict(c.state_dict())
    assert other().item() == c().item() == pytest.approx(4 * math.exp(0.3), rel=1e-6)


@pytest.mark.parametrize('learnable', [True, False])
def test_checkpoints_of_before_are_upgraded(learnable):
    """They hold the logarithm of the value itself, without dimensions."""
    old = {'0.log': torch.tensor(math.log(3.0))}
    model = torch.nn.Sequential(Curvature(0.5, learnable=learnable))
    model.load_state_dict(old)
    assert model[0]().item() == pytest.approx(3.0, rel=1e-6)
    assert model[0].log.shape == (1,)
    assert old.keys() == {'0.log'} and old['0.log'].ndim == 0  # the caller's is not touched


@pytest.mark.parametrize(
    'state, message',
    [
        (
            dict(log=torch.zeros(2)),
            r'log must be the logarithm of the curvature .* got shape \(2,\)',
        ),
        (dict(log=torch.zeros(1)), r'or have log_initial beside it, got shape \(1,\) alone'),
        (
            dict(log=torch.zeros(3), log_initial=torch.zeros(1)),
            r'log \(curvature\) must have the shape \(1,\), got \(3,\)',
        ),
    ],
)
def test_other_shapes_are_refused(state, message):
    with pytest.raises(RuntimeError, match=message):
        Curvature().load_state_dict(state)


VIT = dict(embed_dims=8, depth=1, num_heads=2)


@pytest.mark.parametrize(
    ('build', 'learnable'),
    [
        (lambda c: LorentzLift(4, 4, curvature=c), True),
        (lambda c: LorentzVisionTransformer(curvature=c, **VIT), False),
        (lambda c: PrototypeClassifier('lorentz', curvature=c), False),
        (lambda c: RadialGeometry('lorentz', curvature=c), False),
    ],
)
def test_modules_take_a_number_or_arguments(build, learnable):
    number, full = build(0.7).curvature, build(dict(init=0.7, learnable=not learnable)).curvature
    assert number().item() == full().item() == pytest.approx(0.7, rel=1e-6)
    assert number.learnable == learnable
    assert full.learnable == (not learnable)


@pytest.mark.parametrize('curvature', [True, '1', [1.0]])
def test_curvature_of_another_type(curvature):
    with pytest.raises(TypeError, match='curvature must be a number or arguments of Curvature'):
        curvature_options(curvature)


def test_constant_where_no_gradient_is_lost():
    learned, fixed = Curvature(0.7), Curvature(0.7, learnable=False)
    assert isinstance(fixed.constant(), float) and fixed.constant() == fixed().item()
    assert learned.constant().requires_grad
    with torch.no_grad():
        assert learned.constant() == learned().item()
    assert isinstance(Curvature(0.7, learnable=False).to('meta').constant(), torch.Tensor)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_traced_in_training():
    """A graph cannot write to a parameter: the projection is left to the module."""
    curvature = Curvature(2.0).train()
    with torch.no_grad():
        curvature.log.add_(10)
    traced = torch.jit.trace(curvature, ())
    assert curvature().item() == pytest.approx(10.0)  # projected by the call
    assert traced().item() == pytest.approx(10.0)
    traced().backward()
    assert curvature.log.grad.item() == pytest.approx(10.0)
