"""peft's LoRA and OFT on the projections, as arms of comparisons."""

import copy

import pytest
import torch

open_clip = pytest.importorskip('open_clip')
pytest.importorskip('mmengine')
peft = pytest.importorskip('peft')
pytest.importorskip('transformers')

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.clip_families import features, make_family  # noqa: E402


def build(**options):
    return MODELS.build(dict(type='hyper_mm.PeftAdapter', **options))


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
    return make_family('BERT', tmp_path_factory.mktemp('text'))


@torch.no_grad()
def run(model):
    return features(model)


def same(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected))


def close(found, expected, rtol=1e-5):
    return all((a - b).norm() <= rtol * b.norm() for a, b in zip(found, expected))


ARMS = {
    'oft': (dict(method='OFT', oft_block_size=8), 2 * 3 * 4 * (8 * 7 // 2)),
    'lora': (dict(method='LORA', r=2), 2 * 3 * 2 * 2 * 32),
}


@pytest.mark.parametrize(('options', 'count'), ARMS.values(), ids=ARMS)
def test_an_arm_on_a_text_tower_of_hugging_face(bert, options, count):
    model = copy.deepcopy(bert)
    adapter = build(towers=('text',), **options).attach(model)
    assert sum(p.numel() for p in adapter.parameters()) == count
    assert f'{count:,} parameters' in repr(adapter)
    own = {id(p) for p in adapter.parameters()}
    assert own == {id(p) for p in model.parameters() if p.requires_grad}
    assert close(run(model), run(bert))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    found = run(model)
    assert same(found[:1], run(bert)[:1]) and not close(found[1:], run(bert)[1:], 1e-3)
    with adapter.disabled():
        assert close(run(model), run(bert))
    other = copy.deepcopy(bert)
    again = build(towers=('text',), **options).attach(other)
    again.load_state_dict(adapter.state_dict())
    assert same(run(other), found)
    adapter.merge()
    assert close(run(model), found, 1e-4)


def test_lora_of_fused_attention(bert):
    """peft has a layer of its own for torch's attention; q, k and v are one matrix there."""
    model = copy.deepcopy(bert)
    four = ('q', 'k', 'v', 'out')
    adapter = build(method='LORA', r=2, projections=four, towers=('vision',)).attach(model)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained and all('attn' in n and n.startswith('visual.') for n in trained)
    sum(x.sum() for x in features(model)[:1]).backward()
    assert any(p.grad is not None for p in adapter.parameters())


def test_what_peft_does_not_reach(bert, tmp_path):
    with pytest.raises(ValueError, match="peft's OFT does not reach .*MultiheadAttention"):
        build(towers=('vision',)).attach(copy.deepcopy(bert))
    with pytest.raises(ValueError, match='peft adapts q, k, v, out of visual.* as a whole'):
        build(method='LORA', projections='qv').attach(copy.deepcopy(bert))
    eva = make_family('EVA01-g-14', tmp_path)
    with pytest.raises(ValueError, match="peft's LORA does not reach .*EvaAttention"):
        build(method='LORA', towers=('vision',)).attach(eva)
    assert all(p.requires_grad for p in eva.parameters())


def test_bad_options(bert):
    with pytest.raises(ValueError, match="method must be one of .* got 'BOFT'"):
        build(method='BOFT')
    with pytest.raises(ValueError, match='projections must be some of'):
        build(projections='qx')
    with pytest.raises(ValueError, match='not attached'):
        build(oft_block_size=8).merge()
    adapter = build(towers=('text',), oft_block_size=8).attach(copy.deepcopy(bert))
    with pytest.raises(ValueError, match='attached to a model already'):
        adapter.attach(copy.deepcopy(bert))
    other = build(towers=('text',), oft_block_size=16).attach(copy.deepcopy(bert))
    with pytest.raises(ValueError, match='oft_block_size=8, the model has oft_block_size=16'):
        other.load_state_dict(adapter.state_dict())


def test_why_hyperclip_is_no_tuner_of_peft():
    """Its registry takes names of a closed list alone; docs/hyperclip.md says so."""
    from peft.tuners.hra import HRAConfig, HRAModel
    from peft.utils import register_peft_method

    with pytest.raises(ValueError, match='Unknown PEFT type HYPERCLIP'):
        register_peft_method(name='hyperclip', config_cls=HRAConfig, model_cls=HRAModel)
