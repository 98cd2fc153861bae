"""Checkpoints in CAT-Seg's layout: everything is converted, and loads into the segmentor."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from mmengine.runner import load_checkpoint  # noqa: E402

from tests.conftest import REPO  # noqa: E402
from tests.helpers.open_vocab import HYPERCLIP, SIZE, build  # noqa: E402

pytestmark = pytest.mark.mmseg
PREDICTOR = 'sem_seg_head.predictor.'
OFFICIAL = (
    (r'^embed\.', 'conv1.'),
    (r'^appearance_proj\.', 'guidance_projection.'),
    (r'^text_proj\.', 'text_guidance_projection.'),
    (r'^guidance_projs\.', 'decoder_guidance_projection.'),
    (r'^decoder\.head\.', 'head.'),
    (r'^decoder\.blocks\.0\.', 'decoder1.'),
    (r'^decoder\.blocks\.1\.', 'decoder2.'),
    (r'^(decoder\d\.)conv1\.', r'\1conv.double_conv.0.'),
    (r'^(decoder\d\.)norm1\.', r'\1conv.double_conv.1.'),
    (r'^(decoder\d\.)conv2\.', r'\1conv.double_conv.3.'),
    (r'^(decoder\d\.)norm2\.', r'\1conv.double_conv.4.'),
    (r'windows\.0\.', 'swin_block.block_1.'),
    (r'windows\.1\.', 'swin_block.block_2.'),
    (r'out_proj\.', 'attn.proj.'),
    (r'classes\.mlp\.', 'attention.MLP.'),
    (r'classes\.(norm\d)\.', r'attention.\1.'),
    (r'(block_\d\.)mlp\.0\.', r'\1mlp.fc1.'),
    (r'(block_\d\.)mlp\.2\.', r'\1mlp.fc2.'),
)


@pytest.fixture(scope='module')
def converter():
    path = REPO / 'tools' / 'model_converters' / 'cat_seg2mm.py'
    spec = importlib.util.spec_from_file_location('cat_seg2mm', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_aggregator(aggregator):
    """Weights of an aggregator under the official names."""
    state, found = aggregator.state_dict(), {}
    for name, weight in state.items():
        fused = re.match(r'(.*)project\.(qkv|guidance)\.(weight|bias)$', name)
        if fused and fused[2] == 'qkv':
            attention = 'attention.attention' if 'classes.' in fused[1] else 'attn'
            prefix = official_name(fused[1].replace('classes.', ''))
            for letter, rows in zip('qkv', weight.chunk(3)):
                if fused[3] == 'weight' and letter != 'v':
                    guidance = state[f'{fused[1]}project.guidance.weight'].chunk(2)
                    rows = torch.cat([rows, guidance['qk'.index(letter)]], 1)
                found[f'{prefix}{attention}.{letter}.{fused[3]}'] = rows
        elif not fused and 'padding' in name:
            new = name.replace('classes.padding_guidance', 'attention.padding_guidance')
            found[new.replace('classes.padding', 'attention.padding_tokens')] = weight
        elif not fused:
            windows = re.match(r'(layers\.\d+\.)norm\.(.*)', name)
            new = f'{windows[1]}swin_block.guidance_norm.{windows[2]}' if windows else name
            found[official_name(new)] = weight
    found['layers.0.swin_block.block_2.attn_mask'] = torch.zeros(1)
    return found


def official_name(name):
    for ours, theirs in OFFICIAL:
        name = re.sub(ours, theirs, name)
    return name


def official(model, apart=True, adapter=False):
    """Weights of a segmentor with a plain CLIP, named as in checkpoints of the official code."""
    aggregator = official_aggregator(model.decode_head.aggregator)
    state = {f'{PREDICTOR}transformer.{name}': weight for name, weight in aggregator.items()}
    for name in ('upsample1', 'upsample2'):
        own = getattr(model.decode_head, name).state_dict()
        state |= {f'sem_seg_head.{name}.{key}': weight for key, weight in own.items()}
    for name, weight in model.clip.state_dict().items():
        if apart and name.endswith('in_proj_weight'):
            for letter, rows in zip('qkv', weight.chunk(3)):
                key = name.replace('in_proj_weight', f'{letter}_proj_weight')
                state[f'{PREDICTOR}clip_model.{key}'] = rows.half()
        else:
            state[f'{PREDICTOR}clip_model.{name}'] = weight
        if adapter and name.endswith('in_proj_weight'):
            width = weight.shape[1]
            for letter in 'qkv':
                key = name.replace('attn.in_proj_weight', f'hyperbolic_attn.adapter_attn_{letter}')
                blocks = torch.eye(8) + 0.1 * torch.randn(width // 8, 8, 8)
                state[f'{PREDICTOR}clip_model.{key}.weights'] = blocks
    state['pixel_mean'] = torch.zeros(3, 1, 1)
    return state


def convert(converter, monkeypatch, tmp_path, state, *options):
    torch.save(dict(model=state), tmp_path / 'released.pth')
    target = tmp_path / 'converted.pth'
    argv = ['cat_seg2mm.py', str(tmp_path / 'released.pth'), str(target), *options]
    monkeypatch.setattr(sys, 'argv', argv)
    converter.main()
    return str(target)


@pytest.fixture
def plain():
    """A segmentor whose weights are all unlike those of any new one."""
    torch.manual_seed(5)
    model = build(finetune='full').eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter + 0.02 * torch.randn_like(parameter)).half())
    return model


@pytest.mark.parametrize('finetune', ['qv', 'full', 'frozen'])
@torch.no_grad()
def test_fine_tuned_clip_is_loaded(converter, monkeypatch, tmp_path, capsys, plain, finetune):
    path = convert(converter, monkeypatch, tmp_path, official(plain))
    printed = capsys.readouterr().out
    assert f'{len(plain.clip.state_dict())} of CLIP' in printed and 'of the head' in printed
    model = build(finetune=finetune).eval()
    image = torch.randn(1, 3, SIZE, SIZE)
    assert not torch.allclose(model(image), plain(image), atol=1e-3)
    load_checkpoint(model, path, map_location='cpu', strict=True)
    torch.testing.assert_close(model(image), plain(image), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_adapters_are_in_it(converter, monkeypatch, tmp_path, plain):
    state = official(plain, apart=False, adapter=True)
    path = convert(converter, monkeypatch, tmp_path, state)
    model = build(adapter=HYPERCLIP).eval()
    load_checkpoint(model, path, map_location='cpu')
    alone = convert(converter, monkeypatch, tmp_path, state, '--adapter')
    expected = torch.load(alone, weights_only=True)
    found = model.adapter.state_dict()
    assert {name for name in found if name.endswith('.weight')} == set(expected)
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
    key = 'visual.transformer.resblocks.0.attn.in_proj_weight'
    attention = model.clip.visual.transformer.resblocks[0].attn
    original = attention.parametrizations.in_proj_weight.original
    assert torch.equal(original, plain.clip.state_dict()[key])


@torch.no_grad()
def test_positions_are_resized_to_the_tower(plain):
    other = build(finetune='qv', clip=dict(plain_clip(), image_size=2 * SIZE))
    other.load_state_dict(plain.state_dict())
    assert other.clip.visual.positional_embedding.shape[0] == 4 * (SIZE // 8) ** 2 + 1
    own, first = other.clip.visual.positional_embedding, plain.clip.visual.positional_embedding
    assert torch.equal(own[0], first[0])


def plain_clip():
    from tests.helpers.open_vocab import config

    return config().clip


@pytest.mark.parametrize(
    ('key', 'message'),
    [
        (f'{PREDICTOR}clip_model.surprise.weight', 'belong nowhere.*surprise.weight'),
        (f'{PREDICTOR}transformer.surprise.weight', 'belong nowhere.*surprise.weight'),
        ('sem_seg_head.surprise.weight', 'belong nowhere.*sem_seg_head.surprise.weight'),
        ('sem_seg_head.upsample1.surprise', 'belong nowhere.*surprise'),
    ],
)
def test_what_is_left_over_is_refused(converter, plain, key, message):
    with pytest.raises(ValueError, match=message):
        converter.convert_checkpoint(official(plain) | {key: torch.ones(1)})


@pytest.mark.parametrize(
    'key',
    [
        f'{PREDICTOR}clip_model.visual.proj',
        f'{PREDICTOR}clip_model.transformer.resblocks.0.attn.k_proj_weight',
        f'{PREDICTOR}transformer.conv1.weight',
        'sem_seg_head.upsample2.bias',
    ],
)
def test_what_is_missing_is_refused(converter, plain, key):
    state = official(plain)
    del state[key]
    with pytest.raises(ValueError, match='missing|projections'):
        converter.convert_checkpoint(state)


def test_other_files(converter, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        convert(converter, monkeypatch, tmp_path, {'backbone.weight': torch.ones(1)})
    assert 'released.pth' in capsys.readouterr().err
