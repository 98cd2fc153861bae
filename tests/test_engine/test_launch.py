"""What the tools check before a run, and the dry run."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402

from hyper_mm.engine import launch  # noqa: E402
from tests.helpers import runs  # noqa: E402

REPO = Path(__file__).resolve().parents[2]
FOLDERS = [p for p in (REPO / 'configs').iterdir() if any(p.glob('metafile.yml'))]


def said(cfg, options=()):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        launch.warn_of_unread_keys(Config(cfg), options)
    return [str(w.message) for w in caught]


class TestUnreadKeys:
    def test_misspelled_option(self):
        (message,) = said(dict(optim_wraper=dict(lr=1)), ['optim_wraper.lr'])
        assert "'optim_wraper', did you mean 'optim_wrapper'?" in message

    def test_option_for_a_variable_of_the_file(self):
        (message,) = said(dict(data_root='data'), ['data_root'])
        assert "'data_root'" in message and 'train_dataloader.dataset.data_root' in message

    def test_misspelled_key_of_the_file(self):
        (message,) = said(dict(custom_hook=[], model={}))
        assert "'custom_hook' of the config, did you mean 'custom_hooks'?" in message

    def test_keys_that_are_read(self):
        options = ['model.neck.num_leaves', 'train_cfg.max_iters', 'resume']
        assert said(dict(model={}), options) == []

    @pytest.mark.parametrize('folder', sorted(FOLDERS), ids=lambda folder: folder.stem)
    def test_silent_for_our_configs(self, folder):
        path = min(folder.glob('*.py'))
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except (AssertionError, ModuleNotFoundError, FileNotFoundError) as error:
            pytest.skip(f'needs a library: {error}')
        assert said(cfg._cfg_dict.to_dict()) == []


def test_mixed_precision_without_an_accelerator(monkeypatch):
    cfg = Config(dict(optim_wrapper=dict(type='mmengine.AmpOptimWrapper'), default_scope='mmseg'))
    monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match="'AmpOptimWrapper' needs an accelerator.*BFloat16Optim"):
        launch.build_runner(cfg)
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    launch.check_optim_wrapper(cfg)


def test_first_batch():
    class Loader(list):
        dataset = 'the data set'

    first = launch.FirstBatch(Loader([1, 2, 3]))
    assert list(first) == [1] == list(first) and len(first) == 1
    assert first.dataset == 'the data set'


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    pytest.importorskip('mmseg')
    return runs.make_data(tmp_path_factory.mktemp('data'))


@pytest.mark.mmseg
@pytest.mark.parametrize(
    'by_epoch',
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=['iterations', 'epochs'],
)
def test_dry_run(root, tmp_path, by_epoch):
    changes = {}
    if by_epoch:
        loop = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=9, val_interval=3)
        changes = dict(
            train_cfg=loop, train_dataloader=dict(sampler=dict(type='DefaultSampler', shuffle=True))
        )
    config = runs.write_config(tmp_path / 'config', root, **changes)
    folder = tmp_path / 'work'
    options = ('--work-dir', folder, '--dry-run', '--cfg-options', 'optim_wraper.lr=3')
    text = runs.run(runs.TRAIN, config, *options, log=tmp_path / 'log')
    assert 'one batch of training and one of validation have passed' in text
    assert 'loss_hier_cont' in text and 'mIoU' in text
    assert "did you mean 'optim_wrapper'" in text
    assert not folder.exists()


@pytest.mark.mmseg
def test_dry_run_fails_where_training_would(root, tmp_path):
    config = runs.write_config(tmp_path / 'config', root, model=dict(neck=dict(in_channels=33)))
    run = runs.Run(runs.TRAIN, config, '--dry-run', log=tmp_path / 'log')
    code, text = run.wait()
    assert code != 0 and 'set in_channels=(32, 32) in the neck' in text


ORDERS = {
    'hyper_mm first': 'import hyper_mm; import mmengine.runner',
    'runner first': 'import mmengine.runner; import hyper_mm',
}


@pytest.mark.mmseg
@pytest.mark.parametrize('order', ORDERS)
def test_checkpoints_load_in_any_order_of_imports(order, tmp_path):
    """A config of a stock model, without a component of ours."""
    pytest.importorskip('mmseg')
    code = f"""
{ORDERS[order]}
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
torch.save(dict(message_hub=HistoryBuffer([1.0], [1])), 'a.pth')
CheckpointLoader.load_checkpoint('a.pth', 'cpu', None)  # as an inferencer does, given weights alone
Config.fromfile({str(REPO / 'configs/himapper/deit-t_ade20k.py')!r})
torch.save({{'norm.weight': torch.ones(2)}}, 'deit.pth')
found = CheckpointLoader.load_checkpoint('timm-vit+deit.pth', 'cpu', None)
assert list(found) == ['ln1.weight']
"""
    environment = {**os.environ, 'PYTHONPATH': str(REPO)}
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
