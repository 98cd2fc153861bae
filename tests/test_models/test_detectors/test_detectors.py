"""mmdet's detectors with a Hi-Mapper between a plain ViT and its pyramid."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.models import MaskRCNN as StockMaskRCNN  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from hyper_mm.models.utils.aux_losses import AuxLossMixin  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

pytestmark = pytest.mark.mmdet
WIDTH = 16
CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
ANCHORS = dict(
    type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
)


def assigner(positive, negative, match):
    return dict(
        type='MaxIoUAssigner',
        pos_iou_thr=positive,
        neg_iou_thr=negative,
        min_pos_iou=negative,
        match_low_quality=match,
        ignore_iof_thr=-1,
    )


def sampler(num, add):
    return dict(
        type='RandomSampler', num=num, pos_fraction=0.5, neg_pos_ub=-1, add_gt_as_proposals=add
    )


def extractor(size):
    return dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
        out_channels=WIDTH,
        featmap_strides=[4, 8, 16, 32],
    )


BOX_HEAD = dict(
    type='Shared2FCBBoxHead',
    in_channels=WIDTH,
    fc_out_channels=WIDTH,
    roi_feat_size=3,
    num_classes=2,
    bbox_coder=CODER,
    reg_class_agnostic=False,
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
    loss_bbox=dict(type='L1Loss'),
)
RPN = dict(
    type='RPNHead',
    in_channels=WIDTH,
    feat_channels=WIDTH,
    anchor_generator=ANCHORS,
    bbox_coder=dict(CODER, target_stds=[1.0] * 4),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
    loss_bbox=dict(type='L1Loss'),
)
PROPOSALS = dict(
    nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0
)
RCNN = dict(
    assigner=assigner(0.5, 0.5, True), sampler=sampler(16, True), pos_weight=-1, allowed_border=-1
)
TEST = dict(score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
TRAIN_CFG = dict(
    rpn=dict(
        assigner=assigner(0.7, 0.3, True),
        sampler=sampler(16, False),
        pos_weight=-1,
        allowed_border=-1,
    ),
    rpn_proposal=PROPOSALS,
    rcnn=dict(RCNN, mask_size=8),
)
TWO_STAGE = dict(
    rpn_head=RPN,
    roi_head=dict(type='StandardRoIHead', bbox_roi_extractor=extractor(3), bbox_head=BOX_HEAD),
    train_cfg=TRAIN_CFG,
    test_cfg=dict(rpn=PROPOSALS, rcnn=TEST),
)
MASKS = dict(
    mask_roi_extractor=extractor(4),
    mask_head=dict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=WIDTH,
        conv_out_channels=WIDTH,
        num_classes=2,
        loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
    ),
)
HEADS = {
    'FasterRCNN': TWO_STAGE,
    'MaskRCNN': dict(
        TWO_STAGE,
        roi_head=dict(TWO_STAGE['roi_head'], **MASKS),
        test_cfg=dict(rpn=PROPOSALS, rcnn=dict(TEST, mask_thr_binary=0.5)),
    ),
    'CascadeRCNN': dict(
        TWO_STAGE,
        roi_head=dict(
            type='CascadeRoIHead',
            num_stages=2,
            stage_loss_weights=[1, 0.5],
            bbox_roi_extractor=extractor(3),
            bbox_head=[dict(BOX_HEAD, reg_class_agnostic=True)] * 2,
        ),
        train_cfg=dict(TRAIN_CFG, rcnn=[RCNN] * 2),
    ),
    'RetinaNet': dict(
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=WIDTH,
            stacked_convs=1,
            feat_channels=WIDTH,
            anchor_generator=ANCHORS,
            bbox_coder=dict(CODER, target_stds=[1.0] * 4),
            loss_cls=dict(type='FocalLoss', use_sigmoid=True),
            loss_bbox=dict(type='L1Loss'),
        ),
        train_cfg=dict(
            assigner=assigner(0.5, 0.4, True),
            sampler=dict(type='PseudoSampler'),
            pos_weight=-1,
            allowed_border=-1,
        ),
        test_cfg=dict(PROPOSALS, **TEST),
    ),
}


def build(name, prefix='hyper_mm.', **neck):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    return MODELS.build(config(name, prefix, **neck))


def config(name, prefix='hyper_mm.', **neck):
    small = dict(num_leaves=8, num_levels=3, width=8, num_heads=2, hyp_dim=8)
    return ConfigDict(
        type=prefix + name,
        data_preprocessor=dict(
            type='DetDataPreprocessor',
            mean=[120.0] * 3,
            std=[60.0] * 3,
            pad_size_divisor=32,
            pad_mask=name == 'MaskRCNN',
        ),
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
            img_size=64,
            patch_size=16,
            out_type='featmap',
        ),
        neck=dict(
            type='hyper_mm.HiMapper',
            in_channels=16,
            neck=dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=16, out_channels=WIDTH),
            **small,
            **neck,
        ),
        **copy.deepcopy(HEADS[name]),
    )


def sample(size, boxes=1):
    h, w = size
    corners = torch.tensor([[0.0, 0.0, w / 2, h / 2]]).repeat(boxes, 1)
    data = DetDataSample(
        metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
    )
    data.gt_instances = InstanceData(
        bboxes=corners,
        labels=torch.zeros(boxes, dtype=torch.long),
        masks=BitmapMasks(torch.ones(boxes, h, w).numpy().astype('uint8'), h, w),
    )
    data.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
    return data


def batch(*sizes, boxes=1):
    return dict(
        inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes],
        data_samples=[sample(size, boxes) for size in sizes],
    )


def train_step(model, data):
    data = model.data_preprocessor(data, training=True)
    losses = model.loss(data['inputs'], data['data_samples'])
    total, logged = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    return total, logged


def predict(model, data):
    model.eval()
    data = model.data_preprocessor(data, training=False)
    with torch.no_grad():
        return model.predict(data['inputs'], data['data_samples'])


@pytest.mark.parametrize('name', HEADS)
class TestDetectors:
    def test_losses_of_the_hierarchy_train_it(self, name):
        model = build(name)
        assert isinstance(model, AuxLossMixin)
        total, logged = train_step(model, batch((64, 96), (64, 64)))
        assert logged['loss_hier_cont'] > 0 and logged['loss_hier_kl'] > 0
        assert total.item() == pytest.approx(logged['loss'].item())
        parts = [model.neck.mapper.tree, model.neck.mapper.decomposer, model.neck.mapper.lift]
        assert all((p.grad != 0).any() for part in parts for p in part.parameters())
        assert model.neck.fusion.gate.grad.abs().sum() > 0

    @pytest.mark.parametrize(
        'sizes, boxes',
        [
            ([(64, 64)], 1),
            ([(64, 64), (64, 96)], 0),
            ([(1, 64)], 1),
            ([(1, 64)], 0),
            ([(32, 1)], 0),
        ],
        ids=['one image', 'no objects', 'one row', 'one row without objects', 'one column'],
    )
    def test_odd_batches_train_and_test(self, name, sizes, boxes):
        model = build(name)
        total, logged = train_step(model, batch(*sizes, boxes=boxes))
        assert total.isfinite() and 'loss_hier_cont' in logged
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        for result in predict(model, batch(*sizes, boxes=boxes)):
            assert result.pred_instances.bboxes.isfinite().all()
            assert result.pred_instances.scores.isfinite().all()

    def test_features_that_are_not_finite(self, name):
        model = build(name)
        torch.nn.init.constant_(model.backbone.cls_token, torch.nan)
        with pytest.raises(ValueError, match='HiMapper: .* are not finite'):
            train_step(model, batch((64, 64)))
        with pytest.raises(ValueError, match='HiMapper: .* are not finite'):
            predict(model, batch((64, 64)))


SEMI = dict(
    sup_weight=1.0, unsup_weight=4.0, pseudo_label_initial_score_thr=0.0, rpn_pseudo_thr=0.0,
    cls_pseudo_thr=0.0, reg_pseudo_thr=1e9, jitter_times=2, jitter_scale=0.06,
    min_pseudo_bbox_wh=(1e-2, 1e-2),
)  # fmt: skip


@pytest.mark.parametrize('prefix', ['', 'hyper_mm.'], ids=['stock student', 'our student'])
def test_soft_teacher(prefix):
    """Losses of the hierarchy of both branches train the student; the teacher has none."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    detector = config('FasterRCNN', prefix)
    model = MODELS.build(
        ConfigDict(
            type='hyper_mm.SoftTeacher',
            detector=detector,
            data_preprocessor=dict(
                type='MultiBranchDataPreprocessor', data_preprocessor=detector.data_preprocessor
            ),
            semi_train_cfg=SEMI,
            semi_test_cfg=dict(predict_on='teacher'),
        )
    ).train()
    branches = {name: batch((64, 64)) for name in ('sup', 'unsup_teacher', 'unsup_student')}
    data = {key: {n: b[key] for n, b in branches.items()} for key in ('inputs', 'data_samples')}
    for part in data['data_samples'].values():
        for k, found in enumerate(part):
            found.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32), img_id=k))
    passes = []
    for part in (model.student.neck, model.teacher.neck):
        part.register_forward_hook(lambda module, *_: passes.append(module))
    total, logged = train_step(model, data)
    assert passes.count(model.student.neck) == 2 and passes.count(model.teacher.neck) == 1
    expected = {'loss_hier_cont', 'loss_hier_kl'}
    if prefix:
        expected |= {f'sup_{name}' for name in expected}
    assert {name for name in logged if 'hier' in name and 'loss' in name} == expected
    assert all(logged[name] > 0 for name in expected)
    tree = model.student.neck.mapper.tree
    assert all((p.grad != 0).any() for p in tree.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_stock_detector_says_that_losses_are_lost():
    model = build('MaskRCNN', prefix='')
    assert type(model) is StockMaskRCNN
    with pytest.warns(UserWarning, match='does not add them to its losses'):
        train_step(model, batch((64, 64)))


def test_closed_gate_leaves_the_stock_model_as_it_is():
    ours = build('FasterRCNN').eval()
    pyramid = ours.neck.neck
    x = torch.randn(1, 3, 64, 64)
    for a, b in zip(ours.extract_feat(x), pyramid(ours.backbone(x))):
        torch.testing.assert_close(a, b)
