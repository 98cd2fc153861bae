"""Runs of prompted CLIP on drawn folders."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')

from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

EPOCHS = 4


TOWERS = dict(
    embed_dim=16,
    quick_gelu=True,
    vision_cfg=dict(image_size=16, layers=2, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=16, heads=2, layers=2),
)


class Recorder(Hook):
    """Prompts after each epoch, learning rates, and numbers of classes."""

    priority = 'HIGH'

    def __init__(self):
        self.contexts, self.rates, self.classes = [], [], []

    def after_train_epoch(self, runner):
        self.contexts.append(runner.model.prompts.context.detach().clone())
        self.rates += runner.optim_wrapper.get_lr()['lr'][:1]

    def after_val_iter(self, runner, *args, **kwargs):
        self.classes.append(len(runner.model.vocabulary))


def loader(images, split, subsample, **options):
    dataset = dict(
        type='hyper_mm.CoOpFewShotDataset',
        name='folders',
        data_root=str(images),
        split=split,
        subsample=subsample,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
        **options,
    )
    sampler = dict(type='DefaultSampler', shuffle=split == 'train')
    collate = dict(type='default_collate')
    return dict(batch_size=2, num_workers=0, sampler=sampler, collate_fn=collate, dataset=dataset)


def build(images, work_dir, epochs=EPOCHS, **options):
    init_default_scope('mmpretrain')
    model = dict(
        type='hyper_mm.PromptedCLIP',
        clip=dict(model=TOWERS),
        prompts=dict(type='MaPLe', depth=2),
        head=dict(type='hyper_mm.LatHAdapterHead', num_classes=3, dim=16),
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.0] * 3, std=[60.0] * 3),
    )
    config = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader(images, 'train', 'base', shots=2),
        val_dataloader=loader(images, 'test', 'new'),
        val_evaluator=dict(type='Accuracy'),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0035)),
        param_scheduler=[
            dict(type='ConstantLR', factor=1e-5 / 0.0035, by_epoch=True, begin=0, end=2),
            dict(
                type='CosineAnnealingLR',
                T_max=EPOCHS,
                eta_min=0.0,
                by_epoch=True,
                begin=1,
                end=10000,
            ),
        ],
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1),
        val_cfg=dict(),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=[
            dict(type='hyper_mm.ExactResumeHook'),
            dict(type='hyper_mm.DatasetVocabularyHook'),
            dict(type='hyper_mm.PromptAveragingHook', mean=3.0, std=1.5),
        ],
        randomness=dict(seed=0),
        default_scope='mmpretrain',
        experiment_name=work_dir.name,
    )
    runner = Runner(**copy.deepcopy({**config, **options}))
    recorder = Recorder()
    runner.register_hook(recorder, priority='HIGH')
    return runner, recorder
