"""Fully sharded training: two processes do what one does."""

from __future__ import annotations

from functools import partial

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.optim import build_optim_wrapper  # noqa: E402
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy  # noqa: E402

from hyper_mm.models.language.helm import Head  # noqa: E402
from hyper_mm.registry import MODEL_WRAPPERS  # noqa: E402
from tests.test_models.test_language.test_helm import model_of  # noqa: E402

CASES = {
    'blocks': ('helm-mice', None),
    'head': ('helm-d', partial(transformer_auto_wrap_policy, transformer_layer_cls={Head})),
    'baseline': ('baseline-moe', None),
}


def train(model, ids):
    """Losses of three steps, their logs, and the share of numbers that decay."""
    wrapper = dict(
        type='OptimWrapper',
        constructor='hyper_mm.HyperbolicOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=0.3, weight_decay=0.1),
        clip_grad=dict(max_norm=0.5),
    )
    wrapper = build_optim_wrapper(model, wrapper)
    logs = [model.train_step(dict(input_ids=ids), wrapper) for _ in range(3)]
    counts = [sum(p.numel() for p in g['params']) for g in wrapper.optimizer.param_groups]
    return [log['loss_lm'].item() for log in logs], sorted(logs[0]), torch.tensor(counts)


def sharded(module, **options):
    return MODEL_WRAPPERS.build(dict(type='hyper_mm.ShardedModel', module=module, **options))


def build(kind):
    torch.manual_seed(0)
    return model_of(kind, loss_chunk=8), torch.randint(0, 37, (4, 12))


def _rank(rank, folder):
    torch.set_num_threads(1)
    store = f'file://{folder}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    for name, (kind, policy) in CASES.items():
        model, ids = build(kind)
        model = sharded(model, auto_wrap_policy=policy)
        found = train(model, ids[2 * rank : 2 * rank + 2])
        torch.save((*found, model.state_dict()), f'{folder}/{name}{rank}.pth')
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    for name, (kind, _) in CASES.items():
        model, ids = build(kind)
        losses, names, counts = train(model, ids)
        ranks = [torch.load(tmp_path / f'{name}{rank}.pth') for rank in range(2)]
        mean = [(a + b) / 2 for a, b in zip(ranks[0][0], ranks[1][0])]
        assert mean == pytest.approx(losses, abs=1e-5)
        assert ranks[0][1] == names
        # matrices alone decay, though shards have one dimension
        assert torch.equal(ranks[0][2] + ranks[1][2], counts)
        for rank in ranks:
            torch.testing.assert_close(dict(rank[3]), dict(model.state_dict()), rtol=0, atol=2e-4)


def test_bad_input():
    with pytest.raises(ValueError, match='use_orig_params must be True'):
        sharded(torch.nn.Linear(2, 2), use_orig_params=False)
    model = torch.nn.Linear(2, 2)
    model.weight.manifold = 'a manifold'
    with pytest.raises(ValueError, match=r"must not be on a manifold .*\['weight'\]"):
        sharded(model)
