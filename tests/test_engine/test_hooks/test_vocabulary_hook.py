"""Names of the vocabulary and of the data: compared in training, mapped in testing, saved."""

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmseg.registry import DATASETS  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from hyper_mm.engine.hooks.vocabulary_hook import differences  # noqa: E402
from hyper_mm.registry import HOOKS  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.open_vocab import NAMES  # noqa: E402
from tests.test_models.test_segmentors.test_open_vocab_runs import data  # noqa: E402, F401
from tests.test_models.test_segmentors.test_open_vocab_tta_model import (  # noqa: E402
    plain_config,
    with_tta,
)

pytestmark = pytest.mark.mmseg


@pytest.fixture(autouse=True)
def _scope():
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture
def start(data):  # noqa: F811
    """Starts a runner; its warnings are in its attribute ``warned``."""
    count = 0

    def build(tta=False, dataset_names=None, **changes):
        nonlocal count
        count += 1
        cfg = plain_config(data, f'run{count}')
        cfg.merge_from_dict(changes)
        cfg.train_cfg.update(max_iters=1, val_interval=2)
        cfg.default_hooks.checkpoint.interval = 1
        if dataset_names:
            cfg.test_dataloader.dataset.metainfo.classes = dataset_names
        runner = Runner.from_cfg(with_tta(cfg) if tta else cfg)
        runner.warned = []
        runner.logger.warning = lambda text, *args, **kwargs: runner.warned.append(text)
        return runner

    return build


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (NAMES[::-1], r"0: 'car' of the vocabulary, 'cat'; 1: 'sky' of the vocabulary, 'dog'"),
        (['zebra', *NAMES[1:]], r"1 places differ .*0: 'zebra' of the vocabulary, 'cat'\."),
        (NAMES[:4], r"has 4 classes, the data set 5.*4: nothing of the vocabulary, 'car'"),
    ],
)
@pytest.mark.parametrize('key', ['vocabulary', 'train_vocabulary'])
def test_training_with_other_names_is_an_error(start, names, message, key):
    with pytest.raises(ValueError, match=message):
        start(**{f'model.{key}': names}).train()


def test_training_with_other_words_for_the_same(start):
    names = ['Cat, kitten', 'puppy, dog', 'green_grass', 'sky', 'car']
    runner = start(**{'model.vocabulary': names})
    runner.train()
    assert not [text for text in runner.warned if 'vocabulary' in text]


@pytest.mark.parametrize('tta', [False, True])
@torch.no_grad()
def test_the_same_names_are_mapped_in_testing(start, tta):
    expected = start(tta).test()
    runner = start(tta, **{'model.vocabulary': NAMES[::-1]})
    seeded(runner)
    found = runner.test()
    model = runner.model.module if tta else runner.model
    assert list(model.vocabulary.names) == NAMES
    assert list(runner.visualizer.dataset_meta['classes']) == NAMES
    assert any("brought into the data set's order" in text for text in runner.warned)
    assert found.keys() == expected.keys()


def seeded(runner):
    torch.manual_seed(0)
    for parameter in runner.model.parameters():
        parameter.normal_(std=0.02)


@torch.no_grad()
def test_mapped_scores_are_those_of_the_right_order(start):
    scores = []
    for names in (NAMES, NAMES[::-1]):
        runner = start(**{'model.vocabulary': names})
        seeded(runner)
        scores.append(runner.test())
    assert scores[0] == scores[1]


def test_other_names_are_warned_of_in_testing(start):
    runner = start(**{'model.vocabulary': ['zebra', *NAMES[1:]]})
    runner.test()
    (text,) = (text for text in runner.warned if 'vocabulary has' in text)
    assert "0: 'zebra' of the vocabulary, 'cat'" in text and 'mean nothing' in text
    assert runner.model.vocabulary.names[0] == 'zebra'


def test_names_travel_with_the_weights(start):
    runner = start()
    runner.train()
    path = f'{runner.work_dir}/iter_1.pth'
    saved = torch.load(path, weights_only=False)['meta']['vocabulary']
    assert saved['names'] == NAMES and saved['synonyms'] == 'first'

    start(resume=True, load_from=path).train()
    names = NAMES[::-1]
    other = start(resume=True, load_from=path, **{'model.train_vocabulary': names})
    with pytest.raises(ValueError, match='trained with other names.*0: .car. of the vocabulary'):
        other.train()
    prompts = dict(_delete_=True, names=NAMES, templates=['a {}.'])
    other = start(load_from=path, **{'model.vocabulary': prompts})
    other.test()
    assert any('was trained with templates=' in text for text in other.warned)


def test_long_lists_are_cut():
    text = differences([f'{i}: a' for i in range(9)], 9, 9)
    assert '4: a and 4 more' in text and '5: a' not in text


TRAINED = [
    path
    for path in sorted((REPO / 'configs' / 'hyperclip').glob('*clip-mini*.py'))
    + sorted((REPO / 'configs' / 'hyperclip').glob('*coco-stuff164k.py'))
    if 'san' not in path.stem
]


@pytest.mark.parametrize('path', TRAINED, ids=lambda path: path.stem)
def test_configs_train_the_names_of_their_data(path):
    cfg = Config.fromfile(path)
    dataset = cfg.train_dataloader.dataset
    kind = DATASETS.get(dataset.type)
    classes = dataset.get('metainfo', {}).get('classes')
    if 'classes' in dataset:
        classes = Vocabulary.load(dataset.classes).names
    classes = classes or kind.METAINFO['classes']
    vocabulary = Vocabulary.load(cfg.model.get('train_vocabulary') or cfg.model.vocabulary)
    assert not vocabulary.differences(classes)
    assert 'hyper_mm.VocabularyHook' in [hook.type for hook in cfg.custom_hooks]


def test_other_models_are_refused():
    hook = HOOKS.build(dict(type='hyper_mm.VocabularyHook'))
    with pytest.raises(TypeError, match='OpenVocabSegmentor, got Identity'):
        hook.before_train(SimpleNamespace(model=torch.nn.Identity()))
