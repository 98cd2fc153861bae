import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.dataset import DefaultSampler  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from hyper_mm.registry import HOOKS  # noqa: E402
from tests.helpers import runs  # noqa: E402

HOOK = dict(type='hyper_mm.EqualShardsHook')
CASES = {  # images, round_up, a loop without end -> batches of each rank in the message
    'one image': (1, False, False, '[1, 0]'),
    'one image, by iterations': (1, False, True, '[1, 0]'),
    'three images': (3, False, False, '[2, 1]'),
    'three images, by iterations': (3, False, True, None),
    'filled up': (1, True, False, None),
}


def _rank(rank, folder):
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    found = {}
    for name, (images, round_up, endless, _) in CASES.items():
        data = list(range(images))
        loader = DataLoader(data, sampler=DefaultSampler(data, seed=0, round_up=round_up))
        loop = SimpleNamespace(dataloader=loader)
        if endless:
            loop.dataloader_iterator = None
        try:
            HOOKS.build(HOOK).before_train(SimpleNamespace(train_loop=loop))
        except ValueError as error:
            found[name] = str(error)
    torch.save(found, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def test_every_process_says_so_before_any_waits(tmp_path):
    runs.ranks(_rank, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth')
        assert found.keys() == {name for name, case in CASES.items() if case[-1]}
        for name, message in found.items():
            assert f'get {CASES[name][-1]} batches' in message and 'round_up=True' in message


def test_one_process():
    HOOKS.build(HOOK).before_train(SimpleNamespace(train_loop=SimpleNamespace(dataloader=[])))


@pytest.mark.slow
@pytest.mark.mmseg
@pytest.mark.parametrize('endless', [False, True], ids=['epochs', 'iterations'])
def test_a_run_of_two_ranks_ends_with_the_error(tmp_path, endless):
    """By torchrun and tools/train.py, on one image."""
    pytest.importorskip('mmseg')
    root = runs.make_data(tmp_path / 'data')
    for folder in ('images', 'annotations'):
        for file in sorted((root / folder / 'training').iterdir())[1:]:
            file.unlink()
    loop = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=10)
    if not endless:
        loop = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=10, _delete_=True)
    sampler = dict(type='DefaultSampler', shuffle=True, round_up=False, _delete_=True)
    config = runs.write_config(
        tmp_path, root, train_cfg=loop, train_dataloader=dict(batch_size=1, sampler=sampler)
    )
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2']
    command += [f'--master-port={runs.free_port()}', str(runs.TRAIN), str(config)]
    command += ['--launcher', 'pytorch', '--work-dir', str(tmp_path / 'run')]
    done = subprocess.run(
        command,
        cwd=runs.REPO,
        env={**os.environ, **runs.ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=runs.TIMEOUT,
    )
    assert done.returncode != 0
    assert 'the processes get [1, 0] batches' in done.stdout + done.stderr
