import pytest
import torch

from hyper_mm.registry import MODELS
from tests.helpers.gradients import dead_parameters

SMALL = dict(type='hyper_mm.PlainBlocks', in_channels=[8, 12], width=8, num_heads=2, hidden=5)


def levels(**options):
    return torch.randn(2, 8, 6, 6, **options), torch.randn(2, 12, 3, 3, **options)


@pytest.mark.parametrize('level', [0, 1, -1])
def test_is_the_identity_at_initialization_and_changes_one_level(level):
    neck, inputs = MODELS.build(dict(**SMALL, level=level)), levels()
    assert all(torch.equal(a, b) for a, b in zip(neck(inputs), inputs))
    torch.nn.init.normal_(neck.inside['out_proj'][1].weight)
    changed = [not torch.equal(a, b) for a, b in zip(neck(inputs), inputs)]
    assert changed == [i == level % 2 for i in range(2)]


def test_survives_the_initialization_of_a_model():
    neck = MODELS.build(SMALL)
    neck._params_init_info = {}
    neck.apply(lambda m: torch.nn.init.ones_(m.weight) if hasattr(m, 'weight') else None)
    del neck._params_init_info
    inputs = levels()
    assert all(torch.equal(a, b) for a, b in zip(neck(inputs), inputs))


def test_every_parameter_learns():
    neck = MODELS.build(dict(**SMALL, num_blocks=2, dropout=0.0)).double()
    torch.nn.init.normal_(neck.inside['out_proj'][1].weight)
    sum(x.square().sum() for x in neck(levels(dtype=torch.float64))).backward()
    assert not dead_parameters(neck)


def test_pools():
    neck, inputs = MODELS.build(dict(**SMALL, pool=True)), levels()
    (pooled,) = neck(inputs)
    torch.testing.assert_close(pooled, inputs[-1].mean((2, 3)))


def test_inner_neck():
    fpn = dict(type='mmdet.FPN', in_channels=[8, 12], out_channels=4, num_outs=3)
    pytest.importorskip('mmdet.models')
    assert [x.shape[1] for x in MODELS.build(dict(**SMALL, neck=fpn))(levels())] == [4, 4, 4]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(level=2), 'level must index in_channels'),
        (dict(hidden=0), 'hidden must be an integer of at least 1, got 0'),
        (dict(num_blocks=0), 'num_blocks must be an integer of at least 1, got 0'),
        (dict(pool=True, neck=dict(type='FPN')), 'neck must be None with pool=True'),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build({**SMALL, **options})
