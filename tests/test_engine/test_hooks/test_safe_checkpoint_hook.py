"""A run can be resumed whenever it was killed."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.config import Config  # noqa: E402
from mmengine.hooks import CheckpointHook, Hook  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmengine.runner.checkpoint import find_latest_checkpoint  # noqa: E402

from hyper_mm.engine.hooks.safe_checkpoint_hook import (  # noqa: E402
    SafeCheckpointHook,
    is_whole,
    mend_last_checkpoint,
)
from tests.conftest import REPO  # noqa: E402


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(20_000))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=(self.weight - 1).square().mean())


class FullDisk(Hook):
    """Lets the write of a checkpoint fail in the middle: by an error, or by a signal that kills."""

    priority = 'VERY_HIGH'

    def __init__(self, step, kill=False):
        self.step, self.kill = step, kill

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx + 1 == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL if self.kill else signal.SIG_IGN)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))


@pytest.fixture
def unlimited():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def runner(folder, hooks=(), kept=1, kind='hyper_mm.SafeCheckpointHook', **options):
    checkpoint = dict(type=kind, interval=2, by_epoch=False, max_keep_ckpts=kept)
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=[torch.zeros(1)] * 4, sampler=dict(type='InfiniteSampler'), batch_size=1
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=100),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=checkpoint),
        custom_hooks=list(hooks),
        experiment_name=f'{folder.name}{len(list(folder.glob("*")))}',
        **options,
    )


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


@pytest.mark.parametrize('kept', [1, 2])
def test_disk_full_while_a_checkpoint_is_written(tmp_path, unlimited, kept):
    with pytest.raises(OSError, match='File too large'):
        runner(tmp_path, [FullDisk(4)], kept).train()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert names(tmp_path) == ['iter_2.pth'] and not list(tmp_path.glob('.*.part'))
    assert Path(find_latest_checkpoint(str(tmp_path))).name == 'iter_2.pth'
    resumed = runner(tmp_path, kept=kept, resume=True)
    resumed.train()
    assert resumed.iter == 6
    assert names(tmp_path) == [f'iter_{step}.pth' for step in (2, 4, 6)][-kept:]


def _killed(folder):
    runner(folder, [FullDisk(4, kill=True)]).train()


def test_killed_while_a_checkpoint_is_written(tmp_path):
    pid = os.fork()  # this process has what it takes seconds to load
    if not pid:
        try:
            _killed(tmp_path)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGXFSZ
    assert names(tmp_path) == ['iter_2.pth']
    resumed = runner(tmp_path, resume=True)
    resumed.train()
    assert resumed.iter == 6 and names(tmp_path) == ['iter_6.pth']


def test_mmengines_hook_has_nothing_left_there(tmp_path, unlimited):
    """What this is for; where it is mended there, the hook may go."""
    with pytest.raises(OSError, match='File too large'):
        runner(tmp_path, [FullDisk(4)], kind='CheckpointHook').train()
    assert names(tmp_path) == []


def test_what_it_keeps_is_what_mmengine_keeps(tmp_path):
    kept = {}
    for kind in ('CheckpointHook', 'hyper_mm.SafeCheckpointHook'):
        folder = tmp_path / kind
        folder.mkdir()
        runner(folder, kept=2, kind=kind).train()
        state = torch.load(folder / 'iter_6.pth', weights_only=False)
        info = state['message_hub']['runtime_info']
        kept[kind] = names(folder), info['keep_ckpt_ids'], Path(info['last_ckpt']).name
        last = Path((folder / 'last_checkpoint').read_text())
        assert last == folder / 'iter_6.pth'
    assert kept['CheckpointHook'] == kept['hyper_mm.SafeCheckpointHook']
    assert kept['CheckpointHook'][0] == ['iter_4.pth', 'iter_6.pth']


@pytest.mark.parametrize('broken', ['', 'iter_9.pth', 'half'])
def test_a_broken_name_is_mended_before_a_run_goes_on(tmp_path, broken):
    runner(tmp_path, kept=3).train()
    if broken == 'half':  # of a run without this package
        whole = (tmp_path / 'iter_6.pth').read_bytes()
        (tmp_path / 'iter_6.pth').write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / 'last_checkpoint').write_text(broken and str(tmp_path / broken))
    resumed = runner(tmp_path, kept=3, resume=True)
    resumed.train()
    assert resumed.iter == 6
    assert is_whole(tmp_path / 'iter_6.pth')


def test_mending_leaves_what_is_good(tmp_path):
    assert mend_last_checkpoint(tmp_path) is None
    torch.save({}, tmp_path / 'iter_1.pth')
    last = tmp_path / 'last_checkpoint'
    for text in ('s3://bucket/iter_5.pth', str(tmp_path / 'iter_1.pth')):
        last.write_text(text)
        assert mend_last_checkpoint(tmp_path) is None and last.read_text() == text
    last.write_text('')
    assert mend_last_checkpoint(tmp_path) == tmp_path / 'iter_1.pth'


def test_every_config_keeps_two():
    for path in sorted((REPO / 'configs').rglob('*.py')):
        if '_base_' in path.parts or path.name == 'probe.py':
            continue
        text = path.read_text()
        assert 'max_keep_ckpts=1' not in text, path
    for path in sorted((REPO / 'configs' / '_base_').rglob('*.py')):
        cfg = Config.fromfile(path, import_custom_modules=False, format_python_code=False)
        hook = cfg.get('default_hooks', {}).get('checkpoint', {})
        assert hook.get('max_keep_ckpts', -1) not in (0, 1), path
        if path.name.startswith('default_runtime'):
            assert hook.type == f'hyper_mm.{SafeCheckpointHook.__name__}', path
    assert issubclass(SafeCheckpointHook, CheckpointHook)
