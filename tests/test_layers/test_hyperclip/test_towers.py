"""Adapters on every family of open_clip's models, built small and without weights."""

import copy
import warnings

import pytest
import torch
from torch import nn

from hyper_mm import apply_hyperclip
from hyper_mm.layers import HyperCLIPAdapter
from hyper_mm.layers.hyperclip.attention_kinds import tower_attentions
from hyper_mm.layers.hyperclip.weight_updates import apply_lora, train_parts

open_clip = pytest.importorskip('open_clip')

LAYERS = 2
SMALL_TIMM = {
    'convnext': 'convnext_atto',
    'eva': 'eva02_tiny_patch14_224',
    'fastvit': 'fastvit_t8',
    'swin': 'swin_s3_tiny_224',
    'vit': 'vit_tiny_patch16_224',
    'vitamin': 'vitamin_small_224',
}
BOTH = {'vision': LAYERS, 'text': LAYERS}
TEXT = {'text': LAYERS}
FAMILIES = {
    'ViT-B-16': BOTH,
    'ViT-B-32-quickgelu': BOTH,
    'ViT-M-16-alt': BOTH,
    'ViT-H-14-CLIPA': BOTH,
    'ViT-bigG-14-CLIPA': BOTH,
    'ViT-L-14-worldwide': BOTH,
    'ViT-bigG-14-worldwide': BOTH,
    'coca_ViT-B-32': BOTH,
    'coca_base': BOTH,
    'RN50': TEXT,
    'convnext_base': TEXT,
    'EVA02-B-16': TEXT,
    'ViT-B-16-SigLIP': TEXT,
    'ViT-B-16-SigLIP2': TEXT,
    'ViT-SO400M-16-SigLIP-i18n-256': TEXT,
    'MobileCLIP-S1': TEXT,
    'MobileCLIP2-S0': TEXT,
    'MobileCLIP2-B': TEXT,
    'PE-Core-B-16': TEXT,
    'swin_base_patch4_window7_224': TEXT,
    'vit_medium_patch16_gap_256': TEXT,
    'ViTamin-B': TEXT,
}
"""Attention layers that are adapted in each tower of a model reduced to two blocks a tower."""


def small(name):
    """A model of the family of ``name``, with small towers and random weights."""
    config = copy.deepcopy(open_clip.get_model_config(name))
    vision, text = config['vision_cfg'], config['text_cfg']
    config['embed_dim'] = 32
    if 'timm_model_name' in vision:
        family = vision['timm_model_name'].split('_')[0].rstrip('0123456789')
        vision.update(timm_model_name=SMALL_TIMM[family], timm_model_pretrained=False)
    elif isinstance(vision['layers'], list):
        vision.update(layers=[1, 1, 1, 1], width=16, image_size=64)
    else:
        vision.update(layers=LAYERS, width=64, head_width=32, patch_size=16, image_size=32)
        if vision.get('attentional_pool'):
            vision.update(attn_pooler_heads=2)
    text.update(layers=LAYERS, width=32, heads=2, vocab_size=100, context_length=16)
    multimodal = config.get('multimodal_cfg')
    if multimodal is not None:
        multimodal.update(width=32, layers=LAYERS, heads=2, context_length=15)
    custom = config.pop('custom_text', False)
    kind = open_clip.CLIP
    if multimodal is not None:
        kind = open_clip.CoCa
    elif custom or 'timm_model_name' in vision and 'hf_tokenizer_name' in text:
        kind = open_clip.CustomTextCLIP
    return kind(**config).eval()


@pytest.fixture(scope='module', params=FAMILIES.items(), ids=FAMILIES)
def family(request):
    pytest.importorskip('timm')
    return request.param[0], small(request.param[0]), request.param[1]


def quiet(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)
        return function(*args, **kwargs)


def test_both_towers_or_an_error_that_names_one(family):
    name, model, expected = family
    model = copy.deepcopy(model)
    before = {n for n, _ in model.named_parameters()}
    if expected == BOTH:
        adapter = quiet(apply_hyperclip, model, 8)
        count = [layer.tower for layer in adapter.layers].count
        assert {tower: count(tower) for tower in ('vision', 'text')} == expected
    else:
        for adapt in (lambda: apply_hyperclip(model, 8), lambda: apply_lora(model, 2)):
            with pytest.raises(ValueError, match=r"the vision tower of .*towers=\('text',\)"):
                quiet(adapt)
        assert all(p.requires_grad for p in model.parameters())
        assert {n for n, _ in model.named_parameters()} == before


def test_the_tower_that_the_error_offers(family):
    name, model, expected = family
    model = copy.deepcopy(model)
    adapter = quiet(apply_hyperclip, model, 8, towers=tuple(expected))
    assert {layer.tower for layer in adapter.layers} == set(expected)
    assert all('decoder' not in layer.name for layer in adapter.layers)
    tokens = torch.randint(1, 99, (2, 16))
    model.encode_text(tokens).sum().backward()
    grads = [
        p.grad is not None
        for n, p in adapter.named_maps()
        for p in p.parameters()
        if 'visual' not in n
    ]
    assert grads and all(grads)


@pytest.mark.parametrize('name', ['coca_ViT-B-32', 'coca_base'])
def test_what_is_no_tower_is_named(name):
    model = small(name)
    with pytest.warns(
        UserWarning, match=r'\d+ attention layers of CoCa are not adapted.*text_decoder'
    ):
        apply_hyperclip(model, 8)
    decoder = [m for n, m in model.named_modules() if n.startswith('text_decoder')]
    assert not any(hasattr(module, 'parametrizations') for module in decoder)


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
