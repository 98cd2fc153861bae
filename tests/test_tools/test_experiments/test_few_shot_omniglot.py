"""The table of few-shot classification: budgets, configs, and what is kept."""

from __future__ import annotations

import math

import pytest

pytest.importorskip('mmpretrain')

from PIL import Image  # noqa: E402

from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def tool():
    return load_tool('experiments/few_shot_omniglot.py')


@pytest.fixture
def data(tmp_path, monkeypatch):
    for split, number in (('train', 7), ('val', 5), ('test', 5)):
        for character in range(number):
            folder = tmp_path / 'omniglot_few_shot' / split / f'Greek_character{character:02}'
            folder.mkdir(parents=True)
            for i in range(20):
                Image.new('L', (28, 28), 30 * character + i).save(folder / f'{i}.png')
    monkeypatch.setenv('HYPER_MM_DATA', str(tmp_path))


def test_equal_images_and_equal_tests(tool, data, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path), '--episodes', '3'])
    tests = []
    for arm in tool.ARMS:
        cfg = tool.build_config(arm, 5, 1, 1e-3, 9, 'test', args)
        episode = cfg.train_dataloader.dataset
        images = cfg.train_dataloader.batch_size * 5 * (episode.k_shot + episode.n_query)
        assert images == 4 * 5 * 10 and episode.dataset.data_prefix == 'train'
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 9
        plain = tool.plain_config(cfg)
        assert plain.train_dataloader.batch_size == images
        assert plain.model.head.num_classes == 7
        assert plain.model.backbone == cfg.model.model.backbone
        assert cfg.model.model.head.get('num_classes') in (5, None)  # the test is unchanged
        tests.append((cfg.test_dataloader, cfg.test_cfg))
    assert all(test == tests[0] for test in tests)
    assert tests[0][0].dataset.dataset.data_prefix == 'test'


def test_runs_are_made_once_and_tabulated(tool, data, tmp_path, monkeypatch):
    made = []

    def fake(arm, cfg):
        made.append((arm, cfg.optim_wrapper.optimizer.lr, cfg.test_dataloader.dataset.k_shot))
        seed, rate = cfg.randomness.seed, cfg.optim_wrapper.optimizer.lr
        best = 10 if (rate == 3e-3) == (arm == 'ProtoNet') else 0
        return dict(accuracy=50.0 + best + seed, seconds=1.0)

    monkeypatch.setattr(tool, 'train_and_test', fake)
    arms = ['plain, prototypes', 'ProtoNet']
    words = ['--work-dir', str(tmp_path), '--shots', '1', '--rates', '1e-3', '3e-3', '--arms']
    args = tool.parse_args([*words, *arms])
    results, tuned = tool.run_all(args)
    assert len(made) == 2 * (2 + 3) and tool.run_all(args) == (results, tuned)
    assert results['ProtoNet', 1, 2] == dict(accuracy=62.0, seconds=1.0, rate=3e-3)
    text = tool.report(args, results, tuned)
    assert '| ProtoNet | 0.003 | 61.00 ± 0.58 | 0.00 ± 0.00 | 1 |' in text
    assert '| plain, prototypes | 1 | 60.00 | 50.00 |' in text
    other = tool.parse_args([*words, *arms, '--minutes', '1e-9', '--iterations', '7'])
    found, tuned = tool.run_all(other)
    assert not found and all(map(math.isnan, tuned.values()))
    with pytest.raises(SystemExit):
        tool.parse_args(['--episodes', '0'])


@pytest.mark.parametrize('arm', ['plain, fine-tuned', 'ProtoNet', 'random weights, prototypes'])
def test_an_arm_trains_and_is_tested(tool, data, tmp_path, arm):
    args = tool.parse_args(['--work-dir', str(tmp_path), '--episodes', '2'])
    cfg = tool.build_config(arm, 1, 0, 1e-3, 2, 'test', args)
    assert 0 <= tool.train_and_test(arm, cfg)['accuracy'] <= 100
