"""Whole runs of a small open-vocabulary segmentor."""

import mmcv
import numpy as np
from mmengine.config import Config

from tests.helpers.open_vocab import HYPERCLIP, NAMES, WINDOWS, config


def write_images(folder):
    """Four images of two colors, whose label is the color; class 4 is ignored in training."""
    generator = np.random.default_rng(0)
    for index in range(4):
        image = generator.integers(0, 80, (40, 56, 3), dtype=np.uint8)
        label = np.zeros((40, 56), np.uint8)
        image[:, 20:] += 120
        label[:, 20:] = 4
        mmcv.imwrite(image, str(folder / 'images' / f'{index}.jpg'))
        mmcv.imwrite(label, str(folder / 'labels' / f'{index}.png'))
    return folder


def run_config(data, **model):
    pipeline = [dict(type=n) for n in ('LoadImageFromFile', 'LoadAnnotations')]
    crop = dict(type='RandomCrop', crop_size=(32, 32))
    dataset = dict(
        type='BaseSegDataset',
        data_root=str(data),
        data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=NAMES),
        pipeline=[*pipeline, dict(type='PackSegInputs')],
    )
    loader = dict(
        batch_size=2,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )
    return Config(
        dict(
            default_scope='mmseg',
            model=config(**{**dict(adapter=HYPERCLIP, test_cfg=WINDOWS), **model}),
            work_dir=str(data / 'work'),
            train_dataloader=dict(
                loader,
                sampler=dict(type='InfiniteSampler'),
                dataset=dict(dataset, pipeline=[*pipeline, crop, dict(type='PackSegInputs')]),
            ),
            val_dataloader=loader,
            test_dataloader=loader,
            val_evaluator=dict(type='hyper_mm.OVIoUMetric'),
            test_evaluator=dict(type='hyper_mm.OVIoUMetric'),
            optim_wrapper=dict(
                type='OptimWrapper',
                optimizer=dict(type='AdamW', lr=1e-2),
                clip_grad=dict(max_norm=0.01),
                paramwise_cfg=dict(custom_keys={'clip': dict(lr_mult=0.075)}),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2),
            val_cfg=dict(type='ValLoop'),
            test_cfg=dict(type='TestLoop'),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2),
                visualization=dict(type='SegVisualizationHook', draw=True, interval=1),
            ),
            custom_hooks=[
                dict(type='hyper_mm.VocabularyHook'),
                dict(type='hyper_mm.MergeAdaptersHook'),
                dict(type='hyper_mm.HyperbolicRadiusHook', interval=1),
            ],
            visualizer=dict(
                type='hyper_mm.SegLocalVisualizer',
                name=f'{data.name}',
                vis_backends=[dict(type='LocalVisBackend')],
            ),
            log_level='ERROR',
        )
    )
