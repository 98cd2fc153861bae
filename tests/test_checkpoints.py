"""Checkpoints: mmengine's own are read, whatever could run code is refused."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.logging import HistoryBuffer, MessageHub  # noqa: E402
from mmengine.registry import PARAM_SCHEDULERS  # noqa: E402
from mmengine.runner.checkpoint import CheckpointLoader  # noqa: E402

from hyper_mm import checkpoints as compat  # noqa: E402

compat.install_checkpoint_loader()
needs_safe_globals = pytest.mark.skipif(
    not compat.has_safe_globals(), reason='this torch reads checkpoints without an allow-list'
)


def load(path) -> dict:
    return CheckpointLoader.load_checkpoint(str(path), 'cpu', None)


# what mmengine writes

SCHEDULERS = dict(
    MultiStepLR=dict(milestones=[2, 4]),
    StepLR=dict(step_size=2),
    PolyLR=dict(end=5),
    LinearLR=dict(),
    ConstantLR=dict(),
    ExponentialLR=dict(gamma=0.1),
    CosineAnnealingLR=dict(T_max=5),
    CosineRestartLR=dict(periods=[3], restart_weights=[1], eta_min=0),
    OneCycleLR=dict(eta_max=1.0, total_steps=10),
    ReduceOnPlateauLR=dict(monitor='loss'),
)


@pytest.mark.parametrize('name', SCHEDULERS)
def test_parameter_schedulers(name, tmp_path):
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1, momentum=0.9)
    args = dict(type=name, optimizer=optimizer, **SCHEDULERS[name])
    state = PARAM_SCHEDULERS.build(args).state_dict()
    torch.save(dict(param_schedulers=[state]), tmp_path / 'a.pth')
    again = load(tmp_path / 'a.pth')['param_schedulers'][0]
    assert again.keys() == state.keys()
    PARAM_SCHEDULERS.build(args).load_state_dict(again)


def test_message_hub_meta_and_scaler(tmp_path):
    hub = MessageHub.get_instance('test_compat')
    for value in (torch.tensor(1.0), np.float32(2), np.float64(3), 4):
        hub.update_scalar('train/loss', value)
    hub.update_info('best_score', np.float64(0.5))
    meta = dict(
        dataset_meta=dict(
            classes=('a', 'b'),
            palette=np.zeros((2, 3), np.uint8),
            label_map=ConfigDict(a=1, b=dict(c=2)),
        ),
        seed=np.int64(3),
        flags=[np.bool_(True), np.float16(1), np.array(['x'])],
    )
    scaler = torch.amp.GradScaler('cpu').state_dict()
    checkpoint = dict(message_hub=hub.state_dict(), meta=meta, optimizer=dict(loss_scaler=scaler))
    torch.save(checkpoint, tmp_path / 'a.pth')
    again = load(tmp_path / 'a.pth')
    assert again['meta']['dataset_meta']['label_map'].b.c == 2
    assert again['meta']['dataset_meta']['palette'].shape == (2, 3)
    history = again['message_hub']['log_scalars']['train/loss']
    assert isinstance(history, HistoryBuffer)
    assert history.statistics('mean') == history.mean() == 2.5
    other = MessageHub.get_instance('test_compat_other')
    other.load_state_dict(again['message_hub'])
    assert other.get_info('best_score') == 0.5


@needs_safe_globals
def test_types_that_another_loader_took_off_the_list(tmp_path):
    torch.save(dict(history=HistoryBuffer([1.0], [1])), tmp_path / 'a.pth')
    with torch.serialization.safe_globals([HistoryBuffer, np.ndarray, np.dtype]):
        pass  # removes them where it ends; onedl-mmengine reads weights from the network so
    assert load(tmp_path / 'a.pth')['history'].current() == 1


@pytest.mark.slow
@pytest.mark.mmseg
def test_checkpoint_of_a_run_with_ema_best_score_and_amp(tmp_path):
    pytest.importorskip('mmseg')
    from tests.helpers import runs

    root = runs.make_data(tmp_path / 'data')
    changes = dict(
        custom_hooks=[dict(type='EMAHook'), dict(type='hyper_mm.ExactResumeHook')],
        default_hooks=dict(checkpoint=dict(save_best='mIoU', interval=2, by_epoch=False)),
        param_scheduler=[dict(type='OneCycleLR', eta_max=1e-3, total_steps=6, by_epoch=False)],
        train_cfg=dict(val_interval=2),
    )
    config = runs.write_config(tmp_path / 'config', root, **changes)
    args = ('--seed', 0, '--amp')
    for name, more in (('a', ()), ('b', ('--resume', tmp_path / 'a' / 'iter_2.pth'))):
        work_dir = tmp_path / name
        log = tmp_path / f'{name}.log'
        runs.run(runs.TRAIN, config, '--work-dir', work_dir, *args, *more, log=log)
    unbroken, resumed = (runs.weights(tmp_path / name / 'iter_6.pth') for name in 'ab')
    assert runs.differing(unbroken, resumed) == []
    checkpoint = load(tmp_path / 'a' / 'iter_6.pth')
    assert {'ema_state_dict', 'param_schedulers', 'message_hub', 'meta'} <= checkpoint.keys()
    best = next((tmp_path / 'a').glob('best_mIoU*.pth'))
    log = tmp_path / 'test.log'
    assert 'mIoU' in runs.run(runs.TEST, config, best, '--work-dir', tmp_path, log=log)


# what an attacker writes


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Only for pickle, which wants what is called to be callable."""


def attacks(marker) -> dict[str, object]:
    command = f'touch {marker}'
    return {
        'system': Call(os.system, command),
        'eval': Call(eval, f"__import__('os').system({command!r})"),
        'exec': Call(exec, f"open({str(marker)!r}, 'w')"),
        'getattr of a module': Call(Call(getattr, Call(__import__, 'os'), 'system'), command),
        'getattr of a class': Call(getattr, HistoryBuffer, '__init__'),
        'getattr of globals': Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__globals__'),
        'getattr chain': Call(
            Call(getattr, Call(getattr, HistoryBuffer, 'mean'), '__class__'), command
        ),
        'import': Call(__import__, 'os'),
        'partial': Call(__import__('functools').partial, os.system, command),
        'hyper_mm': Call(compat.load_from_local, str(marker)),
    }


NAMES = sorted(attacks('x'))


@needs_safe_globals
@pytest.mark.parametrize('place', ['state_dict', 'meta', 'message_hub'])
@pytest.mark.parametrize('name', NAMES)
def test_foreign_callables_are_refused(name, place, tmp_path):
    marker = tmp_path / 'owned'
    checkpoint = dict(state_dict=dict(), meta=dict(), message_hub=dict())
    checkpoint[place] = attacks(marker)[name]
    torch.save(checkpoint, tmp_path / 'bad.pth')
    with pytest.raises(pickle.UnpicklingError, match='refused to load') as error:
        load(tmp_path / 'bad.pth')
    assert not marker.exists()
    message = str(error.value)
    assert 'bad.pth' in message and 'weights_only` set to `False' not in message


def config_that_writes(marker) -> str:
    return f"open({str(marker)!r}, 'w').close()\nmodel = dict(type='none')\n"


def checkpoint_with_config(path, marker) -> torch.nn.Linear:
    """A checkpoint as mmengine writes it, whose config leaves a mark where it is executed."""
    model, text = torch.nn.Linear(2, 3), config_that_writes(marker)
    meta = dict(cfg=text, dataset_meta=dict(classes=('a', 'b')), epoch=1)
    hub = dict(runtime_info=dict(cfg=text))
    torch.save(dict(state_dict=model.state_dict(), meta=meta, message_hub=hub), path)
    return model


def test_weights_without_their_config(tmp_path):
    path, marker = tmp_path / 'iter_80000.pth', tmp_path / 'mark'
    expected = checkpoint_with_config(path, marker).state_dict()
    torch.save(expected, tmp_path / 'plain.pth')
    for name in (path, tmp_path / 'plain.pth'):
        state = compat.load_weights(str(name))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
    found = load(f'weights-only+{path}')
    assert found['meta'] == dict(dataset_meta=dict(classes=('a', 'b')))
    assert found.keys() == {'state_dict', 'meta'} and 'open' not in repr(found)
    assert not marker.exists()
    torch.save(dict(state_dict=dict(a=1)), tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='none.pth holds no state dict'):
        compat.load_weights(str(tmp_path / 'none.pth'))


def test_an_inferencer_given_weights_only_executes_nothing(tmp_path):
    from mmengine.infer import BaseInferencer

    class Inferencer(BaseInferencer):
        def _init_pipeline(self, cfg):
            raise NotImplementedError

        preprocess = visualize = postprocess = _init_pipeline

    path, marker = tmp_path / 'a.pth', tmp_path / 'mark'
    checkpoint_with_config(path, marker)
    for weights, executed in ((f'weights-only+{path}', False), (str(path), True)):
        with pytest.raises(Exception):  # noqa: B017
            Inferencer(weights=weights, device='cpu', scope='mmengine')
        assert marker.exists() == executed  # the second is mmengine's way, told in SECURITY.md


def test_the_snippet_of_security_md(tmp_path, repo, monkeypatch):
    text = (repo / 'SECURITY.md').read_text()
    code = text.split('```python\n')[1].split('```')[0]
    (tmp_path / 'work_dirs/run').mkdir(parents=True)
    path, marker = tmp_path / 'work_dirs/run/iter_80000.pth', tmp_path / 'mark'
    expected = checkpoint_with_config(path, marker)
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Linear(2, 3)
    exec(code, dict(model=model))
    assert torch.equal(model.weight, expected.weight) and not marker.exists()


def test_missing_file_and_broken_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.pth'):
        load(tmp_path / 'none.pth')
    torch.save(dict(a=torch.zeros(1000)), tmp_path / 'a.pth')
    with open(tmp_path / 'a.pth', 'r+b') as file:
        file.truncate(500)
    with pytest.raises(RuntimeError):
        load(tmp_path / 'a.pth')


# timm's names


def timm_vit(dim: int = 32, depth: int = 2) -> dict[str, torch.Tensor]:
    """State dict of a DeiT as timm names it, patches of 16 on 64 x 64."""
    shapes = {
        'cls_token': (1, 1, dim),
        'pos_embed': (1, 17, dim),
        'patch_embed.proj.weight': (dim, 3, 16, 16),
        'patch_embed.proj.bias': (dim,),
        'norm.weight': (dim,),
        'norm.bias': (dim,),
        'head.weight': (10, dim),
        'head.bias': (10,),
        'head_dist.weight': (10, dim),
    }
    for i in range(depth):
        for name, shape in {
            'norm1.weight': (dim,),
            'norm1.bias': (dim,),
            'attn.qkv.weight': (3 * dim, dim),
            'attn.qkv.bias': (3 * dim,),
            'attn.proj.weight': (dim, dim),
            'attn.proj.bias': (dim,),
            'norm2.weight': (dim,),
            'norm2.bias': (dim,),
            'mlp.fc1.weight': (2 * dim, dim),
            'mlp.fc1.bias': (2 * dim,),
            'mlp.fc2.weight': (dim, 2 * dim),
            'mlp.fc2.bias': (dim,),
        }.items():
            shapes[f'blocks.{i}.{name}'] = shape
    return {name: torch.randn(shape) for name, shape in shapes.items()}


VIT = dict(
    img_size=64,
    patch_size=16,
    patch_bias=True,
    embed_dims=32,
    num_layers=2,
    num_heads=2,
    mlp_ratio=2,
)


@pytest.mark.mmseg
def test_timm_vit_fits_mmsegs():
    pytest.importorskip('mmseg')
    from mmseg.models import VisionTransformer

    state = timm_vit()
    renamed = compat.timm_vit_to_mmseg(state)
    # the last norm is there with final_norm=True
    VisionTransformer(**VIT, final_norm=True).load_state_dict(renamed, strict=True)
    keys = VisionTransformer(**VIT).load_state_dict(renamed, strict=False)
    assert keys.missing_keys == [] and keys.unexpected_keys == ['ln1.weight', 'ln1.bias']


@pytest.mark.mmseg
def test_timm_vit_computes_the_same():
    pytest.importorskip('mmseg')
    timm = pytest.importorskip('timm')
    from mmseg.models import VisionTransformer

    args = dict(img_size=64, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, num_classes=0)
    theirs = timm.models.VisionTransformer(**args).eval()
    ours = VisionTransformer(**VIT, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6))
    ours.eval()
    ours.load_state_dict(compat.timm_vit_to_mmseg(theirs.state_dict()))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_features(image)[:, 1:].transpose(1, 2).reshape(1, 32, 4, 4)
        torch.testing.assert_close(ours(image)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.mmseg
@pytest.mark.parametrize(
    'wrap', [lambda s: s, lambda s: dict(model=s), lambda s: dict(state_dict=s)]
)
def test_timm_scheme_in_a_config(tmp_path, wrap):
    pytest.importorskip('mmseg')
    from mmseg.registry import MODELS

    state = timm_vit()
    torch.save(wrap(state), tmp_path / 'deit.pth')
    init = dict(type='Pretrained', checkpoint=f'timm-vit+{tmp_path}/deit.pth')
    backbone = MODELS.build(dict(type='mmseg.VisionTransformer', init_cfg=init, **VIT))
    backbone.init_weights()
    found = backbone.state_dict()
    assert torch.equal(found['layers.1.ffn.layers.1.weight'], state['blocks.1.mlp.fc2.weight'])
    assert torch.equal(found['layers.0.attn.attn.in_proj_bias'], state['blocks.0.attn.qkv.bias'])
    assert torch.equal(found['pos_embed'], state['pos_embed'])
