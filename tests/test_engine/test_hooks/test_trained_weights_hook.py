import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.runner import Runner, load_checkpoint  # noqa: E402

from hyper_mm.engine.hooks.trained_weights_hook import TrainedWeightsHook  # noqa: E402
from hyper_mm.models.utils.trained_weights import FROZEN  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, build, config  # noqa: E402
from tests.helpers.open_vocab_runs import run_config, write_images  # noqa: E402

pytestmark = pytest.mark.mmseg


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Images, and CLIP's weights as a file."""
    folder = tmp_path_factory.mktemp('data')
    torch.save(build().clip.state_dict(), folder / 'clip.pth')
    torch.save(build().clip.state_dict(), folder / 'other.pth')
    return write_images(folder)


@pytest.fixture(scope='module')
def whole(data):
    """A run of four steps, with checkpoints after two and four."""
    runner = make(data, 'whole')
    runner.train()
    return runner


def clip_of(data, file='clip.pth'):
    return dict(config().clip, pretrained=str(data / file))


def settings(data, name, resume=None, hooks=(), file='clip.pth', **model):
    cfg = run_config(data, **{**dict(clip=clip_of(data, file)), **model})
    cfg.work_dir = str(data / name)
    cfg.visualizer.name += name
    cfg.randomness = dict(seed=0)
    cfg.train_cfg.max_iters = 4
    cfg.optim_wrapper.optimizer.lr = 0.1
    cfg.default_hooks.checkpoint.update(save_best='mIoU')
    cfg.default_hooks.pop('visualization')
    cfg.custom_hooks = [
        dict(type='hyper_mm.TrainedWeightsHook'),
        dict(type='hyper_mm.ExactResumeHook'),
        dict(type='hyper_mm.MergeAdaptersHook'),
        *hooks,
    ]
    if resume is not None:
        cfg.resume, cfg.load_from = True, str(resume)
    return cfg


def make(*args, **kwargs):
    return Runner.from_cfg(settings(*args, **kwargs))


def trained(runner):
    return {n: p.detach().clone() for n, p in runner.model.named_parameters() if p.requires_grad}


def test_holds_what_is_trained(data, whole):
    (best,) = (data / 'whole').glob('best_*.pth')
    frozen = [n for n, p in whole.model.named_parameters() if not p.requires_grad]
    for file in (best, data / 'whole' / 'iter_4.pth'):
        state = torch.load(file, weights_only=False)['state_dict']
        assert not set(frozen) & set(state)
        assert set(trained(whole)) <= set(state)
        assert state[FROZEN].shape == (len(frozen), 2)
        count = sum(value.numel() for name, value in state.items() if name.startswith('clip.'))
        assert count < 0.1 * sum(p.numel() for p in whole.model.clip.parameters())


def test_resume_equals_the_unbroken_run(data, whole):
    second = make(data, 'second', resume=data / 'whole' / 'iter_2.pth')
    second.train()
    expected, found = trained(whole), trained(second)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope='module')
def config_file(data):
    """The config of the run, as the scripts read it."""
    cfg = settings(data, 'config')
    cfg.log_level = 'INFO'
    cfg.test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    cfg.dump(data / 'config.py')
    return data / 'config.py'


STOCK = Path(importlib.util.find_spec('mmseg').origin).parent / '.mim' / 'tools' / 'test.py'


@pytest.mark.parametrize('script', [runs.TEST, STOCK], ids=['ours', 'stock'])
def test_scripts_read_it(data, whole, config_file, script, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the process of the script: a level pixel is 0.01
    try:
        expected = whole.val_loop.run()['mIoU']
    finally:
        torch.set_num_threads(threads)
    args = (config_file, data / 'whole' / 'iter_4.pth', '--work-dir', tmp_path)
    text = runs.run(script, *args, log=tmp_path / 'log')
    assert f'mIoU: {expected:.4f}' in text


def test_inferencers_read_it(data, whole, config_file):
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    file, image = str(data / 'whole' / 'iter_4.pth'), str(data / 'images' / '0.jpg')
    model = init_model(str(config_file), file, device='cpu')
    for name, value in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    expected = inference_model(model, image).pred_sem_seg.data[0].numpy()
    for weights in (file, f'weights-only+{file}'):
        inferencer = MMSegInferencer(model=str(config_file), weights=weights, device='cpu')
        assert (inferencer(image)['predictions'] == expected).all()


def test_other_frozen_weights_are_refused(data, whole):
    file = str(data / 'whole' / 'iter_2.pth')
    for strict in (True, False):
        model = MODELS.build(config(adapter=HYPERCLIP, clip=clip_of(data, 'other.pth')))
        with pytest.raises(
            ValueError, match=r'frozen weights of OpenVocabSegmentor .*such as clip\.'
        ):
            load_checkpoint(model, file, map_location='cpu', strict=strict)
    with pytest.raises(ValueError, match='are not those that they were trained with'):
        make(data, 'again', resume=file, file='other.pth').train()
    model = MODELS.build(config(finetune='full', clip=clip_of(data)))
    with pytest.raises(ValueError, match='they are not of one config'):
        load_checkpoint(model, file, map_location='cpu')


def test_moving_averages(data):
    ema = dict(type='EMAHook', momentum=0.5)
    runner = make(data, 'ema', hooks=[ema])
    runner.train()
    state = torch.load(data / 'ema' / 'iter_2.pth', weights_only=False)
    frozen = {f'module.{n}' for n, p in runner.model.named_parameters() if not p.requires_grad}
    assert not frozen & set(state['ema_state_dict'])
    resumed = make(data, 'ema2', resume=data / 'ema' / 'iter_2.pth', hooks=[ema])
    resumed.train()
    expected, found = trained(runner), trained(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_models_that_it_does_not_serve():
    model = torch.nn.Linear(2, 2)
    hook = TrainedWeightsHook()
    with pytest.raises(ValueError, match='Linear cannot load checkpoints of its trained weights'):
        hook.before_run(SimpleNamespace(model=model))
    with pytest.raises(ValueError, match='nothing of Linear is frozen'):
        hook.before_train(SimpleNamespace(model=model))


@pytest.mark.mmpretrain
def test_prompts_alone(data):
    """A thousand trained numbers are a thousand numbers in the file."""
    pytest.importorskip('mmpretrain')
    cfg = dict(
        type='hyper_mm.PromptedCLIP',
        clip=clip_of(data),
        prompts=dict(type='CoOp'),
        vocabulary=['cat', 'dog'],
    )
    check_model(MODELS.build(cfg), MODELS.build(cfg))


def test_radial_adapter_alone(data):
    loss = dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0)
    adapter = dict(HYPERCLIP, towers=('text',))
    cfg = dict(type='hyper_mm.RadialCLIP', clip=clip_of(data), loss=loss, adapter=adapter)
    check_model(MODELS.build(cfg), MODELS.build(cfg))


def check_model(model, other):
    """What the hook saves of a model is small and loads strictly into another one."""
    own = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in own.values():
            parameter += torch.randn_like(parameter)
    checkpoint = dict(state_dict=model.state_dict())
    TrainedWeightsHook().before_save_checkpoint(SimpleNamespace(model=model), checkpoint)
    state = checkpoint['state_dict']
    count = sum(value.numel() for name, value in state.items() if name in own)
    assert count == sum(p.numel() for p in own.values())
    frozen = sum(not p.requires_grad for p in model.parameters())
    assert sum(v.numel() for v in state.values()) < count + 2 * frozen + 1000
    found = other.load_state_dict(state, strict=True)
    assert not found.missing_keys
    assert all(torch.equal(other.get_parameter(n), p) for n, p in own.items())
