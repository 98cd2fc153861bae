"""Classes and templates from the data set, in runs of prompted CLIP on drawn folders."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = [pytest.mark.mmpretrain, pytest.mark.usefixtures('no_scope')]


from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.engine.hooks.dataset_vocabulary_hook import DatasetVocabularyHook  # noqa: E402
from tests.helpers.prompt_runs import build, loader  # noqa: E402


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
