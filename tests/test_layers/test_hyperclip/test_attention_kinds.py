"""The table says where q, k and v are: checked by what attention does with them."""

import pytest
import torch
from torch import nn

from hyper_mm.layers.hyperclip.attention_kinds import (
    KINDS,
    attention_layer,
    check_free,
    tower_attentions,
)
from tests.helpers.golden import of_max

open_clip = pytest.importorskip('open_clip')
timm = pytest.importorskip('timm')
hf = pytest.importorskip('transformers')

WIDTH, HEADS = 16, 2


def config(kind, **sizes):
    made = kind(
        **{
            'hidden_size': WIDTH,
            'num_attention_heads': HEADS,
            'num_hidden_layers': 1,
            'intermediate_size': 8,
            'attention_probs_dropout_prob': 0.0,
            **sizes,
        }
    )
    made._attn_implementation = 'eager'
    return made


def torch_own():
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    return layer, lambda x: layer(x, x, x, need_weights=False)[0]


def called(layer):
    return layer, layer


def first(layer):
    return layer, lambda x: layer(x)[0]


def bert(kind):
    layer = kind(config(hf.BertConfig))
    return layer, lambda x: layer.output.dense(layer.self(x)[0])


def timm_rope():
    from timm.layers.attention import AttentionRope

    return called(AttentionRope(WIDTH, HEADS, qkv_fused=False))


def timm_fused():
    from timm.layers.attention import Attention

    return called(Attention(WIDTH, HEADS, qkv_bias=True))


def eva(fused):
    from timm.models.eva import EvaAttention

    return called(EvaAttention(WIDTH, HEADS, qkv_fused=fused, scale_norm=False))


def clip():
    from transformers.models.clip.modeling_clip import CLIPAttention

    return first(CLIPAttention(config(hf.CLIPVisionConfig)))


def siglip():
    from transformers.models.siglip.modeling_siglip import SiglipAttention

    return first(SiglipAttention(config(hf.SiglipVisionConfig)))


def bert_own():
    from transformers.models.bert.modeling_bert import BertAttention

    return bert(BertAttention)


def roberta():
    from transformers.models.roberta.modeling_roberta import RobertaAttention

    return bert(RobertaAttention)


def t5():
    from transformers.models.mt5.modeling_mt5 import MT5Attention

    made = hf.MT5Config(d_model=WIDTH, d_kv=WIDTH // HEADS, num_heads=HEADS, dropout_rate=0.0)
    layer = MT5Attention(made)
    return layer, lambda x: layer(x, cache_position=torch.arange(x.shape[1]))[0]


def distilbert():
    from transformers.models.distilbert.modeling_distilbert import MultiHeadSelfAttention

    made = hf.DistilBertConfig(dim=WIDTH, n_heads=HEADS, attention_dropout=0.0)
    layer = MultiHeadSelfAttention(made)
    return layer, lambda x: layer(x, x, x, torch.ones(x.shape[:2]))[0]


LAYERS = {
    'torch': torch_own,
    'open_clip': lambda: called(open_clip.transformer.Attention(WIDTH, HEADS)),
    'EVA01': lambda: eva(True),
    'timm': timm_fused,
    'EVA02': lambda: eva(False),
    'timm rope': timm_rope,
    'CLIP': clip,
    'SigLIP': siglip,
    'BERT': bert_own,
    'RoBERTa': roberta,
    'mT5': t5,
    'DistilBERT': distilbert,
}
X = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=LAYERS.values(), ids=LAYERS)
def layer(request):
    torch.manual_seed(0)
    module, run = request.param()
    module.eval()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            nn.init.normal_(parameter, std=0.0 if 'bias' in name else 0.5)
    return attention_layer(module), run


def rows(layer, part):
    for weight in layer.weights:
        if part in weight.parts:
            return weight.frozen.chunk(len(weight.parts))[weight.parts.index(part)]
    raise AssertionError(f'no {part}')


@torch.no_grad()
def test_each_part_does_what_it_is_called(layer):
    layer, run = layer
    assert layer.heads == HEADS
    assert {tuple(rows(layer, part).shape) for part in 'qkv'} == {(WIDTH, WIDTH)}
    before = run(X)
    rows(layer, 'q').mul_(4)
    assert not torch.allclose(run(X), before, rtol=1e-2)
    rows(layer, 'k').div_(4)  # the products of queries and keys are as they were
    limit = 64 * torch.finfo(torch.float32).eps  # a few dozen roundings, of the largest entry
    assert of_max(run(X), before) <= limit
    rows(layer, 'v').mul_(3)
    assert of_max(run(X), 3 * before) <= limit
    rows(layer, 'out').mul_(2)
    assert of_max(run(X), 6 * before) <= limit


@torch.no_grad()
def test_queries_and_keys_are_not_confused(layer):
    """The same offset of all keys changes nothing, that of all queries does."""
    layer, run = layer
    before, offset = run(X), torch.randn(WIDTH)
    for part in ('k', 'q'):
        weight = next(weight for weight in layer.weights if part in weight.parts)
        name = 'in_proj_bias' if weight.name == 'in_proj_weight' else 'bias'
        bias = getattr(weight.owner, name, None)
        if bias is None and part == 'k':
            continue  # some have one of the queries alone
        if bias is None:
            pytest.skip('queries and keys of this layer have no bias')
        bias.chunk(len(weight.parts))[weight.parts.index(part)].add_(offset)
        if part == 'k':
            assert of_max(run(X), before) <= 64 * torch.finfo(torch.float32).eps
    assert not torch.allclose(run(X), before, rtol=1e-2, atol=1e-2)


def test_every_kind_is_tested():
    found = {attention_layer(make()[0]).kind.title for make in LAYERS.values()}
    assert found == {kind.title for kind in KINDS}


def test_what_is_no_layer_of_a_kind():
    assert attention_layer(nn.Linear(4, 4)) is None
    assert attention_layer(nn.MultiheadAttention(4, 2, kdim=3)) is None  # keys of another width
    assert attention_layer(timm.layers.AttentionPoolLatent(16, num_heads=2)) is None


class Block(nn.Module):
    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)


def attention():
    return nn.MultiheadAttention(16, 2)


class TestTowers:
    def test_hugging_face_towers_alone(self):
        assert list(tower_attentions(Block(text_model=Block(a=attention())))) == ['text']
        assert list(tower_attentions(Block(vision_model=Block(a=attention())))) == ['vision']
        with pytest.raises(ValueError, match="it is a text tower by itself.*'text'"):
            tower_attentions(Block(text_model=Block(a=attention())), ('vision',))

    def test_cross_attention_and_pooling_are_left_out_with_a_warning(self):
        class AttentionalPooler(nn.Module):
            def __init__(self):
                super().__init__()
                self.attn = attention()

        model = Block(
            visual=Block(a=attention(), pool=AttentionalPooler()),
            text=Block(attention=attention(), crossattention=attention()),
        )
        with pytest.warns(UserWarning, match='2 attention layers .* visual.pool, text.cross'):
            found = tower_attentions(model)
        assert {t: list(layers) for t, layers in found.items()} == {
            'vision': ['visual.a'],
            'text': ['text.attention'],
        }

    def test_no_warning_of_a_tower_that_nobody_asked_for(self, recwarn):
        class AttentionPool2d(nn.Module):
            pass

        model = Block(visual=Block(pool=AttentionPool2d()), text=Block(a=attention()))
        assert list(tower_attentions(model, ('text',))) == ['text']
        assert not recwarn.list

    @pytest.mark.parametrize('towers', [(), ('audio',), ('text', 'text')])
    def test_bad_names(self, towers):
        with pytest.raises(ValueError, match='towers must be some of'):
            tower_attentions(Block(visual=Block(a=attention())), towers)

    def test_parametrizations_of_torch_are_no_place_for_an_adapter(self):
        layer = attention()
        nn.utils.parametrize.register_parametrization(layer, 'in_proj_weight', nn.Identity())
        plain = Block(visual=Block(a=attention()), text=Block(a=attention()))
        check_free(tower_attentions(plain), '0')
        layer = attention()
        nn.utils.parametrize.register_parametrization(layer.out_proj, 'bias', nn.Identity())
        taken = Block(visual=Block(a=layer), text=Block(a=attention()))
        with pytest.raises(ValueError, match=r'visual\.a of the model has an adapter already'):
            check_free(tower_attentions(taken), '0')
