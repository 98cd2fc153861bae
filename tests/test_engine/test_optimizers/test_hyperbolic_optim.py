"""Sorting of parameters, and the optional Riemannian optimizer."""

import copy
import sys

import pytest
import torch
from torch import nn

pytest.importorskip('mmengine')

from mmengine.optim import build_optim_wrapper  # noqa: E402

from hyper_mm.engine.optimizers.hyperbolic_optim import JointOptimizer, geoopt_optimizer  # noqa: E402
from hyper_mm.ops import lorentz  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402


def model_of(**options):
    decoder = dict(
        type='hyper_mm.HelmDecoder',
        vocab_size=20,
        embed_dims=7,
        depth=1,
        attention=dict(type='HMLA', num_heads=2, latent_dims=3, nope_dims=2, rope_dims=2, v_dims=2),
        ffn=dict(type='MiCE', hidden_dims=5),
        **options,
    )
    return MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder))


def wrapper_of(model, **options):
    cfg = dict(
        type='OptimWrapper',
        constructor='hyper_mm.HyperbolicOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1),
        clip_grad=dict(max_norm=1.0),
        **options,
    )
    return build_optim_wrapper(model, cfg)


def test_what_has_no_weight_decay():
    model = model_of()
    groups = wrapper_of(model).optimizer.param_groups
    assert [group['weight_decay'] for group in groups] == [0.1, 0.0]
    plain = {id(p) for p in groups[1]['params']}
    names = {name for name, p in model.named_parameters() if id(p) in plain}
    assert sum(len(group['params']) for group in groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        kinds = ('bias', 'norm', 'tau', 'res', '.log', 'ffn.b1', 'ffn.b2', 'ffn.b3')
        assert (name in names) == any(kind in name for kind in kinds), (name, parameter.shape)


def test_multipliers():
    model = model_of()
    keys = {
        'embedding': dict(lr_mult=3.0),
        'ffn': dict(lr_mult=0.5, decay_mult=2.0),
        'ffn.gate': dict(decay_mult=0.0),
    }
    groups = wrapper_of(model, paramwise_cfg=dict(custom_keys=keys)).optimizer.param_groups
    own = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    for name, parameter in model.named_parameters():
        rate = 0.03 if 'embedding' in name else 0.005 if 'ffn' in name else 0.01
        decay = 0.0 if 'gate' in name else 0.2 if 'ffn' in name else 0.1
        plain = parameter.ndim < 2 or name.rsplit('.', 1)[-1] in ('b1', 'b2', 'b3')
        assert own[id(parameter)] == pytest.approx((rate, 0.0 if plain else decay)), name


def test_multiplier_of_points():
    pytest.importorskip('geoopt')
    model = model_of(embedding='manifold')
    keys = {'embedding': dict(lr_mult=0.5), 'ffn': dict(lr_mult=2.0)}
    wrapper = wrapper_of(model, hyp_optimizer=RIEMANN, paramwise_cfg=dict(custom_keys=keys))
    of_points = wrapper.optimizer.optimizers[1].param_groups
    assert [group['lr'] for group in of_points] == [0.05]
    assert of_points[0]['params'][0] is model.decoder.embedding.weight


RIEMANN = dict(type='RiemannianAdam', lr=0.1, stabilize=1)


def test_points_are_moved_along_the_hyperboloid():
    pytest.importorskip('geoopt')
    model = model_of(embedding='manifold', curvature=dict(init=2.0))
    wrapper = wrapper_of(model, hyp_optimizer=RIEMANN)
    weight = model.decoder.embedding.weight
    assert isinstance(wrapper.optimizer, JointOptimizer)
    assert [len(group['params']) for group in wrapper.optimizer.param_groups[2:]] == [1]
    assert wrapper.optimizer.param_groups[2]['params'][0] is weight
    ids, before, losses = torch.randint(0, 20, (4, 9)), weight.detach().clone(), []
    for _ in range(25):
        losses.append(model.train_step(dict(input_ids=ids), wrapper)['loss_lm'].item())
    assert losses[-1] < 0.7 * losses[0]
    time, space = weight.detach().split([1, 7], -1)
    torch.testing.assert_close(time, lorentz.time(space, 2.0, keepdim=True))
    assert (weight.detach() - before).abs().max() > 0.5
    torch.testing.assert_close(model.decoder.embedding(ids), space[ids])


def test_state_goes_on():
    pytest.importorskip('geoopt')
    ids = torch.randint(0, 20, (4, 9))

    def steps(model, wrapper, count):
        for _ in range(count):
            model.train_step(dict(input_ids=ids), wrapper)
        return model.state_dict()

    models = [model_of(embedding='manifold') for _ in range(2)]
    wrappers = [wrapper_of(model, hyp_optimizer=RIEMANN) for model in models]
    steps(models[0], wrappers[0], 3)
    models[1].load_state_dict(models[0].state_dict())
    wrappers[1].load_state_dict(copy.deepcopy(wrappers[0].state_dict()))
    for wrapper in wrappers:
        for group in wrapper.optimizer.param_groups:
            group['lr'] = 0.02  # as a scheduler does
    a, b = (steps(*pair, 3) for pair in zip(models, wrappers))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5)
    plain = torch.optim.AdamW(nn.Linear(2, 2).parameters())
    with pytest.raises(ValueError, match='must be of 2 optimizers, got 0'):
        wrappers[0].optimizer.load_state_dict(plain.state_dict())


def test_bad_input(monkeypatch):
    model = model_of()
    for cfg, message in (
        (dict(bias_decay_mult=0.0), r"must have custom_keys alone, got \['bias_decay_mult'\]"),
        (dict(custom_keys=dict(embedding=dict(lr=1.0))), 'must have lr_mult and decay_mult'),
        (dict(custom_keys=dict(embedding=dict(lr_mult=-1.0))), 'embedding.lr_mult must be in'),
        (dict(custom_keys=dict(embeding=dict(lr_mult=2.0))), r"in names .* got \['embeding'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            wrapper_of(model, paramwise_cfg=cfg)
    with pytest.raises(ValueError, match='embedding must be one of'):
        model_of(embedding='euclidean')
    pytest.importorskip('geoopt')
    with pytest.raises(ValueError, match='hyp_optimizer must be given for points and for nothing'):
        wrapper_of(model, hyp_optimizer=RIEMANN)
    with pytest.raises(ValueError, match='hyp_optimizer must be given for points and for nothing'):
        wrapper_of(model_of(embedding='manifold'))
    with pytest.raises(ValueError, match="must be one of .*RiemannianAdam.*got 'Adam'"):
        geoopt_optimizer('Adam')
    with pytest.raises(ValueError, match='curvature must be fixed'):
        model_of(embedding='manifold', curvature=dict(learnable=True))


def test_missing_library(monkeypatch):
    monkeypatch.setitem(sys.modules, 'geoopt', None)
    with pytest.raises(ImportError, match='pip install geoopt'):
        geoopt_optimizer('RiemannianAdam')
    with pytest.raises(ImportError, match='pip install geoopt'):
        model_of(embedding='manifold')
