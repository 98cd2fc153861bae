"""The runner of CoOp's protocols: configs, tables, and whole runs on drawn folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mmcv
import numpy as np
import pytest

pytest.importorskip('mmpretrain')
pytest.importorskip('open_clip')
pytestmark = pytest.mark.mmpretrain

from hyper_mm.engine import runs  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

TINY = """
_base_ = {base!r}
model = dict(
    clip=dict(
        _delete_=True,
        model=dict(
            embed_dim=16,
            vision_cfg=dict(image_size=16, layers=2, width=16, head_width=8, patch_size=8),
            text_cfg=dict(
                context_length=77, vocab_size=49408, width=16, heads=2, layers=2))),
    prompts=dict(depth=2), head=dict(embed_dims=16))
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, batch_size=2, dataset=dict(pipeline=pipeline))
test_dataloader = dict(num_workers=0, dataset=dict(pipeline=pipeline))
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture
def tool():
    return load_tool('few_shot.py')


@pytest.fixture
def images(tmp_path):
    root, draw = tmp_path / 'shapes', np.random.default_rng(0)
    for name in ('ant', 'bee', 'cat', 'dog', 'elk'):
        for i in range(4):
            picture = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            mmcv.imwrite(picture, str(root / name / f'{i}.png'))
    return root


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    base = REPO / 'configs' / 'lathadapter/lathadapter_maple_vit-b16_caltech101.py'
    path.write_text(TINY.format(base=str(base)))
    return path


def test_table(tool):
    results = {
        (name, 16, half, seed): value + seed
        for name, values in dict(a=(80.0, 60.0), b=(90.0, 20.0)).items()
        for half, value in zip(('base', 'new'), values)
        for seed in (1, 3)
    }
    rows = tool.table('base2new', results)
    assert rows[0] == ['shots', 'set', 'base', 'new', 'HM']
    assert rows[1] == [16, 'a', 82.0, 62.0, pytest.approx(2 * 82 * 62 / 144)]
    assert rows[3] == [16, 'average', 87.0, 42.0, pytest.approx(2 * 87 * 42 / 129)]
    assert '| 16 | a | 82.00 | 62.00 | 70.61 |' in tool.markdown(rows)
    nothing = tool.table('base2new', {('a', 16, half, 1): 0.0 for half in ('base', 'new')})
    assert '| 16 | a | 0.00 | 0.00 | 0.00 |' in tool.markdown(nothing)


def test_table_of_shots(tool):
    rows = tool.table('few_shot', {('a', k, 'all', 1): 10.0 * k for k in (4, 1)})
    assert rows[1:] == [[k, n, 10.0 * k] for k in (1, 4) for n in ('a', 'average')]


def arguments(config, tmp_path, protocol, *more):
    return [
        '--method', str(config), '--protocol', protocol, '--work-dir', str(tmp_path / 'work'),
        '--seeds', '1', '--threads', '1', *map(str, more),
    ]  # fmt: skip


def test_run_config(tool, config, images, tmp_path):
    args = tool.parse_args(
        arguments(config, tmp_path, 'base2new', '--datasets', images, '--shots', 1)
    )
    cfg = tool.run_config(args, str(images), str(images), 'new', 1, 3)
    assert cfg.model.head.num_classes == 3
    train, test = cfg.train_dataloader.dataset, cfg.test_dataloader.dataset
    assert (train.shots, train.seed, train.subsample) == (1, 3, 'base')
    assert (test.name, test.subsample, test.split) == ('folders', 'new', 'test')
    assert cfg.randomness.seed == 3


def test_methods_are_configs(tool, tmp_path, capsys):
    for method in ('maple', 'promptsrc', 'lathadapter_maple', 'lathadapter_promptsrc'):
        args = tool.parse_args(['--method', method, '--protocol', 'few_shot'])
        assert tool.config_of(args, 'dtd').is_file() and len(args.datasets) == 11
    for wrong in (['--method', 'mapel'], ['--method', 'maple', '--datasets', 'mnist']):
        with pytest.raises(SystemExit):
            tool.parse_args([*wrong, '--protocol', 'few_shot'])
    assert 'no such config' in capsys.readouterr().err


def small(tool, tmp_path, method, *more):
    return tool.parse_args(
        [f'--method={method}', '--protocol=few_shot', '--backbone=clip-mini', *more]
        + ['--datasets', 'omniglot', f'--work-dir={tmp_path}']
    )


def test_sets_with_configs_of_their_own(tool, tmp_path):
    args = small(tool, tmp_path, 'maple')
    cfg = tool.run_config(args, 'omniglot', 'omniglot', 'all', 4, 2)
    assert cfg.train_dataloader.dataset.data_root.endswith('omniglot/train')
    assert cfg.train_dataloader.dataset.shots == 4 and cfg.val_dataloader is None
    with pytest.raises(SystemExit):
        small(tool, tmp_path, 'maple', '--steps', '0')


def test_steps_are_turned_into_epochs(tool, tmp_path):
    args = small(tool, tmp_path, 'promptsrc')
    cfg = tool.run_config(args, 'omniglot', 'omniglot', 'all', 16, 1)
    std = cfg.custom_hooks[-1].std / cfg.train_cfg.max_epochs
    tool.set_steps(cfg, 150, 80)  # five steps an epoch
    assert cfg.train_cfg.max_epochs == 30
    assert [x.by_epoch for x in cfg.param_scheduler] == [False, False]
    assert cfg.param_scheduler[0].end == 7 and cfg.param_scheduler[1].T_max == 150
    assert cfg.param_scheduler[1].begin == 6
    assert cfg.default_hooks.checkpoint.interval == 30
    assert cfg.custom_hooks[-1].std == pytest.approx(30 * std)
    tool.set_steps(cfg, 150, 5)
    assert cfg.train_cfg.max_epochs == 150


def test_recipes_of_the_protocols(tool, tmp_path):
    def config(method, protocol, *more):
        args = tool.parse_args([f'--method={method}', f'--protocol={protocol}', *more])
        args.cfg_options = {'model.head': None, **(args.cfg_options or {})}
        return tool.run_config(args, 'dtd', 'dtd', 'all', 16, 1)

    cfg = config('promptsrc', 'few_shot')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 50
    assert (cfg.custom_hooks[-1].mean, cfg.custom_hooks[-1].std) == (45.0, 5.0)
    cfg = config('maple', 'cross_dataset', '--source=dtd')
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].T_max == 2
    assert cfg.model.prompts.depth == 3 and cfg.optim_wrapper.optimizer.lr == 0.0026
    assert 0.0026 * cfg.param_scheduler[0].factor == pytest.approx(1e-5)
    cfg = config('maple', 'cross_dataset', '--source=dtd', '--cfg-options', 'model.prompts.depth=5')
    assert cfg.model.prompts.depth == 5
    cfg = config('promptsrc', 'base2new')
    assert cfg.train_cfg.max_epochs == 20 and cfg.custom_hooks[-1].mean == 15.0


@pytest.fixture
def commands(tool, monkeypatch):
    """What would have run; each run leaves the files that a real one leaves."""
    found = []

    def run(script, arguments, log, threads, preload, lock):
        found.append(script.name)
        if script.name == 'train.py':
            for epoch in (1, 2):
                (log.parent / f'epoch_{epoch}.pth').write_text(f'{log.parent}')
            (log.parent / 'last_checkpoint').write_text(str(log.parent / 'epoch_2.pth'))
        else:
            assert Path(arguments[1]).is_file()
            out = arguments[arguments.index('--out') + 1]
            out.write_text(json.dumps({'accuracy/top1': 50.0 + len(found), 'spread': 0.5}))

    monkeypatch.setattr(runs, 'run_script', run)
    return found


def test_accuracies_train_once_and_resume(tool, commands, tmp_path):
    args = small(tool, tmp_path, 'promptkd', '--teacher=promptsrc', '--discard')
    tests = [('omniglot', 'base'), ('omniglot', 'new')]
    for _ in range(2):  # the second time nothing is left to do
        found = tool.accuracies(args, 'omniglot', tests, 1, 1)
        assert found == [dict(accuracy=53.0), dict(accuracy=54.0)]
    assert commands == ['train.py', 'train.py', 'test.py', 'test.py']
    job = tool.training(args, 'omniglot', 1, 1)
    assert not list(job.folder.glob('*.pth'))
    assert job.teacher.is_file() and job.config.model.teacher_checkpoint == str(job.teacher)
    assert job.config.train_dataloader.dataset.shots is None  # all images, without labels
    own = tool.teacher_args(args)
    assert job.teacher.parent == tool.training(own, 'omniglot', 1, 1).folder
    args.term = True
    (found,) = tool.accuracies(args, 'omniglot', [('omniglot', 'all')], 1, 1)
    assert commands[4:] == ['train.py', 'test.py', 'hyperbolic_term.py']
    assert found['accuracy'] == 56.0 and found['term']['spread'] == 0.5


@pytest.mark.parametrize(
    'more', [['--steps=7'], ['--cfg-options', 'optim_wrapper.optimizer.lr=0.5'], ['--shots=2']]
)
def test_results_of_other_options_are_not_taken(tool, commands, tmp_path, more, monkeypatch):
    monkeypatch.setattr(tool, 'size_of', lambda scope, config: (80, 5))
    tests = [('omniglot', 'all')]
    first, second = small(tool, tmp_path, 'maple'), small(tool, tmp_path, 'maple', *more)
    shots = second.shots[0]
    assert tool.accuracies(first, 'omniglot', tests, 16, 1) == [dict(accuracy=52.0)]
    assert tool.accuracies(second, 'omniglot', tests, shots, 1) == [dict(accuracy=54.0)]
    assert tool.accuracies(first, 'omniglot', tests, 16, 1) == [dict(accuracy=52.0)]
    assert commands == ['train.py', 'test.py'] * 2


def test_folders_of_one_name_are_two_sets(tool, config, images, commands, tmp_path):
    other = tmp_path / 'other' / images.name
    other.parent.mkdir()
    images.rename(other)
    shutil.copytree(other, images)
    found = []
    for folder in (images, other):
        given = arguments(config, tmp_path, 'few_shot', '--datasets', folder, '--shots', 1)
        args = tool.parse_args(given)
        found += tool.accuracies(args, str(folder), [(str(folder), 'all')], 1, 1)
    assert [part['accuracy'] for part in found] == [52.0, 54.0]


def test_zero_shot_is_not_trained(tool, commands, tmp_path):
    args = small(tool, tmp_path, 'zeroshot')
    found = tool.accuracies(args, 'omniglot', [('omniglot', 'all')], 1, 1)
    assert found == [dict(accuracy=51.0)]
    assert commands == ['test.py']


@pytest.mark.slow
def test_run_and_resume(tool, config, images, tmp_path, monkeypatch):
    command = arguments(config, tmp_path, 'base2new', '--datasets', images, '--shots', 1)
    tool.main(command)
    out = tmp_path / 'work' / 'tiny' / 'base2new'
    text = (out / 'table.md').read_text()
    assert 'shapes' in text and 'average' in text
    assert (out / 'table.csv').is_file() and (out / 'table.png').is_file()
    monkeypatch.setattr(runs, 'run_script', None)  # nothing is run again
    tool.main([*command, '--json', str(tmp_path / 'single.json')])
    assert (out / 'table.md').read_text() == text
    single = json.loads((tmp_path / 'single.json').read_text())
    assert [(part['half'], part['seed']) for part in single] == [('base', 1), ('new', 1)]
