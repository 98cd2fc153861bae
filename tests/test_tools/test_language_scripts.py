"""Language models by this project's scripts: tokenised text in, perplexity out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')  # the server of tests.helpers.runs has it loaded

from tests.helpers import runs  # noqa: E402
from tests.helpers.runs import REPO, TEST, TRAIN  # noqa: E402

TINY = """
_base_ = {base!r}
custom_imports = dict(imports=['hyper_mm', 'tests.helpers.runs'], allow_failed_imports=False)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
model = dict(decoder=dict(
    vocab_size=30, embed_dims=15, depth=2, max_length=16,
    attention=dict(num_heads=2, latent_dims=4, nope_dims=3, rope_dims=4, v_dims=3),
    ffn=dict(hidden_dims=7, balance_weight={balance}), dense_ffn=dict(hidden_dims=15)))
dataset = dict(data_root={root!r}, length=16, document_masks={masks}, vocab_size=30)
train_dataloader = dict(batch_size={batch}, dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
train_cfg = dict(max_iters=6, val_interval=6)
optim_wrapper = dict(optimizer=dict(lr=2e-2))
param_scheduler = []
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=3), record=dict(type='RecordHook'))
"""

FLEXIBLE = """
runner_type = 'FlexibleRunner'
optim_wrapper = dict(clip_grad=dict(max_norm=0.5))
"""
SHARDED = f"{FLEXIBLE}strategy = dict(type='hyper_mm.ShardedStrategy')\n"


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """Documents in which each token tells the next one."""
    folder = tmp_path_factory.mktemp('data')
    rows = np.random.default_rng(0).integers(2, 30, 80)
    text = [[0, *((first + np.arange(5)) % 28 + 2), 1] for first in rows]
    ids = np.concatenate(text).astype('<u2')[:541]  # 36 sequences, all of them full
    splits = {}
    for split, part in (('train', ids), ('val', ids[:100])):
        part.tofile(folder / f'{split}.bin')
        splits[split] = dict(tokens=len(part), documents=1)
    meta = dict(
        dtype='uint16',
        vocab_size=30,
        bos_id=0,
        eos_id=1,
        splits=splits,
        tokenizer=dict(type='open_clip'),
        original_ids=None,
    )
    (folder / 'meta.json').write_text(json.dumps(meta))
    return folder


def write(path, root, batch=4, masks=True, balance=1e-4, more=''):
    base = str(REPO / 'configs' / 'helm/helm-mice_mini_hierarcaps.py')
    text = TINY.format(base=base, root=str(root), batch=batch, masks=masks, balance=balance)
    path.write_text(text + more)
    return path


def run_two(tmp_path, name, config, *args):
    """Trains on two processes."""
    env = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(runs.free_port()), WORLD_SIZE='2')
    args = (config, '--work-dir', tmp_path / name, '--seed', 0, '--launcher', 'pytorch', *args)
    logs = [tmp_path / f'{name}{rank}.log' for rank in range(2)]
    ranks = [
        runs.Run(TRAIN, *args, log=log, env=dict(env, RANK=rank, LOCAL_RANK=rank))
        for rank, log in zip('01', logs)
    ]
    for rank in ranks:
        code, text = rank.wait()
        assert code == 0, text[-4000:]


def test_train_resume_and_test(root, tmp_path):
    config = write(tmp_path / 'config.py', root)
    args = ('--work-dir', tmp_path / 'a', '--seed', 3)
    runs.run(TRAIN, config, *args, log=tmp_path / 'a.log')
    steps = runs.losses(tmp_path / 'a')
    assert len(steps) == 6 and steps[-1]['loss_lm'] < steps[0]['loss_lm']
    assert {'loss_balance', 'decoder/blocks.1.ffn.curvatures.0'} <= steps[0].keys()
    assert all(math.isfinite(value) for step in steps for value in step.values())
    args = ('--work-dir', tmp_path / 'b', '--seed', 3, '--resume', tmp_path / 'a' / 'iter_3.pth')
    runs.run(TRAIN, config, *args, log=tmp_path / 'b.log')
    unbroken, resumed = (runs.weights(tmp_path / name / 'iter_6.pth') for name in 'ab')
    assert not runs.differing(unbroken, resumed)
    out = tmp_path / 'metrics.json'
    args = ('--work-dir', tmp_path / 'test', '--out', out, '--out-item', 'metrics')
    runs.run(TEST, config, tmp_path / 'a' / 'iter_6.pth', *args, log=tmp_path / 'test.log')
    metrics = json.loads(out.read_text())
    assert metrics['lm/perplexity'] == pytest.approx(math.exp(metrics['lm/nll']))
    assert metrics['lm/tokens'] < 99  # the first of a document is no label
    assert f'lm/perplexity: {metrics["lm/perplexity"]:.4f}' in (tmp_path / 'a.log').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('single, more', [('', ''), (FLEXIBLE, SHARDED)], ids=['whole', 'sharded'])
def test_two_processes_give_the_curve_of_one(root, tmp_path, single, more):
    options = dict(masks=False, balance=0.0)  # means over as many tokens on both
    one = write(tmp_path / 'one.py', root, 4, **options, more=single)
    config = write(tmp_path / 'two.py', root, 2, **options, more=more)
    run_two(tmp_path, 'two', config)
    runs.run(TRAIN, one, '--work-dir', tmp_path / 'one', '--seed', 0, log=tmp_path / 'one.log')
    curve = [step['loss_lm'] for step in runs.losses(tmp_path / 'one')]
    halves = [runs.losses(tmp_path / 'two', rank) for rank in range(2)]
    mean = [(a['loss_lm'] + b['loss_lm']) / 2 for a, b in zip(*halves)]
    assert halves[0][0]['loss_lm'] != halves[1][0]['loss_lm']
    assert mean == pytest.approx(curve, abs=1e-4)
    # experts are balanced by the tokens of both
    states = [runs.weights(tmp_path / name / 'iter_6.pth') for name in ('one', 'two')]
    biases = [state['weight decoder.blocks.1.ffn.bias'] for state in states]
    assert biases[0].any()
    torch.testing.assert_close(*biases)
    shapes = [{k: v.shape for k, v in s.items() if k.startswith('weight')} for s in states]
    assert shapes[0] == shapes[1]
    run_two(tmp_path, 'resumed', config, '--resume', tmp_path / 'two' / 'iter_3.pth')
    assert not runs.differing(states[1], runs.weights(tmp_path / 'resumed' / 'iter_6.pth'))
    # each goes on from a checkpoint of the other
    run_two(tmp_path, 'to-two', config, '--resume', tmp_path / 'one' / 'iter_3.pth')
    halves = [runs.losses(tmp_path / 'to-two', rank) for rank in range(2)]
    mean = [(a['loss_lm'] + b['loss_lm']) / 2 for a, b in zip(*halves)]
    assert mean == pytest.approx(curve[3:], abs=1e-4)
    args = ('--work-dir', tmp_path / 'to-one', '--resume', tmp_path / 'two' / 'iter_3.pth')
    runs.run(TRAIN, one, *args, log=tmp_path / 'to-one.log')
    found = [step['loss_lm'] for step in runs.losses(tmp_path / 'to-one')]
    assert found == pytest.approx(curve[3:], abs=1e-4)
