"""Runs of prompted CLIP on drawn folders: classes from the data, averaged prompts, schedules."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from mmengine.hooks import Hook  # noqa: E402
from mmengine.registry import DefaultScope, init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.engine.hooks.dataset_vocabulary_hook import DatasetVocabularyHook  # noqa: E402
from hyper_mm.engine.hooks.prompt_averaging_hook import (  # noqa: E402
    PromptAveragingHook,
    gaussian_weights,
)

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


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    for name in ('ant', 'bee', 'cat', 'dog', 'elk'):
        for i in range(4):
            picture = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            mmcv.imwrite(picture, str(root / name / f'{i}.png'))
    return root


@pytest.fixture(autouse=True)
def _scope():
    """Leaves no default scope behind for other tests."""
    yield
    DefaultScope._instance_dict.clear()


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
        head=dict(type='hyper_mm.LatHAdapterHead', num_classes=3, embed_dims=16),
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


def test_run(images, tmp_path):
    runner, recorder = build(images, tmp_path / 'whole')
    runner.train()
    # trained on three classes, validated on the other two
    assert set(recorder.classes) == {2}
    cosine = [0.0035 * 0.5 * (1 + np.cos(np.pi * e / EPOCHS)) for e in range(EPOCHS)]
    assert recorder.rates == pytest.approx([1e-5, *cosine[:-1]])  # Dassl counts anew
    weights = gaussian_weights(EPOCHS, 3.0, 1.5)
    expected = sum(w * c for w, c in zip(weights, recorder.contexts))
    torch.testing.assert_close(runner.model.prompts.context.detach(), expected)
    assert not torch.allclose(expected, recorder.contexts[-1], atol=1e-7, rtol=0)

    again, _ = build(
        images, tmp_path / 'resumed', resume=True, load_from=str(tmp_path / 'whole/epoch_2.pth')
    )
    again.train()
    assert torch.equal(again.model.prompts.context, runner.model.prompts.context)


@pytest.mark.parametrize('head', [False, True])
def test_one_test_of_both_halves_equals_two(images, tmp_path, head):
    def scores(subsample, halves=False):
        options = dict(
            test_dataloader=loader(images, 'train', subsample, test_mode=True),
            test_cfg=dict(),
            test_evaluator=dict(type='Accuracy' if not halves else 'hyper_mm.BaseNewAccuracy'),
            custom_hooks=[dict(type='hyper_mm.DatasetVocabularyHook', halves=halves)],
        )
        runner, _ = build(images, tmp_path / subsample, **options)
        if not head:
            runner.model.head = None
        return runner.test()

    base, new = (scores(part)['accuracy/top1'] for part in ('base', 'new'))
    found = scores('all', halves=True)
    assert found['base_new/base'] == pytest.approx(base)
    assert found['base_new/new'] == pytest.approx(new)
    assert found['base_new/HM'] == pytest.approx(2 * base * new / max(base + new, 1e-9))


def test_vocabulary_of_the_data_set():
    calls = []
    model = SimpleNamespace(
        set_vocabulary=lambda *args, **options: calls.append((args, options)),
        templates=['a {}.'],
    )

    def runner(**metainfo):
        loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=metainfo))
        names = ('train_dataloader', 'val_dataloader', 'test_dataloader')
        return SimpleNamespace(model=model, **dict.fromkeys(names, loader))

    hook = DatasetVocabularyHook(template=True, halves=True)
    given = runner(classes=('ant', 'bee'), template='{} texture.')
    hook.before_train_epoch(given)
    hook.before_val_epoch(given)
    hook.before_test_epoch(given)
    DatasetVocabularyHook().before_test_epoch(given)
    own = Vocabulary.of_dataset(['ant', 'bee'], ['{} texture.'])
    both = dict(halves=True)
    assert calls[:3] == [((own,), x) for x in ({}, both, both)]
    assert calls[3] == ((own.with_templates(['a {}.']),), {})
    with pytest.raises(ValueError, match='names no classes'):
        DatasetVocabularyHook().before_train_epoch(runner())
    with pytest.raises(ValueError, match='names no template'):
        hook.before_train_epoch(runner(classes=('ant', 'bee')))


def test_weights_of_epochs():
    weights = gaussian_weights(20, 15.0, 1.0)
    assert sum(weights) == pytest.approx(1)
    assert max(weights) == weights[14]
    assert weights[15] / weights[14] == pytest.approx(np.exp(-0.5))
    assert sum(gaussian_weights(3, 45.0, 0.5)) == pytest.approx(1)  # nothing underflows


def test_bad_use(images, tmp_path):
    with pytest.raises(ValueError, match='std'):
        PromptAveragingHook(std=0.0)
    runner, _ = build(images, tmp_path / 'bad')
    with pytest.raises(ValueError, match='no parameter'):
        PromptAveragingHook(part='clip').after_train_epoch(runner)


def test_names_of_training_travel_with_the_weights(images, tmp_path):
    options = dict(train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=5))
    build(images, tmp_path / 'names', **options)[0].train()
    path = str(tmp_path / 'names' / 'epoch_1.pth')
    saved = torch.load(path, weights_only=False)['meta']['vocabulary']
    assert saved['names'] == ['ant', 'bee', 'cat'] and saved['whole']
    other = loader(images, 'train', 'new', shots=2)
    runner, _ = build(
        images, tmp_path / 'other', train_dataloader=other, resume=True, load_from=path, **options
    )
    with pytest.raises(ValueError, match="other names.*0: 'dog' of the vocabulary, 'ant'"):
        runner.train()
