"""All configs of the project, and the same at a size that a test can afford."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mmengine.config import Config

from tests.conftest import REPO
from tests.helpers.open_vocab import AGGREGATOR

CONFIGS = REPO / 'configs'
NAMES = sorted(
    path.relative_to(CONFIGS).as_posix()
    for path in CONFIGS.rglob('*.py')
    if '_base_' not in path.parts
)
SIDE = 64
"""Side of the images, where the model takes any."""
CLIP = dict(
    embed_dim=32,
    quick_gelu=True,
    vision_cfg=dict(image_size=32, layers=3, width=48, head_width=16, patch_size=8),
    text_cfg=dict(context_length=77, vocab_size=49408, width=32, heads=2, layers=3),
)
WIDTH = 48
"""Width of small vision transformers; small heads take 16 or 32 channels."""
ARCHS = {f'{deit}{name}': width for name, width in dict(tiny=192, small=384, base=768).items()
         for deit in ('', 'deit-')}  # fmt: skip


def without_weights(model: dict) -> dict:
    """The same model without the checkpoints that it would start from, at any depth, and without
    files of names that are not there."""
    if isinstance(model, dict):
        pretrained = dict(pretrained=None, init_cfg=None, teacher_checkpoint=None)
        return with_names(
            type(model)(
                {
                    k: pretrained[k] if k in pretrained else without_weights(v)
                    for k, v in model.items()
                }
            )
        )
    if isinstance(model, (list, tuple)):
        return type(model)(without_weights(part) for part in model)
    return copy.deepcopy(model)


def with_names(model: dict) -> dict:
    """The same model; where its vocabularies are files that a user would make, with other names."""
    found = copy.copy(model)
    for key, count in dict(vocabulary=6, train_vocabulary=4).items():
        path = model.get(key)
        if isinstance(path, str) and path.endswith('.txt') and not Path(path).is_file():
            found[key] = [f'thing {k}' for k in range(count)]
    return found


def dicts(value: object) -> Iterator[dict]:
    """All dicts within a config, from the outside to the inside."""
    if isinstance(value, dict):
        yield value
    inside = value.values() if isinstance(value, dict) else value
    for part in inside if isinstance(value, (dict, list, tuple)) else ():
        yield from dicts(part)


PART = re.compile(r"(\w+)\s*=\s*dict\(\s*(?:_\w+_=[^,]+,\s*)*type='([\w.]+)'(?=[,)\s])")
PARTS = re.compile(
    r'model|segmentor|backbone|neck|head|encoder|adapter|prompts|attention|ffn|loss$'
)


@functools.cache
def _parts(path: Path) -> frozenset[str]:
    """Types of the parts of models that a file and its bases name."""
    text = path.read_text(encoding='utf-8')
    found = {kind for key, kind in PART.findall(text) if PARTS.search(key)}
    bases = re.search(r"^_base_ = (\[[^\]]*\]|'[^']*')", text, re.MULTILINE)
    for base in re.findall(r"'([^']*)'", bases[1] if bases else ''):
        if '::' in base:
            found.add(base)
        elif not re.search('_base_/(datasets|schedules|default)', base):
            found |= _parts((path.parent / base).resolve())
    return frozenset(found)


def kind(name: str) -> tuple:
    """What tells a config from others: its folder, and the types of the parts of its model.

    They are read from the files, with those that a base names: to load all configs takes seconds.
    """
    folder = name.split('/')[0] if '/' in name else ''
    return folder, *sorted(_parts(CONFIGS / name))


def representatives() -> list[str]:
    """The first config of each kind, without those whose parts are all in another of the folder.

    So the plain siblings of models with a component are left out.
    """
    found: dict[tuple, str] = {}
    for name in NAMES:
        found.setdefault(kind(name), name)

    def within(one: tuple, other: tuple) -> bool:
        return one[0] == other[0] and set(one[1:]) < set(other[1:])

    return [name for k, name in found.items() if not any(within(k, other) for other in found)]


def small(name: str) -> Config:
    """A config without weights to load, of few and narrow layers, for small images.

    Types, options, pipelines, optimizer and number of classes stay.
    """
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model = without_weights(cfg.model)
    cfg.load_from = None
    side, widths = SIDE, {}
    for part in list(dicts(cfg.model)):
        shrink = SHRINK.get(str(part.get('type')).rsplit('.', 1)[-1])
        found = shrink(part) if shrink else None
        if found is not None:
            side, more = found
            widths.update(more)
        if shrink not in (None, _transformer, _swin):
            break  # it has seen to the whole model
    for part in dicts(cfg.model):
        _narrow(part, widths)
    _shrink_images(cfg, side)
    if cfg.get('optim_wrapper'):
        cfg.optim_wrapper.pop('accumulative_counts', None)
    return cfg


def _narrow(part: dict, widths: dict[int, int]) -> None:
    """Narrows what reads features of other widths now, and the layers of heads."""
    for key in ('in_channels', 'dim'):
        value = part.get(key)
        if isinstance(value, (list, tuple)):
            part[key] = [widths.get(v, v) for v in value]
        elif isinstance(value, int):
            part[key] = widths.get(value, value)
    if 'channels' in part and 'num_classes' in part:
        channels = widths.get(part['channels'], 32) if part.get('num_convs') == 0 else 32
        part['channels'] = channels
    for key in ('fc_out_channels', 'out_channels', 'conv_out_channels', 'feat_channels'):
        if isinstance(part.get(key), int):
            part[key] = 16


def _transformer(part: dict) -> tuple[int, dict]:
    levels = part.get('out_indices')
    depth = len(levels) if isinstance(levels, (list, tuple)) else 2
    if isinstance(levels, (list, tuple)):
        part['out_indices'] = list(range(depth))
    if 'embed_dims' in part:  # of mmseg
        width = part['embed_dims']
        part.update(embed_dims=WIDTH, num_layers=depth, num_heads=3)
        side = 4 * part['patch_size']
        part['img_size'] = (side, side)
    else:
        arch = part['arch']
        width = ARCHS[arch] if isinstance(arch, str) else arch['embed_dims']
        part['arch'] = dict(embed_dims=WIDTH, num_layers=depth, num_heads=3)
        if 'LorentzViT' not in part['type']:
            part['arch']['feedforward_channels'] = 2 * WIDTH
        side = 4 * part.get('patch_size', 16)
        part['img_size'] = side
    return side, {width: WIDTH, 256: 16, 64: 16}


def _swin(part: dict) -> tuple[int, dict]:
    small = dict(embed_dims=24, depths=[1, 1, 2, 1], num_heads=[3, 6, 12, 24])
    if 'arch' in part:
        part.update(arch=small, img_size=SIDE, window_size=2)
    else:
        part.update(small)
    return SIDE, {**{4 * w: w for w in (24, 48, 96, 192)}, 256: 16}


def _efficient_net(part: dict) -> tuple[int, dict]:
    part['arch'] = 'b0'
    return SIDE, {1792: 1280}


def _timm(part: dict) -> tuple[int, dict]:
    """Nothing: the networks of timm that are used are small. Heads behind them are narrowed."""
    return SIDE, {256: 16, 64: 16}


def _clip(part: dict) -> tuple[int, dict]:
    for holder in dicts(part):
        if 'clip' in holder:
            holder['clip'] = dict(model=copy.deepcopy(CLIP))
        if 'prompts' in holder and holder['prompts']:
            depths = [key for key in ('depth', 'image_depth') if key in holder['prompts']]
            holder['prompts'].update(dict.fromkeys(depths, 2))
        if holder.get('type') == 'hyper_mm.LatHAdapterHead':
            holder['embed_dims'] = CLIP['embed_dim']
        if holder.get('type') == 'hyper_mm.HyperCLIPAdapter':
            holder['block_size'] = 8
    return CLIP['vision_cfg']['image_size'], {}


def _open_vocabulary(part: dict) -> tuple[int, dict]:
    side, widths = _clip(part)
    if part['decode_head']['type'] == 'hyper_mm.TextSimilarityHead':
        return side, widths
    part['decode_head'].update(in_channels=CLIP['vision_cfg']['width'], guidance_channels=(16, 8))
    dims = dict.fromkeys(('text_dim', 'appearance_dim'), CLIP['embed_dim'])
    part['decode_head']['aggregator'].update({**AGGREGATOR, **dims})
    if part['test_cfg']['mode'] != 'whole':
        part['test_cfg'].update(size=48, window=32, stride=16)
    return side, widths


def _open_vocabulary_detector(part: dict) -> tuple[int, dict]:
    """A small ViT, or the smallest ConvNeXt in place of any network of stages."""
    transformer = part['backbone']['clip']['model'].startswith('ViT')
    _clip(part)
    channels = [16] * 4
    if transformer:
        part['neck']['in_channels'] = CLIP['vision_cfg']['width']
    else:
        convnext = dict(
            timm_model_name='convnext_atto', timm_model_pretrained=False, timm_pool='',
            timm_proj='linear', image_size=32,
        )  # fmt: skip
        part['backbone']['clip']['model']['vision_cfg'] = convnext
        channels = [40, 80, 160, 320]
        if 'neck' in part:
            part['neck']['in_channels'] = channels
    if 'roi_head' in part:
        part['roi_head']['bbox_head']['embed_dims'] = CLIP['embed_dim']
        return SIDE, {256: 16, 64: 16}
    head = part['panoptic_head']
    for inside in dicts(head):
        if 'embed_dims' in inside:
            inside['embed_dims'] = 16
        for key, value in dict(num_groups=4, num_feats=8, num_layers=1, num_heads=2).items():
            if key in inside:
                inside[key] = value
        if 'feedforward_channels' in inside:
            inside['feedforward_channels'] = 16
    head.update(in_channels=channels, embed_dims=CLIP['embed_dim'], num_queries=6)
    part['train_cfg']['num_points'] = 32
    return SIDE, {}


def shrink_san(part: dict, width: int = 32) -> tuple[int, dict]:
    """Shrinks mmseg's SAN, and fixes the size of its images."""
    part['data_preprocessor'].update(size_divisor=None, size=(SIDE, SIDE))
    part['data_preprocessor'].pop('test_cfg', None)
    image, text, head = part['image_encoder'], part['text_encoder'], part['decode_head']
    image.update(embed_dims=width, num_heads=4, num_layers=3, out_indices=(0, 1, 2))
    image.update(img_size=(SIDE // 2, SIDE // 2), patch_size=16)
    text.update(templates=['a {}.'], embed_dims=16, output_dims=16, num_layers=1, num_heads=2)
    head['train_cfg']['num_points'] = 16
    head['deep_supervision_idxs'] = [7]
    head['san_cfg'].update(clip_channels=width, embed_dims=24, num_queries=5)
    head['san_cfg']['cfg_encoder'].update(num_heads=2)
    head['san_cfg']['cfg_decoder'].update(num_heads=4, embed_channels=8, mlp_channels=8)
    head['maskgen_cfg'].update(embed_dims=width, num_heads=4, num_layers=2)
    head['maskgen_cfg'].update(out_dims=16, sos_token_num=5)
    if 'adapter' in part:
        part['adapter']['block_size'] = 8
    return SIDE, {}


def _language(part: dict) -> None:
    part['decoder'].update(vocab_size=97, depth=2)


SHRINK: dict[str, Callable[[dict], tuple[int, dict] | None]] = dict(
    VisionTransformer=_transformer,
    DistilledVisionTransformer=_transformer,
    LorentzViT=_transformer,
    SwinTransformer=_swin,
    TIMMBackbone=_timm,
    EfficientNet=_efficient_net,
    OpenVocabFasterRCNN=_open_vocabulary_detector,
    OpenVocabMask2Former=_open_vocabulary_detector,
    OpenVocabMaskRCNN=_open_vocabulary_detector,
    OpenVocabSegmentor=_open_vocabulary,
    MultimodalEncoderDecoder=shrink_san,
    PromptedCLIP=_clip,
    PromptKD=_clip,
    RadialCLIP=_clip,
    HelmForCausalLM=_language,
)


def _shrink_images(cfg: Config, side: int) -> None:
    """Sets the sizes of images in pipelines and preprocessors."""
    sizes = {
        'Resize': ('scale', (2 * side, side)),
        'RandomResize': ('scale', (2 * side, side)),
        'RandomCrop': ('crop_size', (side, side)),
        'RandomResizedCrop': ('scale', side),
        'EfficientNetRandomCrop': ('scale', side),
        'EfficientNetCenterCrop': ('crop_size', side),
        'CenterCrop': ('crop_size', side),
        'ResizeEdge': ('scale', side + side // 8),
        'ResizeShortestEdge': ('scale', (side, side)),
        'RandomChoiceResize': ('scales', [side, 2 * side]),
    }
    for part in dicts({k: v for k, v in cfg.items() if 'pipeline' in k or 'dataloader' in k}):
        key, value = sizes.get(part.get('type'), (None, None))
        if key in part:
            square = part['type'] == 'Resize' and not part.get('keep_ratio')
            part[key] = (side, side) if square else value
        if 'max_size' in part:
            part['max_size'] = 4 * side
    for part in dicts(dict(model=cfg.model, top=cfg.get('data_preprocessor'))):
        if 'mean' in part and part.get('size') is not None:
            part['size'] = (side, side)
