"""Adapters on every family of open_clip's models and on Hugging Face's, built small, no weights."""

import copy
import warnings

import pytest
import torch
from torch import nn

from hyper_mm import apply_hyperclip
from hyper_mm.layers import HyperCLIPAdapter
from hyper_mm.layers.hyperclip.attention_kinds import tower_attentions
from hyper_mm.layers.hyperclip.weight_updates import (
    FullTuning,
    LoRAAdapter,
    TrainedPartsAdapter,
    apply_lora,
    train_parts,
)
from tests.helpers.clip_families import FAMILIES, features, make_family

open_clip = pytest.importorskip('open_clip')
pytest.importorskip('timm')

BLOCK = 8
KINDS = ('ViT-B-16', 'EVA01-g-14', 'EVA02-B-16', 'ViT-B-16-SigLIP', 'RN50', 'BERT')
"""A family of each kind of attention; the others are slow tests."""
HEAVY = ('ViTamin-S', 'MobileCLIP-B')


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return function(*args, **kwargs)


def families(slow):
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in FAMILIES
    ]


every = pytest.mark.parametrize('family', families(HEAVY), indirect=True, scope='module')
kinds = pytest.mark.parametrize(
    'family',
    families([name for name in FAMILIES if name not in KINDS]),
    indirect=True,
    scope='module',
)


@pytest.fixture(scope='module')
def family(request, tmp_path_factory):
    name = request.param
    if 'transformers' in name or name == 'BERT' or '-base-ViT' in name or 'nllb' in name:
        pytest.importorskip('transformers')
    return name, quiet(make_family, name, tmp_path_factory.mktemp('text'))


def towers_of(name):
    return tuple(tower for tower, widths in zip(('vision', 'text'), FAMILIES[name]) if widths)


def adapted(family, make=lambda **options: HyperCLIPAdapter(BLOCK, **options)):
    model = copy.deepcopy(family[1])
    return model, quiet(make(towers=towers_of(family[0])).attach, model)


def disturb(adapter, scale=0.05):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter += scale * torch.randn_like(parameter)


@torch.no_grad()
def run(model):
    return features(model)


def close(found, expected, rtol):
    return all((a - b).norm() <= rtol * b.norm() for a, b in zip(found, expected))


def same(found, expected):
    return all(torch.equal(a, b) for a, b in zip(found, expected))


@every
def test_a_cnn_is_named_and_the_other_tower_offered(family):
    name, model = family
    if towers_of(name) != ('text',):
        return
    model = copy.deepcopy(model)
    before = {n for n, _ in model.named_parameters()}
    for adapt in (lambda: apply_hyperclip(model, BLOCK), lambda: apply_lora(model, 2)):
        with pytest.raises(ValueError, match=r"the vision tower of .*towers=\('text',\)"):
            quiet(adapt)
    assert all(p.requires_grad for p in model.parameters())
    assert {n for n, _ in model.named_parameters()} == before


@every
def test_everything_of_an_adapter(family, tmp_path):
    """Trained count, gradients, switching, state with options, file, copy, merging."""
    name, base = family
    model, adapter = adapted(family)
    expected = run(base)
    assert close(run(model), expected, 1e-5)

    widths = [width for tower in FAMILIES[name] for width in tower]
    assert sum(p.numel() for p in adapter.parameters()) == sum(3 * BLOCK * d for d in widths)
    own = {id(p) for p in adapter.parameters()}
    assert own == {id(p) for p in model.parameters() if p.requires_grad}
    assert all(layer.attention.heads > 0 for layer in adapter.layers)
    assert not any('decoder' in layer.name for layer in adapter.layers)

    disturb(adapter)
    sum(x.square().sum() for x in features(model)).backward()
    moved = [p.grad is not None and bool(p.grad.ne(0).any()) for p in adapter.parameters()]
    assert all(moved), [n for (n, _), on in zip(adapter.named_parameters(), moved) if not on]
    found = run(model)
    assert not close(found, expected, 1e-4)
    with adapter.disabled():
        assert close(run(model), expected, 1e-5)
    assert same(run(model), found)

    adapter.save(tmp_path / 'adapter.safetensors')
    other, _ = adapted(
        family,
        lambda **options: HyperCLIPAdapter(
            BLOCK, checkpoint=tmp_path / 'adapter.safetensors', **options
        ),
    )
    assert close(run(other), found, 1e-5)
    with pytest.raises(ValueError, match="space='poincare', the model has space='euclidean'"):
        adapted(
            family,
            lambda **options: HyperCLIPAdapter(
                BLOCK,
                space='euclidean',
                checkpoint=tmp_path / 'adapter.safetensors',
                **options,
            ),
        )

    copied = copy.deepcopy(model)
    adapter.merge()
    assert close(run(model), found, 1e-5)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in base.named_parameters()]
    assert [type(m) for m in model.modules()] == [type(m) for m in base.modules()]
    assert close(run(copied), found, 1e-5)
    adapter.unmerge()
    assert same(run(model), found)


@kinds
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_merged_in_half_precision(family, dtype):
    """The merged weight is the product in float32, rounded once."""
    _, adapter = adapted(family)
    disturb(adapter)
    adapter.model.to(dtype)
    weights = [weight for layer in adapter.layers for weight in layer.weights()]
    updates = [update for layer in adapter.layers for update in layer.updates.values()]
    expected = [u.float()(w.frozen.float()).to(dtype) for u, w in zip(updates, weights)]
    adapter.model.to(dtype)
    adapter.merge()
    assert all(weight.frozen.dtype == dtype for weight in weights)
    assert all(torch.equal(w.frozen, e) for w, e in zip(weights, expected))


OTHERS = {
    'lora': lambda **options: LoRAAdapter(2, **options),
    'qv': lambda **options: TrainedPartsAdapter('qv', **options),
    'full': lambda **options: FullTuning(**options),
}


@kinds
@pytest.mark.parametrize('make', OTHERS.values(), ids=OTHERS)
def test_the_same_interface(family, make, tmp_path):
    name, base = family
    model, adapter = adapted(family, make)
    expected = run(base)
    assert close(run(model), expected, 1e-5)
    own = {id(p) for p in adapter.parameters()}
    assert own == {id(p) for p in model.parameters() if p.requires_grad}
    disturb(adapter, 0.02)
    found = run(model)
    assert not close(found, expected, 1e-4)
    with adapter.disabled():
        assert close(run(model), expected, 1e-5)
    assert same(run(model), found)
    adapter.save(tmp_path / 'adapter.pth')
    other, again = adapted(family, make)
    again.load(tmp_path / 'adapter.pth')
    assert close(run(other), found, 1e-5)
    with pytest.raises(ValueError, match='was trained with'):
        quiet(HyperCLIPAdapter(BLOCK, towers=towers_of(name)).attach, copy.deepcopy(base)).load(
            tmp_path / 'adapter.pth'
        )
    adapter.merge(trainable='all')
    assert all(p.requires_grad for p in model.parameters())
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in base.named_parameters()]
    assert close(run(model), found, 1e-5)


@kinds
@pytest.mark.parametrize('space', ['poincare', 'euclidean'])
def test_maps_of_inputs(family, space):
    """Within the largest length, they are what maps of weights are; some layers have no input."""
    name, base = family
    options = dict(space=space, curvature=1e-4)
    model, adapter = adapted(family, lambda **more: HyperCLIPAdapter(BLOCK, **options, **more))
    disturb(adapter)
    if name == 'EVA01-g-14' or name == 'EVA02-E-14':
        with pytest.raises(ValueError, match="past its linear layer: target must be 'weight'"):
            adapted(family, lambda **more: HyperCLIPAdapter(BLOCK, target='input', **more))
        return
    other, inputs = adapted(
        family, lambda **more: HyperCLIPAdapter(BLOCK, target='input', **options, **more)
    )
    disturb(inputs)
    found = run(model)
    assert close(run(other), found, 1e-4)
    with inputs.disabled():
        assert close(run(other), run(base), 1e-5)
    if space == 'euclidean':
        with inputs.cached():
            assert close(run(other), found, 1e-4)
        inputs.merge()
        assert close(run(other), found, 1e-4)
        inputs.unmerge()
        assert close(run(other), found, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['ViT-B-16', 'EVA02-B-16', 'BERT'])
def test_compiled(name, tmp_path):
    model = quiet(make_family, name, tmp_path)
    adapter = quiet(apply_hyperclip, model, BLOCK)
    disturb(adapter)
    expected = run(model)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    tokens = torch.randint(4, 98, (2, 16))
    with torch.no_grad():
        found = torch.compile(model.visual, backend='aot_eager')(images)
        texts = torch.compile(model.encode_text, backend='aot_eager')(tokens)
        assert close([found, texts], [model.encode_image(images), model.encode_text(tokens)], 1e-5)
    assert close(run(model), expected, 1e-5)


@pytest.mark.parametrize('name', ['coca_ViT-B-32', 'coca_base', 'ViT-B-16-SigLIP'])
def test_what_is_no_tower_is_named(name, tmp_path):
    model = make_family(name, tmp_path)
    other = 'attn_pool' if 'SigLIP' in name else 'text_decoder'
    with pytest.warns(UserWarning, match=rf'\d+ attention layers .* are not adapted.*{other}'):
        apply_hyperclip(model, BLOCK)
    rest = [m for n, m in model.named_modules() if other in n]
    assert rest and not any(hasattr(module, 'parametrizations') for module in rest)


class Tower(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.blocks = nn.ModuleList(attention(16, 2) for _ in range(2))


class Other(nn.Module):
    """Attention of another library: Hugging Face's text towers have their own."""

    def __init__(self, dim, heads):
        super().__init__()
        self.q = nn.Linear(dim, dim)


@pytest.mark.parametrize('adapt', [HyperCLIPAdapter(8).attach, apply_lora, train_parts])
def test_a_text_tower_of_another_library(adapt):
    clip = nn.Module()
    clip.visual, clip.text = Tower(nn.MultiheadAttention), Tower(Other)
    with pytest.raises(
        ValueError, match=r"the text tower of Module \(Tower\).*towers=\('vision',\)"
    ):
        adapt(clip)
    clip.visual = Tower(Other)
    with pytest.raises(ValueError, match='the vision tower .* nor has the other'):
        adapt(clip)


def test_towers_by_name():
    with pytest.raises(ValueError, match="towers must be some of .* got 'audio'"):
        tower_attentions(Tower(nn.MultiheadAttention), 'audio')
    clip = nn.Module()
    clip.visual, clip.transformer = Tower(nn.MultiheadAttention), Tower(nn.MultiheadAttention)
    apply_lora(clip, 2, towers=('text',))
    assert {n.split('.')[0] for n, p in clip.named_parameters() if p.requires_grad} == {
        'transformer'
    }
