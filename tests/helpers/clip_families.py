"""One small model, with random weights, of each family of open_clip, and Hugging Face's."""

import copy
import functools
from pathlib import Path
from unittest import mock

import torch

SIDE = 64
VIT = dict(depth=2, embed_dim=64, num_heads=2, patch_size=16, img_size=SIDE)
TIMM = {
    'convnext': dict(depths=(1, 1, 1, 1), dims=(16, 16, 32, 32)),
    'eva': VIT,
    'eva02': VIT,
    'fastvit': dict(layers=(1, 1, 1, 1), embed_dims=(32, 32, 64, 64)),
    'swin': dict(depths=(1, 1, 1, 1), embed_dim=32, num_heads=(1, 1, 2, 2), img_size=SIDE),
    'vit': VIT,
    'vitamin': {},
}
"""What makes an architecture of timm small, by the first word of its name."""
TEXT = (32, 32)
BOTH = ((64, 64), TEXT)
FAMILIES = {
    'ViT-B-16': BOTH,
    'ViT-B-32-quickgelu': BOTH,
    'ViT-H-14-CLIPA': BOTH,
    'ViT-L-14-worldwide': BOTH,
    'coca_ViT-B-32': BOTH,
    'coca_base': BOTH,
    'RN50': ((), TEXT),
    'convnext_base': ((), TEXT),
    'EVA01-g-14': BOTH,
    'EVA02-B-16': BOTH,
    'EVA02-E-14': BOTH,
    'ViT-B-16-SigLIP': BOTH,
    'ViT-B-16-SigLIP2': BOTH,
    'ViT-SO400M-16-SigLIP-i18n-256': BOTH,
    'MobileCLIP-B': ((768, 768), TEXT),
    'MobileCLIP-S1': ((64,), TEXT),
    'MobileCLIP2-S0': ((64,), TEXT),
    'MobileCLIP2-L-14': BOTH,
    'PE-Core-B-16': BOTH,
    'swin_base_patch4_window7_224': ((32, 64, 128, 256), TEXT),
    'vit_medium_patch16_gap_256': BOTH,
    'vit_relpos_medium_patch16_cls_224': BOTH,
    'ViTamin-S': ((384, 384), TEXT),
    'roberta-ViT-B-32': BOTH,
    'xlm-roberta-base-ViT-B-32': BOTH,
    'mt5-base-ViT-B-32': BOTH,
    'nllb-clip-base-siglip': BOTH,
    'BERT': BOTH,
    'transformers.CLIPModel': BOTH,
    'transformers.SiglipModel': BOTH,
    'transformers.Siglip2Model': BOTH,
}
"""Widths of the layers that are adapted, of the vision tower and of the text tower."""


def _hf_config(name: str):
    """Configuration of a small text tower of transformers, by a word of the model's name."""
    import transformers as hf

    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    if 'mt5' in name:
        sizes = dict(d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
        return hf.MT5Config(vocab_size=100, **sizes)
    if 'nllb' in name:
        return hf.M2M100Config(
            vocab_size=100,
            d_model=32,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=40,
        )
    if 'xlm' in name:
        return hf.XLMRobertaConfig(vocab_size=100, max_position_embeddings=40, **sizes)
    if 'roberta' in name:
        return hf.RobertaConfig(vocab_size=100, max_position_embeddings=40, **sizes)
    return hf.BertConfig(vocab_size=100, max_position_embeddings=40, **sizes)


def _transformers(name: str):
    import transformers as hf

    text = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    vision = dict(text, hidden_size=64, image_size=SIDE, patch_size=16, num_patches=16)
    text |= dict(vocab_size=100, max_position_embeddings=16, projection_size=32, eos_token_id=99)
    kind = getattr(hf, name.replace('Model', 'Config'))
    return getattr(hf, name)(kind(text_config=text, vision_config=vision))


def make_family(name: str, folder: Path):
    """Builds the small model of a family.

    Args:
        name: A name of :data:`FAMILIES`.
        folder: Where configurations of text towers may be written.

    Returns:
        The model, in evaluation.
    """
    torch.manual_seed(0)
    if name.startswith('transformers.'):
        return _transformers(name.split('.')[1]).eval()
    import open_clip

    config = copy.deepcopy(open_clip.get_model_config('ViT-B-16' if name == 'BERT' else name))
    vision, text = config['vision_cfg'], config['text_cfg']
    config['embed_dim'] = 32
    overrides = {}
    if 'timm_model_name' in vision:
        overrides = TIMM[vision['timm_model_name'].split('_')[0]]
        vision.update(timm_model_pretrained=False, image_size=SIDE)
        if 'vitamin' in vision['timm_model_name']:
            vision.update(timm_model_name='vitamin_small_224', image_size=224)
        if '_mci_' in vision['timm_model_name']:  # its stem has the width of the base model
            overrides = dict(depth=2, img_size=SIDE)
    elif isinstance(vision['layers'], list):
        vision.update(layers=[1, 1, 1, 1], width=16, image_size=SIDE)
    else:
        vision.update(layers=2, width=64, head_width=32, patch_size=16, image_size=SIDE)
        if vision.get('attentional_pool'):
            vision.update(attn_pooler_heads=2)
    hf = 'hf_model_name' in text or name == 'BERT'
    if hf:
        _hf_config(name).save_pretrained(folder)
        text = dict(
            hf_model_name=str(folder), hf_model_pretrained=False, hf_pooler_type='mean_pooler'
        )
        config['text_cfg'] = text
    else:
        text.update(layers=2, width=32, heads=2, vocab_size=100, context_length=16)
    multimodal = config.get('multimodal_cfg')
    if multimodal is not None:
        multimodal.update(width=32, layers=2, heads=2, context_length=15)
    custom = config.pop('custom_text', False)
    kind = open_clip.CLIP
    if multimodal is not None:
        kind = open_clip.CoCa
    elif custom or hf or 'timm_model_name' in vision and 'hf_tokenizer_name' in text:
        kind = open_clip.CustomTextCLIP
    import timm

    with mock.patch('timm.create_model', functools.partial(timm.create_model, **overrides)):
        model = kind(**config).eval()
    if name.startswith('ViTamin'):
        trunk = model.visual.trunk
        trunk.blocks = trunk.blocks[:2]
    return model


WORDS = ['a', 'an', 'photo', 'of', 'cat', 'dog', 'polar', 'bear', 'animal', 'sea', 'x', '.']


def bert_config(folder: Path, vision: dict, kind: str = 'bert') -> dict:
    """Model config of open_clip with a small text tower of Hugging Face, and its files.

    Args:
        folder: Where configuration and tokenizer are written.
        vision: ``vision_cfg``.
        kind: ``'bert'`` or ``'roberta'``.

    Returns:
        The config, of three blocks of width 24 and features of 16.
    """
    import transformers as hf

    sizes = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=48)
    config = hf.BertConfig if kind == 'bert' else hf.RobertaConfig
    config(vocab_size=40, max_position_embeddings=24, **sizes).save_pretrained(folder)
    words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS]
    if kind == 'roberta':  # its padding is the second id
        words[:2] = words[1::-1]
    (folder / 'vocab.txt').write_text('\n'.join(words))
    hf.BertTokenizerFast(str(folder / 'vocab.txt')).save_pretrained(folder)
    text = dict(
        hf_model_name=str(folder),
        hf_tokenizer_name=str(folder),
        hf_model_pretrained=False,
        hf_proj_type='linear',
        hf_pooler_type='mean_pooler',
    )
    return dict(embed_dim=16, quick_gelu=True, vision_cfg=vision, text_cfg=text)


def features(model: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of two images and two texts, the same for each call."""
    generator = torch.Generator().manual_seed(3)
    dtype = next(model.parameters()).dtype
    side = getattr(getattr(model, 'visual', None), 'image_size', (SIDE,))
    side = side[0] if isinstance(side, (tuple, list)) else side
    images = torch.randn(2, 3, side, side, generator=generator).to(dtype)
    tokens = torch.randint(4, 98, (2, 16), generator=generator)
    text = getattr(model, 'text', model)
    if getattr(text, 'pool_type', getattr(text, 'text_pool_type', None)) == 'eos':
        # without it the first token is read, which sees itself alone
        tokens[:, -1] = getattr(text, 'eos_id', getattr(text, 'text_eos_id', None))
    if hasattr(model, 'encode_image'):
        return model.encode_image(images), model.encode_text(tokens)
    tokens[:, -1] = 99
    if 'Siglip2' in type(model).__name__:
        patches = images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 4, 5, 1)
        shapes = torch.full((2, 2), side // 16)
        mask = torch.ones(2, 16, dtype=torch.long)
        image = model.get_image_features(
            pixel_values=patches.flatten(1, 2).flatten(2),
            pixel_attention_mask=mask,
            spatial_shapes=shapes,
        )
    else:
        image = model.get_image_features(pixel_values=images)
    return image, model.get_text_features(input_ids=tokens)
