"""``hyper_mm.ImageClassifier`` with ``HiMapperPooling`` on every family of backbones."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

pytestmark = pytest.mark.mmpretrain
pytest.importorskip('mmpretrain')

from mmengine.registry import init_default_scope  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402

CLASSES = 5
MAPPER = dict(
    type='hyper_mm.HiMapperPooling', num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=8
)
VIT = dict(
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
    out_type='raw',
)
SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
FAMILIES = {  # backbone, head, width, prefix tokens
    'vit': (dict(type='VisionTransformer', **VIT), 'VisionTransformerClsHead', 16, 1),
    'distilled': (dict(type='DistilledVisionTransformer', **VIT), 'DeiTClsHead', 16, 2),
    'swin': (
        dict(type='SwinTransformer', arch=SWIN, img_size=64, window_size=2, pad_small_map=True),
        'LinearClsHead',
        64,
        0,
    ),
    'resnet': (
        dict(type='ResNet', depth=18, stem_channels=8, base_channels=8, out_indices=(3,)),
        'LinearClsHead',
        64,
        0,
    ),
    'efficientnet': (dict(type='EfficientNet', arch='b0'), 'LinearClsHead', 1280, 0),
}
families = pytest.mark.parametrize('family', FAMILIES)


def make(family: str, neck: dict | None = None, **options):
    init_default_scope('mmpretrain')
    backbone, head, width, count = copy.deepcopy(FAMILIES[family])
    mapper = MAPPER | dict(in_channels=width, num_prefix_tokens=count) | (neck or {})
    model = MODELS.build(
        dict(
            type='hyper_mm.ImageClassifier',
            backbone=backbone,
            neck=mapper,
            head=dict(
                type=head,
                in_channels=width,
                num_classes=CLASSES,
                init_cfg=dict(type='Normal', layer='Linear', std=0.1),
                loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
            ),
            data_preprocessor=dict(num_classes=CLASSES, mean=[120.0] * 3, std=[60.0] * 3),
            **options,
        )
    )
    model.init_weights()
    return model


def batch(count: int, height: int = 64, width: int = 64) -> dict:
    samples = [DataSample().set_gt_label(i % CLASSES) for i in range(count)]
    images = torch.randint(256, (count, 3, height, width), dtype=torch.uint8)
    return dict(inputs=images, data_samples=samples)


def train(model, data: dict) -> dict:
    """One forward and backward pass; returns the losses."""
    model.train()
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'MMPretrain cannot train the distilled')
        losses = model(**model.data_preprocessor(data, training=True), mode='loss')
    total, _ = model.parse_losses(losses)
    total.backward()
    return losses


def without_gradient(model) -> list[str]:
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@families
def test_losses_gradients_and_prediction(family):
    model = make(family)
    losses = train(model, batch(3))
    assert {'loss', 'loss_hier_cont', 'loss_hier_kl'} <= set(losses)
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    assert without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert any(p.grad.abs().sum() > 0 for p in model.backbone.parameters())
    results = model.eval().test_step(batch(3))
    assert all(0 <= int(result.pred_label) < CLASSES for result in results)
    assert torch.stack([result.pred_score for result in results]).sum(1).allclose(torch.ones(3))


@families
def test_mixed_images_with_soft_targets(family):
    augments = [dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    model = make(family, train_cfg=dict(augments=augments))
    data = model.data_preprocessor(batch(4), training=True)
    targets = torch.stack([sample.gt_score for sample in data['data_samples']])
    assert targets.sum(1).allclose(torch.ones(4)) and ((targets > 0) & (targets < 1)).any()
    losses = train(model, batch(4))
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    assert 'loss_hier_cont' in losses


@families
def test_batch_of_one_image(family):
    model = make(family)
    if family == 'resnet':  # batch norm of a single value is refused by torch itself
        model.backbone.eval()
    losses = train(model, batch(1))
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    (result,) = model.eval().test_step(batch(1))
    assert result.pred_score.isfinite().all()


@families
def test_image_one_pixel_high(family):
    # patches of one pixel row, where there are patches
    model = make(family)
    if family in ('vit', 'distilled'):
        backbone = dict(FAMILIES[family][0], patch_size=1, img_size=(1, 8))
        model.backbone = MODELS.build(backbone)
    height, width = (1, 8) if family in ('vit', 'distilled') else (1, 64)
    losses = train(model, batch(2, height, width))
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    results = model.eval().test_step(batch(2, height, width))
    assert all(result.pred_score.isfinite().all() for result in results)


def test_class_and_distillation_token_go_to_their_own_heads():
    model = make('distilled').eval()
    images = torch.randn(2, 3, 32, 32)
    ((cls, dist),) = model.extract_feat(images)
    heads = model.head.layers
    expected = (heads.head(cls) + heads.head_dist(dist)) / 2
    torch.testing.assert_close(model(images), expected)


def test_a_zero_update_leaves_the_stock_model():
    model = make('vit', neck=dict(zero_init_out=True)).eval()
    stock = make('vit').eval()
    stock.load_state_dict(model.state_dict())
    stock.neck, stock.backbone.out_type = None, 'cls_token'
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), stock(images))


def test_classes_without_images(tmp_path):
    cv2 = pytest.importorskip('cv2')
    from mmpretrain.datasets import CustomDataset

    for i in range(CLASSES):
        (tmp_path / f'class{i}').mkdir()
    for i in range(3):
        image = torch.randint(256, (40, 40, 3), dtype=torch.uint8).numpy()
        cv2.imwrite(str(tmp_path / f'class{i % 2}' / f'{i}.png'), image)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    init_default_scope('mmpretrain')
    dataset = CustomDataset(data_root=str(tmp_path), pipeline=pipeline)
    assert len(dataset.metainfo['classes']) == CLASSES and len(dataset) == 3
    items = [dataset[i] for i in range(3)]
    data = {key: [item[key] for item in items] for key in ('inputs', 'data_samples')}
    model = make('vit')
    losses = train(model, data)
    assert all(torch.as_tensor(value).isfinite() for value in losses.values())
    assert len(model.eval().test_step(data)) == 3


def test_features_that_are_not_finite_are_refused():
    model = make('vit')
    with torch.no_grad():
        model.backbone.patch_embed.projection.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match='not finite'):
        train(model, batch(2))


@pytest.mark.parametrize(
    ('family', 'count', 'message'),
    [
        ('vit', 0, r'num_prefix_tokens=0 takes features \(B, d, H, W\)'),
        ('resnet', 1, r'num_prefix_tokens=1 takes features \(B, P \+ M, d\).*set num_prefix'),
    ],
)
def test_prefix_tokens_that_do_not_fit(family, count, message):
    model = make(family, neck=dict(num_prefix_tokens=count))
    with pytest.raises(ValueError, match=message):
        train(model, batch(2))


def test_class_token_alone_is_refused_with_the_remedy():
    model = make('vit')
    model.backbone.out_type = 'cls_token'
    with pytest.raises(ValueError, match="out_type='raw'"):
        train(model, batch(2))


@pytest.mark.parametrize('family, count', [('distilled', 1), ('vit', 2)])
def test_prefix_tokens_of_another_backbone_are_refused(family, count):
    found = FAMILIES[family][3]
    with pytest.raises(ValueError, match=f'num_prefix_tokens is {count}, .* has {found} tokens'):
        make(family, neck=dict(num_prefix_tokens=count))
