import copy
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.logging import MMLogger  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.engine.hooks.merge_adapters_hook import MergeAdaptersHook  # noqa: E402
from hyper_mm.layers.hyperclip.adapted_weight import caches  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, batch, build, run  # noqa: E402
from tests.helpers.open_vocab_runs import run_config, write_images  # noqa: E402

pytestmark = pytest.mark.mmseg
ADAPTERS = {
    'HyperCLIP': dict(adapter=HYPERCLIP),
    'input in the ball': dict(adapter=dict(HYPERCLIP, target='input')),
    'euclidean input': dict(adapter=dict(HYPERCLIP, target='input', space='euclidean')),
    'LoRA': dict(adapter=dict(type='hyper_mm.LoRAAdapter', rank=2)),
    'qv': dict(adapter=None, finetune='qv'),
}


@pytest.fixture
def data(tmp_path):
    return write_images(tmp_path)


def make(data, name, iters=2, resume=None, hooks=(), **model):
    """A runner that validates every two iterations and saves the best."""
    cfg = run_config(data, **model)
    cfg.work_dir = str(data / name)
    cfg.visualizer.name += name
    cfg.randomness = dict(seed=0)
    cfg.train_cfg.max_iters = iters
    # whole weights diverge where an adapter only moves
    cfg.optim_wrapper.optimizer.lr = 1e-3 if 'finetune' in model else 0.1
    cfg.default_hooks.checkpoint.update(save_best='mIoU')
    cfg.default_hooks.pop('visualization')
    cfg.custom_hooks = [
        dict(type='hyper_mm.ExactResumeHook'),
        dict(type='hyper_mm.MergeAdaptersHook'),
        *hooks,
    ]
    if resume is not None:
        cfg.resume, cfg.load_from = True, str(resume)
    return Runner.from_cfg(cfg)


def state_of(file):
    return torch.load(file, weights_only=False)['state_dict']


def trained(runner):
    return {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('options', ADAPTERS.values(), ids=ADAPTERS.keys())
def test_best_and_last_checkpoint_hold_what_is_trained(data, options):
    runner = make(data, 'run', **options)
    keys = list(runner.model.state_dict())
    runner.train()
    (best,) = (data / 'run').glob('best_mIoU_iter_*.pth')
    own = trained(runner)
    assert any(name.startswith('clip.') for name in own)
    for file in (best, data / 'run' / 'iter_2.pth'):
        state = state_of(file)
        assert list(state) == keys
        for name, value in own.items():
            assert torch.equal(state[name], value), name
    assert not any(cache.on for cache in caches(runner.model))


def test_a_resumed_run_equals_the_unbroken_one(data):
    whole = make(data, 'whole', iters=4)
    whole.train()
    make(data, 'first').train()
    second = make(data, 'second', iters=4, resume=data / 'first' / 'iter_2.pth')
    second.train()
    expected, found = trained(whole), trained(second)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    start = state_of(data / 'first' / 'iter_2.pth')
    moved = [n for n in found if '.maps.' in n and not torch.equal(found[n], start[n])]
    assert moved


@pytest.mark.parametrize('update_buffers', [False, True])
def test_moving_average(data, update_buffers):
    ema = dict(type='EMAHook', momentum=0.5, update_buffers=update_buffers)
    runner = make(data, 'ema', iters=4, hooks=[ema])
    scores, predictions = [], []

    def record(*args, **kwargs):
        found = forward(*args, **kwargs)
        if kwargs.get('mode') == 'predict':
            predictions.append([sample.pred_sem_seg.data for sample in found])
            scores.append(trained(runner))
        return found

    forward = runner.model.forward
    runner.model.forward = record
    runner.train()
    # 4 iterations of momentum 0.5: what is evaluated is not what is trained
    last = torch.load(data / 'ema' / 'iter_4.pth', weights_only=False)
    name = next(n for n in scores[-1] if '.maps.' in n)
    assert torch.equal(scores[-1][name], last['state_dict'][name])
    assert torch.equal(trained(runner)[name], last['ema_state_dict'][f'module.{name}'])
    assert not torch.equal(scores[-1][name], trained(runner)[name])
    # the cache saw the exchange: a fresh model with the averages predicts the same
    fresh = copy.deepcopy(runner.model)
    fresh.forward = type(fresh).forward.__get__(fresh)
    fresh.load_state_dict(last['state_dict'])
    fresh.eval()
    assert not any(cache.on for cache in caches(fresh))
    wanted = [fresh.test_step(copy.deepcopy(x)) for x in runner.val_dataloader]
    found = predictions[-len(wanted) :]
    for a, b in zip(wanted, found):
        for sample, label in zip(a, b):
            assert (sample.pred_sem_seg.data != label).float().mean() < 0.01
    resumed = make(data, 'ema2', iters=6, resume=data / 'ema' / 'iter_4.pth', hooks=[ema])
    resumed.train()


def test_a_hook_about_nothing(data):
    runner = make(data, 'none', adapter=None)
    with pytest.raises(ValueError, match='OpenVocabSegmentor has no adapted weights'):
        runner.train()
    assert runner.iter == 0
    runner = SimpleNamespace(model=build())
    with pytest.raises(ValueError, match='OpenVocabSegmentor has no adapted weights'):
        MergeAdaptersHook().before_val(runner)


def test_what_no_weight_expresses_is_said_before_the_run(monkeypatch):
    model, lines = build(adapter=dict(HYPERCLIP, target='input')), []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'info', lines.append)
    MergeAdaptersHook().before_run(SimpleNamespace(model=model, logger=logger))
    assert "target='input'" in lines[0]


def test_cached_for_evaluation_only():
    model = build(adapter=HYPERCLIP).eval()
    hook, runner = MergeAdaptersHook(), SimpleNamespace(model=model)
    keys, calls = list(model.state_dict()), []
    for _, part in model.adapter.named_maps():
        part.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        for one in model.adapter.parameters():
            one += 0.1 * torch.randn_like(one)
        for before, after in (
            (hook.before_val, hook.after_val),
            (hook.before_test, hook.after_test),
        ):
            before(runner)
            run(model, batch(), 'tensor')
            first = len(calls)
            assert first
            run(model, batch(), 'tensor')
            assert len(calls) == first
            assert list(model.state_dict()) == keys
            assert not model.adapter.merged
            after(runner)
            calls.clear()
            assert not any(cache.on for cache in caches(model))
