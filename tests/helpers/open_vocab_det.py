"""Small open-vocabulary detectors and panoptic segmentors, and drawn sets in the COCO layouts."""

import json

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData

from hyper_mm.registry import MODELS

ADAPTER = dict(type='hyper_mm.HyperCLIPAdapter', block_size=8)
BASE, NOVEL = ['square', 'disk'], ['cross']
NAMES = [*BASE, *NOVEL]
TEXT = dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=2)
VISION = dict(
    vit=dict(image_size=32, layers=3, width=24, head_width=8, patch_size=8),
    resnet=dict(layers=[1, 1, 1, 1], width=8, image_size=64, head_width=16),
    convnext=dict(
        timm_model_name='convnext_atto', timm_model_pretrained=False, timm_pool='',
        timm_proj='linear', image_size=64,
    ),
    timm_vit=dict(
        timm_model_name='vit_tiny_patch16_224', timm_model_pretrained=False, timm_pool='',
        timm_proj='linear', image_size=64,
    ),
)  # fmt: skip
CHANNELS = dict(vit=[24], timm_vit=[192], resnet=[32, 64, 128, 256], convnext=[40, 80, 160, 320])


def backbone(tower='resnet', **options):
    model = dict(embed_dim=16, vision_cfg=dict(VISION[tower]), text_cfg=dict(TEXT))
    return dict(type='hyper_mm.CLIPBackbone', clip=dict(model=model), **options)


def neck(tower='resnet', width=16, levels=5):
    if tower.endswith('vit'):
        kind = dict(type='hyper_mm.SimpleFeaturePyramid', in_channels=CHANNELS[tower][-1])
        return dict(kind, out_channels=width, num_outs=levels)
    return dict(type='mmdet.FPN', in_channels=CHANNELS[tower], out_channels=width, num_outs=levels)


def preprocessor(**options):
    return dict(
        type='mmdet.DetDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3, pad_size_divisor=32,
        **options,
    )  # fmt: skip


def detector(tower='resnet', masks=True, **options):
    """Config of a detector of few channels."""
    extractor = dict(
        type='mmdet.SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=5, sampling_ratio=0),
        out_channels=16,
        featmap_strides=[2, 4, 8, 16] if tower == 'vit' else [4, 8, 16, 32],
    )
    loss = dict(type='mmdet.CrossEntropyLoss')
    roi_head = dict(
        type='hyper_mm.OpenVocabRoIHead',
        bbox_roi_extractor=extractor,
        bbox_head=dict(
            type='hyper_mm.OpenVocabBBoxHead',
            in_channels=16,
            fc_out_channels=32,
            roi_feat_size=5,
            embed_dims=16,
            loss_cls=loss,
            loss_bbox=dict(type='mmdet.L1Loss'),
        ),
    )
    if masks:
        roi_head.update(
            mask_roi_extractor=extractor,
            mask_head=dict(
                type='mmdet.FCNMaskHead', num_convs=1, roi_feat_size=5, in_channels=16,
                conv_out_channels=16, class_agnostic=True, num_classes=1,
                loss_mask=dict(type='mmdet.CrossEntropyLoss', use_mask=True),
            ),
        )  # fmt: skip
    strides = [2, 4, 8, 16, 32] if tower == 'vit' else [4, 8, 16, 32, 64]
    assigner = dict(
        type='mmdet.MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.3,
        ignore_iof_thr=-1,
    )  # fmt: skip
    sampler = dict(type='mmdet.RandomSampler', num=16, pos_fraction=0.5, add_gt_as_proposals=False)
    proposals = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7))
    config = dict(
        type=f'hyper_mm.OpenVocab{"Mask" if masks else "Faster"}RCNN',
        data_preprocessor=preprocessor(pad_mask=masks),
        backbone=backbone(tower),
        neck=neck(tower),
        rpn_head=dict(
            type='mmdet.RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator', scales=[4], ratios=[1.0, 2.0], strides=strides
            ),
            bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder'),
            loss_cls=dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True),
            loss_bbox=dict(type='mmdet.L1Loss'),
        ),
        roi_head=roi_head,
        vocabulary=NAMES,
        train_vocabulary=BASE,
        train_cfg=dict(
            rpn=dict(assigner=assigner, sampler=sampler, allowed_border=-1, pos_weight=-1),
            rpn_proposal=dict(proposals, min_bbox_size=0),
            rcnn=dict(
                assigner=assigner,
                sampler=dict(sampler, add_gt_as_proposals=True),
                pos_weight=-1,
                mask_size=10,
            ),
        ),
        test_cfg=dict(
            rpn=dict(proposals, min_bbox_size=0),
            rcnn=dict(
                score_thr=0.0,
                nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=10,
                mask_thr_binary=0.5,
            ),
        ),
    )
    return ConfigDict({**config, **options})


def build(config):
    torch.manual_seed(0)
    return MODELS.build(config)


def det_batch(sizes=((64, 96), (50, 70)), instances=2, classes=2):
    """Random images of some sizes with boxes and masks."""
    torch.manual_seed(3)
    images, samples = [], []
    for height, width in sizes:
        images.append(torch.randint(256, (3, height, width), dtype=torch.uint8))
        low = torch.rand(instances, 2) * torch.tensor([width / 2, height / 2])
        high = low + torch.tensor([width / 3, height / 3])
        masks = np.zeros((instances, height, width), np.uint8)
        for mask, (x0, y0), (x1, y1) in zip(masks, low.int().tolist(), high.int().tolist()):
            mask[y0:y1, x0:x1] = 1
        found = InstanceData(
            bboxes=torch.cat([low, high], 1).reshape(-1, 4),
            labels=torch.randint(classes, (instances,)),
            masks=BitmapMasks(masks, height, width),
        )
        meta = dict(
            img_shape=(height, width),
            ori_shape=(2 * height, 2 * width),
            scale_factor=(0.5, 0.5),
            img_id=len(images),
        )
        samples.append(
            DetDataSample(
                metainfo=meta, gt_instances=found, ignored_instances=InstanceData(
                    bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
            )
        )  # fmt: skip
    return dict(inputs=images, data_samples=samples)


def run(model, data, mode='loss'):
    model.train(mode == 'loss')
    data = model.data_preprocessor(data, training=mode == 'loss')
    return model(**data, mode=mode)


def draw_shape(image, name, x, y, size):
    """Draws a shape; returns where it is."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    dx, dy = np.abs(columns - x - size / 2), np.abs(rows - y - size / 2)
    where = dict(
        square=(dx < size / 2) & (dy < size / 2),
        disk=dx**2 + dy**2 < (size / 2) ** 2,
        cross=((dx < size / 2) & (dy < size / 6)) | ((dy < size / 2) & (dx < size / 6)),
    )[name]
    image[where] = dict(square=(40, 40, 220), disk=(40, 220, 40), cross=(220, 40, 40))[name]
    return where


def write_coco(folder, images=4, size=(64, 80), names=NAMES):
    """Drawn shapes with boxes and masks, in COCO's layout; each image has one of each name."""
    generator = np.random.default_rng(0)
    found = dict(images=[], annotations=[], categories=[])
    found['categories'] = [dict(id=k + 1, name=name) for k, name in enumerate(names)]
    (folder / 'images').mkdir(parents=True, exist_ok=True)
    for index in range(images):
        image = generator.integers(90, 150, (*size, 3), dtype=np.uint8)
        file = f'{index}.jpg'
        found['images'].append(dict(id=index, file_name=file, height=size[0], width=size[1]))
        for k, name in enumerate(names):
            x, y, side = 4 + 25 * k, int(generator.integers(4, 38)), 20
            draw_shape(image, name, x, y, side)
            polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            found['annotations'].append(
                dict(
                    id=len(found['annotations']) + 1, image_id=index, category_id=k + 1,
                    bbox=[x, y, side, side], area=side * side, iscrowd=0, segmentation=[polygon],
                )
            )  # fmt: skip
        mmcv.imwrite(image, str(folder / 'images' / file))
    (folder / 'instances.json').write_text(json.dumps(found))
    return folder


THINGS, STUFF = [*BASE, *NOVEL], ['grass', 'sky']


def panoptic(tower='resnet', **options):
    """Config of a panoptic segmentor of few channels; ``cross`` and ``sky`` are novel."""
    attention = dict(embed_dims=16, num_heads=2, dropout=0.0, batch_first=True)
    encoder = dict(attention, num_levels=3, num_points=2)
    ffn = dict(embed_dims=16, feedforward_channels=16, num_fcs=2, act_cfg=dict(type='ReLU'))
    position = dict(num_feats=8, normalize=True)
    mask_loss = dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True, loss_weight=5.0)
    dice = dict(type='mmdet.DiceLoss', use_sigmoid=True, activate=True, naive_dice=True, eps=1.0)
    costs = [
        dict(type='mmdet.ClassificationCost', weight=2.0),
        dict(type='mmdet.CrossEntropyLossCost', weight=5.0, use_sigmoid=True),
        dict(type='mmdet.DiceCost', weight=5.0, pred_act=True, eps=1.0),
    ]
    config = dict(
        type='hyper_mm.OpenVocabMask2Former',
        data_preprocessor=preprocessor(pad_mask=True, pad_seg=True, seg_pad_value=255),
        backbone=backbone(tower),
        panoptic_head=dict(
            type='hyper_mm.OpenVocabMask2FormerHead',
            in_channels=[16] * 4 if tower.endswith('vit') else CHANNELS[tower],
            strides=[2, 4, 8, 16] if tower == 'vit' else [4, 8, 16, 32],
            feat_channels=16,
            out_channels=16,
            embed_dims=16,
            num_things_classes=2,
            num_stuff_classes=1,
            num_queries=6,
            num_transformer_feat_level=3,
            pixel_decoder=dict(
                type='mmdet.MSDeformAttnPixelDecoder',
                num_outs=3,
                norm_cfg=dict(type='GN', num_groups=4),
                act_cfg=dict(type='ReLU'),
                encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=encoder, ffn_cfg=ffn)),
                positional_encoding=position,
            ),
            positional_encoding=position,
            transformer_decoder=dict(
                return_intermediate=True,
                num_layers=2,
                layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
                init_cfg=None,
            ),
            loss_mask=mask_loss,
            loss_dice=dice,
        ),
        panoptic_fusion_head=dict(type='hyper_mm.OpenVocabFusionHead'),
        vocabulary=[*THINGS, *STUFF],
        train_vocabulary=[*BASE, 'grass'],
        stuff=STUFF,
        train_cfg=dict(
            num_points=64,
            assigner=dict(type='mmdet.HungarianAssigner', match_costs=costs),
            sampler=dict(type='mmdet.MaskPseudoSampler'),
        ),
        test_cfg=dict(
            panoptic_on=True, instance_on=True, semantic_on=True, object_mask_thr=0.0, iou_thr=0.3
        ),
    )
    if tower.endswith('vit'):
        config['neck'] = neck(tower, levels=4)
    return ConfigDict({**config, **options})


def pan_batch(**options):
    """:func:`det_batch` with label maps: 2 is grass, 255 nothing."""
    batch = det_batch(**options)
    for sample in batch['data_samples']:
        height, width = sample.img_shape
        labels = torch.full((1, height, width), 255)
        labels[:, height // 2 :] = 2
        for mask, label in zip(sample.gt_instances.masks.masks, sample.gt_instances.labels):
            labels[0, torch.from_numpy(mask).bool()] = label
        sample.gt_sem_seg = PixelData(sem_seg=labels)
    return batch


def run_config(folder, model, datasets, metrics, custom_hooks=(), **hooks):
    """Config of a run of one epoch that trains, scores and draws.

    Args:
        folder: Where it writes.
        model: Config of the model.
        datasets: Configs of the data to train and to test on.
        metrics: Configs of the metrics.
        custom_hooks: Beside those of vocabularies and of trained weights.
        **hooks: Added to the default hooks; the visualization is changed.
    """
    loader = dict(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    train, test = (
        dict(loader, batch_size=size, dataset=data) for size, data in zip((2, 1), datasets)
    )
    visualization = dict(type='DetVisualizationHook', draw=True, interval=1)
    return Config(
        dict(
            default_scope='mmdet',
            model=model,
            work_dir=str(folder / 'work'),
            train_dataloader=train,
            val_dataloader=test,
            test_dataloader=test,
            val_evaluator=metrics,
            test_evaluator=metrics,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
            train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1, val_interval=1),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            default_hooks=dict(hooks, visualization=visualization | hooks.get('visualization', {})),
            custom_hooks=[
                dict(type='hyper_mm.VocabularyHook'),
                dict(type='hyper_mm.TrainedWeightsHook'),
                *custom_hooks,
            ],
            visualizer=dict(
                type='hyper_mm.DetLocalVisualizer',
                name=folder.name,
                vis_backends=[dict(type='LocalVisBackend')],
            ),
            randomness=dict(seed=0),
            log_level='ERROR',
        )
    )
