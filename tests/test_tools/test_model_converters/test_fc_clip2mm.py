"""Checkpoints in FC-CLIP's layout: everything is converted, and loads into the model."""

from __future__ import annotations

import importlib.util
import math
import re
import sys

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from tests.conftest import REPO  # noqa: E402
from tests.helpers.open_vocab_det import build, pan_batch, panoptic, run  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')

PIXELS, QUERIES = 'sem_seg_head.pixel_decoder.', 'sem_seg_head.predictor.'
OFFICIAL = (
    (r'^backbone\.clip\.', 'backbone.clip_model.'),
    (r'^panoptic_head\.pixel_decoder\.', PIXELS),
    (r'^panoptic_head\.', QUERIES),
    (r'input_convs\.(\d)\.conv', r'input_proj.\1.0'),
    (r'input_convs\.(\d)\.gn', r'input_proj.\1.1'),
    (r'decoder\.level_encoding\.weight', 'decoder.transformer.level_embed'),
    (r'decoder\.encoder\.layers', 'decoder.transformer.encoder.layers'),
    (r'(encoder\.layers\.\d+)\.norms\.0', r'\1.norm1'),
    (r'(encoder\.layers\.\d+)\.norms\.1', r'\1.norm2'),
    (r'(encoder\.layers\.\d+)\.ffn\.layers\.0\.0', r'\1.linear1'),
    (r'(encoder\.layers\.\d+)\.ffn\.layers\.1', r'\1.linear2'),
    (r'lateral_convs\.0\.gn', 'adapter_1.norm'),
    (r'lateral_convs\.0\.conv', 'adapter_1'),
    (r'output_convs\.0\.gn', 'layer_1.norm'),
    (r'output_convs\.0\.conv', 'layer_1'),
    (r'mask_feature\.', 'mask_features.'),
    (r'transformer_decoder\.post_norm', 'decoder_norm'),
    (r'transformer_decoder\.layers\.(\d)\.cross_attn\.attn',
     r'transformer_cross_attention_layers.\1.multihead_attn'),
    (r'transformer_decoder\.layers\.(\d)\.norms\.0', r'transformer_cross_attention_layers.\1.norm'),
    (r'transformer_decoder\.layers\.(\d)\.self_attn\.attn',
     r'transformer_self_attention_layers.\1.self_attn'),
    (r'transformer_decoder\.layers\.(\d)\.norms\.1', r'transformer_self_attention_layers.\1.norm'),
    (r'transformer_decoder\.layers\.(\d)\.ffn\.layers\.0\.0', r'transformer_ffn_layers.\1.linear1'),
    (r'transformer_decoder\.layers\.(\d)\.ffn\.layers\.1', r'transformer_ffn_layers.\1.linear2'),
    (r'transformer_decoder\.layers\.(\d)\.norms\.2', r'transformer_ffn_layers.\1.norm'),
    (r'predictor\.mask_pooling_proj', 'predictor._mask_pooling_proj'),
)  # fmt: skip


@pytest.fixture(scope='module')
def converter():
    path = REPO / 'tools' / 'model_converters' / 'fc_clip2mm.py'
    spec = importlib.util.spec_from_file_location('fc_clip2mm', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def official_name(name):
    if name.endswith('classifier.background'):
        return 'void_embedding.weight'
    for old, new in OFFICIAL:
        name = re.sub(old, new, name)
    layer = re.match(rf'({re.escape(QUERIES)})(mask_embed|region_embed)\.(\d)\.(.*)', name)
    if layer:
        kind = dict(mask_embed='mask_embed', region_embed='class_embed')[layer[2]]
        name = f'{layer[1]}{kind}.layers.{int(layer[3]) // 2}.{layer[4]}'
    return name


@pytest.fixture(scope='module')
def official():
    """A model, and its weights under the official names."""
    model = build(panoptic('convnext'))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    state = {official_name(n): w.clone() for n, w in model.state_dict().items()}
    state['void_embedding.weight'] = state['void_embedding.weight'][None]
    state[f'{QUERIES}logit_scale'] = torch.tensor(math.log(20.0))
    state['criterion.empty_weight'] = torch.ones(4)
    state['pixel_mean'] = torch.zeros(3, 1, 1)
    return model, state


def test_everything_is_converted(converter, official):
    model, state = official
    converted, temperatures = converter.convert(state)
    own = model.state_dict()
    assert converted.keys() == own.keys()
    assert all(torch.equal(own[name], weight) for name, weight in converted.items())
    assert temperatures['model.panoptic_head.temperature'] == pytest.approx(1 / 20)


def test_leftovers_and_missing_parts_are_refused(converter, official):
    _, state = official
    with pytest.raises(ValueError, match='sem_seg_head.predictor.extra'):
        converter.convert(dict(state, **{f'{QUERIES}extra': torch.ones(1)}))
    rest = {n: w for n, w in state.items() if 'void_embedding' not in n}
    with pytest.raises(ValueError, match='void_embedding'):
        converter.convert(rest)


def test_command_line(converter, official, tmp_path, monkeypatch, capsys):
    model, state = official
    source, target = tmp_path / 'official.pth', tmp_path / 'new' / 'ours.pth'
    torch.save(dict(model=state), source)
    monkeypatch.setattr(sys, 'argv', ['fc_clip2mm.py', str(source), str(target)])
    converter.main()
    assert 'model.panoptic_head.temperature=0.05' in capsys.readouterr().out
    other = build(panoptic('convnext'))
    other.load_state_dict(torch.load(target, weights_only=True)['state_dict'], strict=True)
    with torch.no_grad():
        a, b = (run(m, pan_batch(), 'predict')[0].pred_panoptic_seg.sem_seg for m in (model, other))
    assert torch.equal(a, b)
    torch.save({'model': {'nothing': torch.ones(1)}}, source)
    with pytest.raises(SystemExit):
        converter.main()
