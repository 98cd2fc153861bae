"""Names of the official HELM models: a model renamed as there is the same after conversion."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture(scope='module')
def tool():
    return load_tool('model_converters/helm2mm.py')


def model_of(kind, init_std=None):
    attention = dict(type='LorentzAttention', num_heads=2)
    ffn = dict(type='LorentzSwiGLU', hidden_dims=5)
    cfg = dict(type='hyper_mm.HelmDecoder', vocab_size=13, embed_dims=9, depth=2)
    if kind == 'helm-mice':
        attention = dict(
            **dict(type='HMLA', num_heads=2, latent_dims=3, nope_dims=3, rope_dims=2, v_dims=4),
            q_latent_dims=4,
        )
        cfg.update(dense_ffn=ffn, num_dense_layers=1)
        ffn = dict(
            **dict(type='MiCE', hidden_dims=4, num_experts=3, combine='sequential'),
            **dict(renormalize=False, shared_curvature=None, learn_curvature=False),
            curvatures=(1.0, 1.0),
        )
    cfg.update(attention=attention, ffn=ffn, init_std=init_std)
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=cfg))
    with torch.no_grad():
        for parameter in model.parameters():  # nothing is as at the start
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def official_names(state, latent):
    """The state dict with the names of the official code, in containers as it might have them."""
    names = dict(wq='Wq', wk='Wk', wv='Wv', wo='final_linear')
    if latent:
        names = dict(wq='wq_b', wq_a='wq_a', wkv_a='wkv_a', wkv_b='wkv_b', wo='wo')
    outer = {
        'decoder.embedding.weight': 'module.token_embed.weight',
        'decoder.project.weight': 'module.final_proj.linear.weight',
        'decoder.project.bias': 'module.final_proj.linear.bias',
        'decoder.norm.weight': 'module.norm.weight',
        'head.weight': 'module.head.weight',
    }
    found = {'module.manifold.c': torch.ones(1)}
    for name, weight in state.items():
        if name.endswith('_extra_state'):  # of this package alone
            continue
        if name in outer:
            found[outer[name]] = weight
            continue
        if 'curvature' in name:
            continue
        number, part, tail = name.split('.', 4)[2:]
        prefix = f'module.blocks.{number}.'
        if part == 'attention' and tail == 'tau':
            found[f'{prefix}attn.tau'] = weight
            found[f'{prefix}attn.bias'] = torch.zeros(1)
        elif part == 'attention' and 'norm' in tail:
            found[f'{prefix}attn.{tail}'] = weight
        elif part == 'attention':
            linear, leaf = tail.split('.')
            found[f'{prefix}attn.{names[linear]}.linear.{leaf}'] = weight
        elif part in ('norm1', 'norm2', 'res1', 'res2'):
            leaf = 'weight' if 'norm' in part else 'w_y'
            found[f'{prefix}{part}.{leaf}'] = weight if leaf == 'w_y' else weight
        elif tail in ('w1', 'w2', 'w3', 'b1', 'b2', 'b3'):
            leaf = 'weight' if tail[0] == 'w' else 'bias'
            for i, own in enumerate(weight):
                found[f'{prefix}ffn.experts.{i}.w{tail[1]}.linear.{leaf}'] = own
        elif tail in ('gate', 'bias'):
            found[f'{prefix}ffn.gate.{"weight" if tail == "gate" else "bias"}'] = weight
        elif tail.startswith('shared.'):
            _, index, linear, leaf = tail.split('.')
            found[f'{prefix}ffn.shared_experts.{index}.{linear}.linear.{leaf}'] = weight
        elif tail == 'out_weight':
            found[f'{prefix}ffn.resnet.w_y'] = weight
        elif tail == 'out_log_scale':
            found[f'{prefix}ffn.resnet.scale'] = weight
        else:
            linear, leaf = tail.split('.')
            found[f'{prefix}ffn.{linear}.linear.{leaf}'] = weight
    return found


@pytest.mark.parametrize('kind', ['helm-d', 'helm-mice'])
def test_round_trip(tool, kind):
    model = model_of(kind)
    official = official_names(model.state_dict(), kind == 'helm-mice')
    assert not set(official) & set(model.state_dict())
    converted = tool.convert_state_dict(official)
    fresh = model_of(kind, init_std=0.02)  # takes over the official gain and scale
    missing, unexpected = fresh.load_state_dict(converted, strict=False)
    assert not unexpected and all('curvature' in name for name in missing)
    ids = torch.randint(0, 13, (2, 6))
    torch.testing.assert_close(fresh(ids), model(ids), rtol=0, atol=0)


def test_whole_points_lose_their_time(tool):
    model = model_of('helm-d')
    official = official_names(model.state_dict(), False)
    space = official['module.token_embed.weight']
    official['module.token_embed.weight'] = torch.cat([torch.ones(13, 1), space], 1)
    converted = tool.convert_state_dict(official)
    assert torch.equal(converted['decoder.embedding.weight'], space)


def test_bad_input(tool):
    official = official_names(model_of('helm-mice').state_dict(), True)
    for name in ('module.blocks.0.attn.other.weight', 'module.other'):
        with pytest.raises(KeyError, match=f'unknown key .*{name}'):
            tool.convert_state_dict({**official, name: torch.ones(2)})
    lacking = {k: v for k, v in official.items() if 'experts.1.w1.linear.weight' not in k}
    with pytest.raises(KeyError, match=r'experts \[1\] of .*w1 are missing'):
        tool.convert_state_dict(lacking)
    with pytest.raises(KeyError, match='second key'):
        tool.convert_state_dict({**official, 'module.lm_head.weight': torch.ones(13, 10)})
    with pytest.raises(KeyError, match='no blocks'):
        tool.convert_state_dict({'head.weight': torch.ones(13, 10)})


@pytest.mark.parametrize('kind', ['helm-d', 'helm-mice'])
def test_no_key_may_be_missing(tool, kind):
    official = official_names(model_of(kind).state_dict(), kind == 'helm-mice')
    left_out = ('manifold.c', 'attn.bias')
    for name in official:
        lacking = {k: v for k, v in official.items() if k != name}
        if name.endswith(left_out):
            assert len(tool.convert_state_dict(lacking))
            continue
        with pytest.raises(KeyError, match='lacks|are missing'):
            tool.convert_state_dict(lacking)


def test_small_biases_are_no_score_bias(tool):
    official = official_names(model_of('helm-d').state_dict(), False)
    official['module.blocks.0.ffn.w1.linear.bias'] = torch.full((1,), 3.0)
    assert tool.convert_state_dict(official)['decoder.blocks.0.ffn.w1.bias'] == 3
    with pytest.raises(KeyError, match='unknown key .*attn.bias'):
        tool.convert_state_dict({**official, 'module.blocks.0.attn.bias': torch.zeros(2)})
