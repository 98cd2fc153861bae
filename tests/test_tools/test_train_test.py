"""Whole runs of tools/train.py and tools/test.py, and of the stock scripts on our configs."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmseg')

from mmengine.config import Config  # noqa: E402

from hyper_mm.engine import launch  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.runs import REPO, TEST, TRAIN  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

pytestmark = pytest.mark.mmseg
SITE = Path(importlib.util.find_spec('mmseg').origin).parent
STOCK = SITE / '.mim' / 'tools'


def tool(name: str):
    return load_tool(f'{name}.py')


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    return runs.make_data(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def config(tmp_path_factory, root) -> Path:
    return runs.write_config(tmp_path_factory.mktemp('config'), root)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, config) -> Path:
    """An unbroken run of six steps, with checkpoints at 2, 4, 6 and validation at 4."""
    folder = tmp_path_factory.mktemp('trained')
    args = ('--work-dir', folder, '--seed', 3, '--deterministic')
    runs.run(TRAIN, config, *args, log=folder / 'log')
    return folder


# resuming


def test_same_seed_same_weights_and_another_seed_others(trained, config, tmp_path):
    again, other = (
        runs.Run(
            TRAIN,
            *(config, '--work-dir', tmp_path / seed, '--seed', seed, '--deterministic'),
            log=tmp_path / f'{seed}.log',
        )
        for seed in '34'
    )
    assert again.wait()[0] == other.wait()[0] == 0
    expected = runs.weights(trained / 'iter_6.pth')
    assert runs.differing(expected, runs.weights(tmp_path / '3' / 'iter_6.pth')) == []
    assert runs.differing(expected, runs.weights(tmp_path / '4' / 'iter_6.pth'))


def test_killed_and_resumed_equals_unbroken(trained, config, root, tmp_path):
    kill = dict(default_hooks=dict(kill=dict(type='KillHook', step=5)))
    killing = runs.write_config(tmp_path / 'config', root, **kill)
    args = ('--work-dir', tmp_path, '--seed', 3, '--deterministic')
    code, text = runs.Run(TRAIN, killing, *args, log=tmp_path / 'killed.log').wait()
    assert code == -9, text[-2000:]
    assert not (tmp_path / 'iter_6.pth').exists()
    text = runs.run(TRAIN, config, *args, '--resume', log=tmp_path / 'resumed.log')
    assert 'Auto resumed' in text and 'iter_4.pth' in text
    unbroken, resumed = (runs.weights(folder / 'iter_6.pth') for folder in (trained, tmp_path))
    assert runs.differing(unbroken, resumed) == []
    assert runs.losses(tmp_path)[-2:] == runs.losses(trained)[-2:]


WORKERS = dict(train_dataloader=dict(num_workers=2))
EPOCHS = dict(
    train_cfg=dict(_delete_=True, by_epoch=True, max_epochs=3),
    train_dataloader=dict(sampler=dict(type='DefaultSampler')),
    default_hooks=dict(checkpoint=dict(interval=1, by_epoch=True)),
)


@pytest.mark.parametrize(
    'changes, middle, last',
    [
        pytest.param(dict(), 'iter_2.pth', 'iter_6.pth', id='iterations'),
        pytest.param(WORKERS, 'iter_2.pth', 'iter_6.pth', id='workers', marks=pytest.mark.slow),
        pytest.param(EPOCHS, 'epoch_1.pth', 'epoch_3.pth', id='epochs', marks=pytest.mark.slow),
    ],
)
def test_resume_without_a_seed_and_from_a_named_file(root, tmp_path, changes, middle, last):
    config = runs.write_config(tmp_path / 'config', root, **changes)
    for name, args in (('a', ()), ('b', ('--resume', tmp_path / 'a' / middle))):
        runs.run(TRAIN, config, '--work-dir', tmp_path / name, *args, log=tmp_path / f'{name}.log')
    unbroken, resumed = (runs.weights(tmp_path / name / last) for name in 'ab')
    assert runs.differing(unbroken, resumed) == []


@pytest.mark.slow
def test_without_the_hook_a_resumed_run_is_another(root, tmp_path):
    config = runs.write_config(tmp_path / 'config', root, custom_hooks=[])
    for name, args in (('a', ()), ('b', ('--resume', tmp_path / 'a' / 'iter_2.pth'))):
        args = ('--work-dir', tmp_path / name, '--seed', 3, *args)
        runs.run(TRAIN, config, *args, log=tmp_path / f'{name}.log')
    unbroken, resumed = (runs.weights(tmp_path / name / 'iter_6.pth') for name in 'ab')
    assert runs.differing(unbroken, resumed)


# several processes, precision


def test_two_processes_give_the_curve_of_one(root, tmp_path):
    one = runs.write_config(tmp_path / 'c1', root, **runs.with_batch_size(4))
    two = runs.write_config(tmp_path / 'c2', root, **runs.with_batch_size(2))
    env = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(runs.free_port()), WORLD_SIZE='2')
    args = (two, '--work-dir', tmp_path / 'two', '--seed', 0, '--launcher', 'pytorch')
    ranks = []
    for rank in '01':
        log = tmp_path / f'{rank}.log'
        ranks.append(runs.Run(TRAIN, *args, log=log, env=dict(env, RANK=rank, LOCAL_RANK=rank)))
    for rank in ranks:
        code, text = rank.wait()
        assert code == 0, text[-4000:]
    runs.run(TRAIN, one, '--work-dir', tmp_path / 'one', '--seed', 0, log=tmp_path / 'one.log')

    curve = [step['loss'] for step in runs.losses(tmp_path / 'one')]
    halves = [runs.losses(tmp_path / 'two', rank) for rank in range(2)]
    mean = [(a['loss'] + b['loss']) / 2 for a, b in zip(*halves)]
    assert len(curve) == 6 and 'loss_hier_cont' in halves[0][0]
    assert halves[0][0]['loss'] != halves[1][0]['loss']
    assert mean == pytest.approx(curve, abs=1e-5)
    single, double = (
        torch.load(tmp_path / name / 'iter_6.pth', weights_only=True)['state_dict']
        for name in ('one', 'two')
    )
    for name in single:
        torch.testing.assert_close(double[name], single[name], atol=1e-4, rtol=0, msg=name)


def test_no_parameter_is_without_gradient(config):
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    cfg = Config.fromfile(config)
    model = MODELS.build(cfg.model).train()
    inputs, samples = runs.random_batch(runs.SIZE, cfg.model.decode_head.num_classes)
    losses, _ = model.parse_losses(model.loss(inputs, samples))
    losses.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_amp_on_a_cpu_is_bfloat16(config, tmp_path):
    args = ('--work-dir', tmp_path, '--amp', '--cfg-options', 'train_cfg.max_iters=3')
    text = runs.run(TRAIN, config, *args, log=tmp_path / 'log')
    assert "type='hyper_mm.BFloat16OptimWrapper'" in text
    losses = runs.losses(tmp_path)
    assert len(losses) == 3
    assert all(math.isfinite(value) for step in losses for value in step.values())


def test_amp_on_a_gpu_is_mmengines_own(monkeypatch):
    train = tool('train')
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    wrapper = dict(type='OptimWrapper')
    train.use_amp(wrapper)
    assert wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')
    train.use_amp(wrapper)
    with pytest.raises(ValueError, match="optim_wrapper.type='OptimWrapper', got 'Other'"):
        train.use_amp(dict(type='Other'))


# testing


def test_test_writes_metrics_label_maps_and_pictures(trained, config, tmp_path):
    checkpoint = trained / 'iter_6.pth'
    maps, pictures = tmp_path / 'maps', tmp_path / 'pictures'
    args = ('--work-dir', tmp_path, '--out', maps, '--show-dir', pictures)
    text = runs.run(TEST, config, checkpoint, *args, log=tmp_path / 'log')
    assert 'mIoU' in text
    assert len(list(maps.glob('*.png'))) == 3
    assert len(list(pictures.rglob('*.png'))) == 3


def test_tta_and_metrics_file(trained, config, tmp_path):
    metrics = tmp_path / 'metrics.json'
    args = ('--work-dir', tmp_path, '--tta', '--out', metrics, '--out-item', 'metrics')
    text = runs.run(TEST, config, trained / 'iter_6.pth', *args, log=tmp_path / 'log')
    assert 'TestTimeAug' in text and 'mIoU' in metrics.read_text()


def test_stock_scripts_resume_and_test(trained, config, tmp_path):
    shutil.copy(trained / 'iter_4.pth', tmp_path)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_4.pth'))
    args = ('--work-dir', tmp_path, '--resume', '--cfg-options', 'randomness.seed=3')
    runs.run(STOCK / 'train.py', config, *args, log=tmp_path / 'train.log')
    unbroken, resumed = (runs.weights(folder / 'iter_6.pth') for folder in (trained, tmp_path))
    assert runs.differing(unbroken, resumed) == []
    args = ('--work-dir', tmp_path / 'test')
    text = runs.run(STOCK / 'test.py', config, tmp_path / 'iter_6.pth', *args, log=tmp_path / 'log')
    assert 'mIoU' in text


@pytest.mark.slow
def test_stock_get_flops(config, tmp_path):
    stock = (STOCK / 'analysis_tools' / 'get_flops.py').read_text()
    # mmseg 1.2.2 passes both, which mmengine 0.10 refuses whatever the config
    script = tmp_path / 'get_flops.py'
    script.write_text(stock.replace('        input_shape,\n        inputs=', '        inputs='))
    text = runs.run(script, config, '--shape', 64, 64, log=tmp_path / 'log')
    assert 'Params' in text


def test_stock_browse_dataset(config, tmp_path):
    script = STOCK / 'analysis_tools' / 'browse_dataset.py'
    args = ('--output-dir', tmp_path / 'pictures', '--not-show')
    runs.run(script, config, *args, log=tmp_path / 'log')
    assert len(list((tmp_path / 'pictures').rglob('*.jpg'))) == 8


# what users get wrong


def arguments(config: Path, *options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    load_tool('options.py').add_run_options(parser)
    return parser.parse_args([str(config), *options])


def test_missing_data_root_is_named_with_its_remedy(root, tmp_path, config):
    option = 'val_dataloader.dataset.data_root=nowhere'
    args = arguments(config, '--cfg-options', option)
    with pytest.raises(
        FileNotFoundError, match=r"val_dataloader\.dataset\.data_root='nowhere'.*--cfg"
    ):
        launch.load_config(args, ('train', 'val'))
    launch.load_config(args, ('test',))
    wrapped = dict(
        train_dataloader=dict(
            dataset=dict(
                _delete_=True,
                type='ConcatDataset',
                datasets=[dict(data_root='nowhere'), dict(type='RepeatDataset', dataset=dict())],
            )
        )
    )
    config = runs.write_config(tmp_path, root, **wrapped)
    with pytest.raises(FileNotFoundError, match=r'dataset\.datasets\.0\.data_root'):
        launch.load_config(arguments(config), ('train',))


def test_scope_must_be_given_and_installed(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text('model = dict()\n')
    with pytest.raises(ValueError, match='default_scope'):
        launch.load_config(arguments(config), ())
    config.write_text("default_scope = 'mmabsent'\n")
    with pytest.raises(ImportError, match='pip install mmabsent'):
        launch.load_config(arguments(config), ())


def test_errors_of_the_command_line_are_one_line(tmp_path, monkeypatch, capsys):
    config = tmp_path / 'config.py'
    config.write_text('model = dict()\n')
    metrics = ['none.pth', '--out-item', 'metrics']
    for name, args, words in (
        ('train', [], ''),
        ('test', ['none.pth'], ''),
        ('test', metrics, '--out-item metrics needs --out FILE'),
        ('test', [*metrics, '--out', 'scores.csv'], 'of .json, .*got scores.csv'),
    ):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', str(config), *args])
        with pytest.raises(SystemExit) as exit_info:
            tool(name).main()
        assert exit_info.value.code == 2
        assert re.search(f'error: .*{words}', capsys.readouterr().err.splitlines()[-1])


def test_options_of_training(config, tmp_path):
    train = tool('train')
    parser = train.build_parser()

    def applied(*options: str) -> Config:
        cfg = Config.fromfile(config)
        train.apply_options(cfg, parser.parse_args([str(config), *options]))
        return cfg

    assert not applied().resume
    assert applied('--resume').resume and applied('--resume').load_from is None
    assert applied('--resume', 'a.pth').load_from == 'a.pth'
    assert applied('--seed', '7', '--deterministic').randomness == dict(seed=7, deterministic=True)
    with pytest.raises(ValueError, match='base_batch_size'):
        applied('--auto-scale-lr')


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet', 'mmpretrain'])
def test_options_of_testing_mean_what_each_library_means(scope):
    test = tool('test')
    args = argparse.Namespace(show=False, show_dir='out', wait_time=0)
    pack = dict(type='Pack', meta_keys=('img_path',))
    cfg = Config(
        dict(
            default_scope=scope,
            default_hooks=dict(visualization=dict(type='Hook')),
            visualizer=dict(type='Visualizer'),
            model=dict(type='Model'),
            test_dataloader=dict(dataset=dict(pipeline=[dict(type='Load'), pack])),
        )
    )
    test.use_pictures(cfg, args)
    hook = cfg.default_hooks.visualization
    assert hook.get('draw') or hook.get('enable')
    assert 'out' in (cfg.visualizer.get('save_dir'), hook.get('test_out_dir'), hook.get('out_dir'))
    test.use_tta(cfg)
    assert cfg.model.type == test.TTA_MODELS[scope]['type'] and cfg.model.module.type == 'Model'
    load, augment = cfg.test_dataloader.dataset.pipeline
    flips, (last,) = augment.transforms
    assert load.type == 'Load' and [flip.prob for flip in flips] == [0.0, 1.0]
    assert last.meta_keys == ('img_path', 'flip', 'flip_direction')
    del cfg.default_hooks['visualization']
    with pytest.raises(ValueError, match='visualization'):
        test.use_pictures(cfg, args)


# slow: processes that import everything anew, other libraries


def python(*args: object, **env: str) -> str:
    done = subprocess.run(
        [str(arg) for arg in args],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=runs.TIMEOUT,
        env={**os.environ, **runs.ENVIRONMENT, **env},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_dist_scripts(root, tmp_path):
    config = runs.write_config(tmp_path / 'config', root, **runs.with_batch_size(2))
    env = dict(PORT=str(runs.free_port()), PYTHON=sys.executable)
    script = REPO / 'tools' / 'dist_train.sh'
    python('bash', script, config, 2, '--work-dir', tmp_path / 'run', '--seed', 0, **env)
    assert len(runs.losses(tmp_path / 'run', 1)) == 6
    script = REPO / 'tools' / 'dist_test.sh'
    checkpoint = tmp_path / 'run' / 'iter_6.pth'
    text = python('bash', script, config, checkpoint, 2, '--work-dir', tmp_path / 'test', **env)
    assert 'mIoU' in text


def test_slurm_scripts_ask_for_what_they_are_told(tmp_path):
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    path = f'{tmp_path}:/usr/bin:/bin'
    for name, files in (('train', ['c.py']), ('test', ['c.py', 'w.pth'])):
        script = REPO / 'tools' / f'slurm_{name}.sh'
        given = ('part', 'job', *files, '--work-dir', 'a b')
        out = python('bash', script, *given, PATH=path, GPUS='16', SRUN_ARGS='-x n1').splitlines()
        assert {'--partition=part', '--gres=gpu:8', '--ntasks=16', '--ntasks-per-node=8'} <= set(
            out
        )
        assert out[out.index('-x') + 1] == 'n1'
        assert out[-len(files) - 4 :] == [*files, '--launcher', 'slurm', '--work-dir', 'a b']


@pytest.mark.slow
def test_mim_trains_and_tests(config, tmp_path):
    pytest.importorskip('mim')
    mim = (sys.executable, '-m', 'mim')
    args = ('--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_iters=2')
    python(*mim, 'train', 'mmsegmentation', config, '--gpus', 0, *args)
    args = ('--checkpoint', tmp_path / 'iter_2.pth', '--gpus', 0, '--work-dir', tmp_path / 'test')
    assert 'mIoU' in python(*mim, 'test', 'mmsegmentation', config, *args)


def test_a_head_that_is_none_predicts_no_masks():
    """``--cfg-options model.roi_head.mask_head=None``, with which the averages are possible."""
    has_masks = load_tool('test.py').has_masks
    assert has_masks(dict(roi_head=dict(mask_head=dict(type='FCNMaskHead'))))
    assert has_masks([dict(panoptic_head=dict())])
    assert not has_masks(dict(roi_head=dict(mask_head=None, bbox_head=dict(type='BBoxHead'))))


@pytest.mark.slow
@pytest.mark.mmdet
def test_detection(tmp_path):
    pytest.importorskip('mmdet')
    config = runs.write_detection_config(tmp_path)
    text = runs.run(TRAIN, config, '--work-dir', tmp_path / 'run', log=tmp_path / 'train.log')
    assert 'loss_mask' in text
    out = tmp_path / 'predictions.pkl'
    args = (config, tmp_path / 'run' / 'iter_2.pth', '--work-dir', tmp_path / 'test')
    options = ('--out', out, '--show-dir', 'pictures')
    runs.run(TEST, *args, *options, log=tmp_path / 'test.log')
    assert len(pickle.loads(out.read_bytes())) == 2
    assert len(list((tmp_path / 'test').rglob('pictures/*'))) == 2
    # mmdet's test-time augmentation knows no masks
    boxes = ('model.roi_head.mask_head=None', 'test_evaluator.metric=bbox')
    text = runs.run(TEST, *args, '--tta', '--cfg-options', *boxes, log=tmp_path / 'tta.log')
    assert 'TestTimeAug' in text and 'bbox_mAP' in text


@pytest.mark.slow
@pytest.mark.mmpretrain
def test_classification(tmp_path):
    pytest.importorskip('mmpretrain')
    config = runs.write_classification_config(tmp_path)
    runs.run(TRAIN, config, '--work-dir', tmp_path / 'run', log=tmp_path / 'train.log')
    out, pictures = tmp_path / 'predictions.pkl', tmp_path / 'pictures'
    args = (config, tmp_path / 'run' / 'epoch_1.pth', '--work-dir', tmp_path / 'test')
    text = runs.run(TEST, *args, '--out', out, '--show-dir', pictures, log=tmp_path / 'test.log')
    assert 'accuracy/top1' in text
    # mmpretrain names pictures after the files, which are called the same in each class
    assert len(pickle.loads(out.read_bytes())) == 12 and list(pictures.rglob('*.png'))
    assert 'TestTimeAug' in runs.run(TEST, *args, '--tta', log=tmp_path / 'tta.log')
