from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.dataset import DefaultSampler  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from hyper_mm.registry import HOOKS  # noqa: E402

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


def test_every_process_says_so_before_any_waits(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth')
        assert found.keys() == {name for name, case in CASES.items() if case[-1]}
        for name, message in found.items():
            assert f'get {CASES[name][-1]} batches' in message and 'round_up=True' in message


def test_one_process():
    HOOKS.build(HOOK).before_train(SimpleNamespace(train_loop=SimpleNamespace(dataloader=[])))
