"""A checkpoint of a stock model starts unchanged once a component is added, in each framework."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip('mmengine')

from mmengine.registry import MODELS, init_default_scope  # noqa: E402
from mmengine.runner import load_checkpoint  # noqa: E402

import hyper_mm.registry  # noqa: E402, F401

HIMAPPER = dict(num_leaves=8, num_levels=3, width=16, num_heads=2, hyp_dim=8)
WIDTHS = [64, 128, 256, 512]


def resnet(**options) -> dict:
    return dict(type='ResNet', depth=18, **options)


def segmentor(**options) -> dict:
    return (
        dict(
            type='EncoderDecoder',
            backbone=resnet(norm_cfg=dict(type='BN')),
            decode_head=dict(
                type='FCNHead',
                in_channels=16,
                in_index=2,
                channels=8,
                num_classes=3,
                norm_cfg=dict(type='BN'),
            ),
            test_cfg=dict(mode='whole'),
        )
        | options
    )


def detector(**options) -> dict:
    anchors = dict(type='AnchorGenerator', ratios=[1.0], strides=[4, 8, 16, 32, 64], scales=[8])
    return (
        dict(
            type='RetinaNet',
            backbone=resnet(norm_cfg=dict(type='BN')),
            bbox_head=dict(
                type='RetinaHead',
                num_classes=3,
                in_channels=16,
                feat_channels=8,
                stacked_convs=1,
                anchor_generator=anchors,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            ),
        )
        | options
    )


def classifier(**options) -> dict:
    head = dict(type='LinearClsHead', in_channels=512, num_classes=3)
    return dict(type='ImageClassifier', backbone=resnet(), head=head) | options


def around(neck: dict) -> dict:
    """The neck behind Hi-Mapper, whose gate is closed."""
    return dict(type='hyper_mm.HiMapper', in_channels=WIDTHS, neck=neck, **HIMAPPER)


MULTI = dict(type='MultiLevelNeck', in_channels=WIDTHS, out_channels=16, scales=[1, 1, 1, 1])
FPN = dict(type='FPN', in_channels=WIDTHS, out_channels=16, num_outs=5)
POOLING = dict(type='hyper_mm.HiMapperPooling', in_channels=512, zero_init_out=True, **HIMAPPER)
HIMAPPER_NECK = dict(type='hyper_mm.HiMapper', in_channels=WIDTHS, **HIMAPPER)
PLAIN = dict(
    type='hyper_mm.PlainBlocks', in_channels=[16] * 5, level=2, width=16, num_heads=2, hidden=16
)
BFP = dict(type='BFP', in_channels=16, num_levels=5, refine_level=2, refine_type='conv')
CASES = {
    'mmseg': (segmentor, MULTI, around(MULTI)),
    'mmseg without a neck': (
        lambda **o: segmentor(decode_head=segmentor()['decode_head'] | dict(in_channels=256), **o),
        None,
        dict(type='hyper_mm.HiMapper', in_channels=WIDTHS, **HIMAPPER),
    ),
    'mmdet': (detector, FPN, around(FPN)),
    'mmseg list': (segmentor, MULTI, [HIMAPPER_NECK, MULTI]),
    'mmdet list': (detector, FPN, [HIMAPPER_NECK, FPN]),
    'mmdet longer list': (detector, [FPN, BFP], [HIMAPPER_NECK, FPN, BFP]),
    'mmdet list with blocks': (detector, [FPN, BFP], [FPN, PLAIN, BFP]),
    'mmdet blocks': (detector, FPN, PLAIN | dict(in_channels=WIDTHS, neck=FPN)),
    'mmpretrain': (classifier, dict(type='GlobalAveragePooling'), POOLING),
}


def outputs(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        found = model(images, mode='tensor')
    flat, rest = [], [found]
    while rest:
        part = rest.pop()
        rest += part if isinstance(part, (tuple, list)) else []
        flat += [part] if isinstance(part, torch.Tensor) else []
    return flat


@pytest.mark.parametrize('case', CASES)
def test_model_with_the_component_starts_unchanged(case, tmp_path):
    scope = case.split()[0]
    pytest.importorskip(scope)
    config, stock_neck, our_neck = CASES[case]
    init_default_scope(scope)
    stock = MODELS.build(config(neck=stock_neck) if stock_neck else config()).eval()
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    torch.save(dict(state_dict=stock.state_dict()), tmp_path / 'stock.pth')
    kind = f'hyper_mm.{config()["type"]}'
    ours = MODELS.build(config(type=kind, neck=our_neck)).eval()
    ours.init_weights()
    load_checkpoint(ours, str(tmp_path / 'stock.pth'), map_location='cpu')
    images = torch.randn(2, 3, 64, 64)
    found, expected = outputs(ours, images), outputs(stock, images)
    assert len(found) == len(expected) > 0
    for a, b in zip(found, expected):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize('case', ['mmseg', 'mmdet', 'mmseg list', 'mmdet longer list'])
def test_its_own_checkpoint_is_complete(case, tmp_path):
    """What was trained with the component is read as it was written."""
    scope = case.split()[0]
    pytest.importorskip(scope)
    config, _, our_neck = CASES[case]
    init_default_scope(scope)
    first, second = (
        MODELS.build(config(type=f'hyper_mm.{config()["type"]}', neck=our_neck)) for _ in range(2)
    )
    torch.save(dict(state_dict=first.state_dict()), tmp_path / 'ours.pth')
    load_checkpoint(second, str(tmp_path / 'ours.pth'), map_location='cpu', strict=True)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
