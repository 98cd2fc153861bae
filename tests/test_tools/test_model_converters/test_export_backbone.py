"""Backbones out of checkpoints."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch

from tests.helpers.tools import load_tool

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


@pytest.fixture(scope='module')
def tool():
    pytest.importorskip('mmengine')
    return load_tool('model_converters/export_backbone.py')


def checkpoint(ema: bool = False) -> dict:
    state = {
        'backbone.conv.weight': torch.ones(2),
        'backbone.bn.bias': torch.zeros(2),
        'neck.mapper.tree.mu': torch.ones(2),
        'head.fc.weight': torch.ones(2),
        'head.fc.bias': torch.ones(2),
    }
    if not ema:
        return dict(state_dict=state, meta={})
    # as mmengine's EMAHook saves: the average as the weights, the model beside it
    plain = {f'module.{name}': weight + 1 for name, weight in state.items()}
    return dict(state_dict=state, ema_state_dict={'steps': torch.tensor(3), **plain}, meta={})


def test_writes_the_backbone_and_says_what_it_leaves_out(tool, tmp_path, monkeypatch, capsys):
    source, target = tmp_path / 'model.pth', tmp_path / 'new' / 'backbone.pth'
    torch.save(checkpoint(), source)
    monkeypatch.setattr(sys, 'argv', ['export_backbone.py', str(source), str(target)])
    tool.main()
    out = capsys.readouterr().out
    assert '2 tensors' in out and 'left out: head (2), neck (1)' in out
    written = torch.load(target, weights_only=True)
    assert set(written) == {'state_dict'}
    assert set(written['state_dict']) == {'conv.weight', 'bn.bias'}
    assert [path.name for path in target.parent.iterdir()] == ['backbone.pth']


@pytest.mark.parametrize('option, value', [('none', 1), ('ema', 1), ('raw', 2)])
def test_averaged_weights(tool, option, value):
    options = {} if option == 'none' else {option: True}
    state, left_out = tool.backbone_weights(checkpoint(ema=True), **options)
    assert state['conv.weight'].eq(value).all()
    assert left_out == dict(neck=1, head=2)


def test_refuses_what_is_not_there(tool, tmp_path, monkeypatch, capsys):
    for option in ('ema', 'raw'):
        with pytest.raises(ValueError, match=f'--{option} needs .* no ema_state_dict'):
            tool.backbone_weights(checkpoint(), **{option: True})
    with pytest.raises(ValueError, match=r"no weights named 'backbone\....'.*\['head'\]"):
        tool.backbone_weights({'head.fc.weight': torch.ones(1)})
    with pytest.raises(ValueError, match='no place for conv.weight'):
        tool.mmpretrain_vit_to_mmseg({'conv.weight': torch.ones(1), 'cls_token': torch.ones(1)})
    monkeypatch.setattr(sys, 'argv', ['export_backbone.py', str(tmp_path / 'no.pth'), 'out.pth'])
    with pytest.raises(SystemExit):
        tool.main()
    assert 'no.pth can not be found' in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return print, ('ran',)


def test_runs_no_code_of_a_checkpoint(tool, tmp_path, capsys):
    torch.save(dict(checkpoint(), extra=Evil()), tmp_path / 'model.pth')
    with pytest.raises(pickle.UnpicklingError):
        tool.export(tmp_path / 'model.pth', tmp_path / 'backbone.pth')
    assert 'ran' not in capsys.readouterr().out


@pytest.mark.mmpretrain
@pytest.mark.mmseg
def test_mmseg_computes_the_same_features(tool, tmp_path):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('mmseg')
    from mmpretrain.models import VisionTransformer as Pretrain
    from mmseg.models.backbones import VisionTransformer as Seg

    ours = Pretrain(arch=ARCH, img_size=32, patch_size=8, out_type='featmap')
    ours.eval()  # of these backbones, it returns nothing
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    state = {f'backbone.{name}': weight for name, weight in ours.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'model.pth')
    tool.export(tmp_path / 'model.pth', tmp_path / 'backbone.pth', to='mmseg')
    theirs = Seg(
        img_size=32,
        patch_size=8,
        embed_dims=16,
        num_layers=2,
        num_heads=2,
        mlp_ratio=2,
        out_indices=(1,),
        patch_bias=True,
        final_norm=True,
        norm_cfg=dict(type='LN', eps=1e-6),
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth')),
    )
    theirs.eval()
    theirs.init_weights()
    written = torch.load(tmp_path / 'backbone.pth', weights_only=True)['state_dict']
    assert written.keys() == theirs.state_dict().keys()
    images = torch.randn(2, 3, 32, 32)
    (expected,), (found,) = ours(images), theirs(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.mmpretrain
def test_a_stock_config_starts_from_it(tool, tmp_path):
    pytest.importorskip('mmpretrain')
    from mmengine.registry import init_default_scope

    from hyper_mm.registry import MODELS

    init_default_scope('mmpretrain')
    backbone = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    neck = dict(
        type='hyper_mm.HiMapperPooling',
        in_channels=16,
        num_prefix_tokens=1,
        num_leaves=8,
        num_levels=3,
        width=8,
        num_heads=2,
    )
    head = dict(type='VisionTransformerClsHead', in_channels=16, num_classes=3)
    model = MODELS.build(
        dict(
            type='hyper_mm.ImageClassifier',
            backbone=dict(backbone, out_type='raw'),
            neck=neck,
            head=head,
        )
    )
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    tool.export(tmp_path / 'model.pth', tmp_path / 'backbone.pth')
    init = dict(type='Pretrained', checkpoint=str(tmp_path / 'backbone.pth'))
    stock = MODELS.build(
        dict(type='ImageClassifier', backbone=dict(backbone, init_cfg=init), head=head)
    )
    stock.init_weights()
    expected, found = model.backbone.state_dict(), stock.backbone.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
