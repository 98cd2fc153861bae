"""Whole runs of the open-vocabulary segmentor: training, testing, pictures, cost."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

import mmcv  # noqa: E402
from mmengine.analysis import get_model_complexity_info  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, NAMES, WINDOWS, config  # noqa: E402

pytestmark = pytest.mark.mmseg


@pytest.fixture
def data(tmp_path):
    """Four images of two colours, whose label is the colour; class 4 is ignored in training."""
    generator = np.random.default_rng(0)
    for index in range(4):
        image = generator.integers(0, 80, (40, 56, 3), dtype=np.uint8)
        label = np.zeros((40, 56), np.uint8)
        image[:, 20:] += 120
        label[:, 20:] = 4
        mmcv.imwrite(image, str(tmp_path / 'images' / f'{index}.jpg'))
        mmcv.imwrite(label, str(tmp_path / 'labels' / f'{index}.png'))
    return tmp_path


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
            model=config(adapter=HYPERCLIP, test_cfg=WINDOWS, **model),
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


def test_training_and_testing(data):
    cfg = run_config(data)
    runner = Runner.from_cfg(cfg)
    before = {n: p.clone() for n, p in runner.model.named_parameters()}
    runner.train()
    changed = {
        n for n, p in runner.model.named_parameters() if not torch.equal(p.cpu(), before[n].cpu())
    }
    assert changed and all(runner.model.get_parameter(n).requires_grad for n in changed)
    lrs = {g['lr'] for g in runner.optim_wrapper.optimizer.param_groups}
    assert lrs == {1e-2, 7.5e-4}
    scores = runner.message_hub.get_scalar('val/mIoU').current()
    assert 0 <= scores <= 100

    cfg.load_from = str(data / 'work' / 'iter_2.pth')
    cfg.visualizer.name += '_test'
    found = Runner.from_cfg(cfg).test()
    assert found['mIoU'] == pytest.approx(scores, abs=1e-2)

    cfg.model.vocabulary = ['zebra', 'giraffe']
    cfg.visualizer.name += '_names'
    runner = Runner.from_cfg(cfg)
    drawn, draw = [], runner.visualizer.add_datasample

    def record(*args, **kwargs):
        drawn.append(runner.visualizer.dataset_meta['classes'])
        draw(*args, **kwargs)

    runner.visualizer.add_datasample = record
    runner.test()
    assert drawn == [['zebra', 'giraffe']] * 4
    pictures = [p.name for p in (data / 'work').rglob('*.png') if 'vis_image' in p.parts]
    assert len(pictures) >= 4
    assert {'hyperclip_radius_1.png', 'hyperclip_radius_2.png'} <= {*pictures}


def test_cost_is_counted():
    """What mmseg's get_flops.py does (that script itself fails on mmengine 0.10 with any model)."""
    model = MODELS.build(config(adapter=HYPERCLIP)).eval()
    found = get_model_complexity_info(
        model, inputs=torch.randn(1, 3, 32, 32), show_table=False, show_arch=False
    )
    assert found['flops'] > 1e6
    assert found['params'] == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.01)
