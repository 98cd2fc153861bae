"""Model converters: their command lines."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from hyper_mm.layers import HierarchyMapper
from tests.helpers.tools import load_tool

MAPPER = dict(num_leaves=8, num_levels=3, width=16, num_heads=2, hyp_dim=8)
DIM = 16


@pytest.fixture(scope='module')
def converter():
    return load_tool('model_converters/himapper2mm.py')


def official_state(mapper: HierarchyMapper) -> dict[str, torch.Tensor]:
    """The weights of a mapper under the names of the official code, with its dead keys."""
    prefixes = (
        ('tree.mu', 'last_l.node_mean'),
        ('tree.logvar', 'last_l.node_log_sigma'),
        ('decomposer.query_proj.', 'last_l.Etransformer.node_proj.'),
        ('decomposer.block.', 'last_l.Etransformer.decoder.0.'),
        ('decomposer.', 'last_l.Etransformer.'),
        ('lift.proj.weight', 'last_l.Llinear.weight'),
        ('lift.curvature.log', 'last_l.Llinear.lorentz.k'),
        ('encoder.query_proj.', 'mix_l.node_proj.'),
        ('encoder.blocks.', 'mix_l.decoder.'),
        ('encoder.', 'mix_l.'),
    )
    state = {}
    for name, weight in mapper.state_dict().items():
        if name.startswith('lift.alpha.') or name.endswith('log_initial'):
            continue
        ours, theirs = next(pair for pair in prefixes if name.startswith(pair[0]))
        new = theirs + name[len(ours) :]
        new = re.sub(r'(decoder\.\d+)\.value\.', r'\1.self_attn.v_proj.', new)
        new = re.sub(r'(mix_l\.decoder\.\d+)\.proj\.', r'\1.self_attn.proj.', new)
        weight = weight.T if ours == 'lift.proj.weight' else weight
        state[f'module.{new}'] = weight.squeeze() if ours == 'lift.curvature.log' else weight
    state['module.mix_l.decoder.0.memnorm.weight'] = torch.ones(16)
    state['module.mix_l.decoder.0.self_attn.q_proj.weight'] = torch.ones(16, 16)
    state['module.backbone.cls_token'] = torch.ones(1)
    return state


@pytest.mark.parametrize('wrap', ['state_dict', 'model', None])
def test_himapper_round_trip(converter, tmp_path, monkeypatch, capsys, wrap):
    mapper = HierarchyMapper(DIM, **MAPPER)
    for parameter in mapper.parameters():
        torch.nn.init.normal_(parameter)
    state = official_state(mapper)
    torch.save({wrap: state} if wrap else state, tmp_path / 'released.pth')
    argv = ['himapper2mm.py', str(tmp_path / 'released.pth'), str(tmp_path / 'mm.pth')]
    monkeypatch.setattr(sys, 'argv', argv)
    converter.main()
    assert 'converted' in capsys.readouterr().out
    converted = torch.load(tmp_path / 'mm.pth', weights_only=True)['state_dict']
    prefix = 'neck.mapper.'
    assert all(name.startswith(prefix) for name in converted)
    converted = {name[len(prefix) :]: weight for name, weight in converted.items()}
    expected = mapper.state_dict()
    assert converted.keys() == expected.keys()
    for name, weight in expected.items():
        if not name.startswith('lift.alpha.'):
            assert torch.equal(converted[name], weight), name
    loaded = HierarchyMapper(DIM, **MAPPER)
    loaded.load_state_dict(converted)
    assert loaded.lift.alpha() == 1
    assert torch.equal(loaded.lift.curvature(), mapper.lift.curvature())


def test_himapper_refuses_what_it_does_not_know(converter):
    with pytest.raises(KeyError, match='last_l.surprise'):
        converter.convert_state_dict({'last_l.surprise': torch.ones(1)})
    with pytest.raises(KeyError, match='no weights'):
        converter.convert_state_dict({'backbone.weight': torch.ones(1)})
