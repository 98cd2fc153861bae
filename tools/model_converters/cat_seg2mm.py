"""Converts official checkpoints of CAT-Seg and HyperCLIP: head, fine-tuned CLIP, and adapters.

    python tools/model_converters/cat_seg2mm.py model_final.pth cat_seg.pth
    python tools/test.py configs/hyperclip/cat-seg_vit-b16_coco-stuff164k.py cat_seg.pth
        --cfg-options model.clip.pretrained=
    python tools/model_converters/cat_seg2mm.py model_final.pth adapter.pth --adapter

The first file holds all weights of a `hyper_mm.OpenVocabSegmentor` (`load_from`, or the checkpoint
of tools/test.py), so CLIP's public weights are not needed beside it; HyperCLIP's goes with the
hyperclip_*.py configs. The third command writes the adapters alone, for `adapter.load_state_dict`.
Weights that belong nowhere are an error.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


AGGREGATOR = 'sem_seg_head.predictor.transformer.'
CLIP = 'sem_seg_head.predictor.clip_model.'
HEAD = 'decode_head.'
UPSAMPLING = ('upsample1.', 'upsample2.')
NAMES = (
    (r'^conv1\.', 'embed.'),
    (r'^guidance_projection\.', 'appearance_proj.'),
    (r'^text_guidance_projection\.', 'text_proj.'),
    (r'^decoder_guidance_projection\.', 'guidance_projs.'),
    (r'^head\.', 'decoder.head.'),
    (r'^decoder1\.', 'decoder.blocks.0.'),
    (r'^decoder2\.', 'decoder.blocks.1.'),
    (r'conv\.double_conv\.0\.', 'conv1.'),
    (r'conv\.double_conv\.1\.', 'norm1.'),
    (r'conv\.double_conv\.3\.', 'conv2.'),
    (r'conv\.double_conv\.4\.', 'norm2.'),
    (r'swin_block\.guidance_norm\.', 'norm.'),
    (r'swin_block\.block_1\.', 'windows.0.'),
    (r'swin_block\.block_2\.', 'windows.1.'),
    (r'attn\.proj\.', 'out_proj.'),
    (r'mlp\.fc1\.', 'mlp.0.'),
    (r'mlp\.fc2\.', 'mlp.2.'),
    (r'attention\.MLP\.', 'classes.mlp.'),
    (r'attention\.(norm\d)\.', r'classes.\1.'),
)
"""Official names, and those of :class:`hyper_mm.layers.CostAggregator`."""
CONSTANTS = re.compile(
    r'(.*\.)?(attn_mask|(clip_)?pixel_(mean|std)|input_resolution|context_length|vocab_size'
    r'|text_features(_test)?|num_batches_tracked)'
)
"""What is no weight: masks, image statistics, sizes, and features that are computed anew."""
ADAPTER = 'hyperbolic_attn.adapter_attn_'


def convert_aggregator(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts the weights of the official aggregator.

    Args:
        state: State dict with the official names.

    Returns:
        State dict of :class:`hyper_mm.layers.CostAggregator`.
    """
    import torch

    converted, fused = {}, {}
    for name, weight in state.items():
        if name.endswith('attn_mask'):
            continue
        part = re.match(r'(.*\.)(attn|attention\.attention)\.([qkv])\.(weight|bias)$', name)
        if part:
            prefix, kind, letter, what = part.groups()
            prefix += 'classes.' if kind.startswith('attention') else ''
            fused.setdefault(prefix, {})[letter, what] = weight
            continue
        if 'padding' in name:
            name = name.replace('attention.padding_tokens', 'classes.padding')
            name = name.replace('attention.padding_guidance', 'classes.padding_guidance')
            weight = weight.flatten()
        converted[rename(name)] = weight
    for prefix, parts in fused.items():
        prefix = rename(prefix)
        dim = parts['v', 'weight'].shape[1]
        q, k, v = (parts[letter, 'weight'] for letter in 'qkv')
        converted[f'{prefix}project.qkv.weight'] = torch.cat([q[:, :dim], k[:, :dim], v])
        converted[f'{prefix}project.qkv.bias'] = torch.cat([parts[x, 'bias'] for x in 'qkv'])
        converted[f'{prefix}project.guidance.weight'] = torch.cat([q[:, dim:], k[:, dim:]])
    return converted


def rename(name: str) -> str:
    """Our name of a weight."""
    for old, new in NAMES:
        name = re.sub(old, new, name)
    return name


def convert_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts the official CLIP model, fine-tuned or not, with its adapters if it has some.

    Args:
        state: State dict of the official CLIP model, whose attention layers have the projections of
            queries, keys and values apart, or as one.

    Returns:
        State dict of open_clip's model with fused projections in float32, and maps where
        :class:`hyper_mm.HyperCLIPAdapter` has them in it.

    Raises:
        ValueError: If a weight is missing or belongs nowhere.
    """
    import torch

    converted, apart = {}, {}
    for name, weight in state.items():
        weight = weight.float()
        part = re.fullmatch(r'(.*\.attn\.)([qkv])_proj_weight', name)
        map_ = re.fullmatch(rf'(.*\.){ADAPTER}(\w+)\.weights', name)
        if part:
            apart.setdefault(part[1], {})[part[2]] = weight
        elif map_:
            place = 'attn.parametrizations.in_proj_weight.0.maps'
            converted[f'{map_[1]}{place}.{map_[2]}.weight'] = weight
        elif not CONSTANTS.fullmatch(name):
            converted[name] = weight
    for prefix, parts in apart.items():
        if set(parts) != set('qkv'):
            raise ValueError(f'{prefix} has the projections {sorted(parts)}, not q, k and v')
        converted[f'{prefix}in_proj_weight'] = torch.cat([parts[name] for name in 'qkv'])
    check_names({n: w for n, w in converted.items() if '.maps.' not in n}, _clip_names(converted))
    return converted


def _clip_names(state: dict[str, Tensor]) -> set[str]:
    """Names of the weights of a CLIP with as many blocks."""
    from hyper_mm.models.utils.open_clip import build_open_clip

    def blocks(prefix: str) -> int:
        found = [re.match(rf'{prefix}transformer\.resblocks\.(\d+)\.', name) for name in state]
        return 1 + max((int(x[1]) for x in found if x), default=0)

    vision = dict(image_size=8, patch_size=8, width=8, head_width=8, layers=blocks(r'visual\.'))
    text = dict(context_length=8, vocab_size=8, width=8, heads=1, layers=blocks(''))
    clip = build_open_clip(dict(embed_dim=8, vision_cfg=vision, text_cfg=text))
    return set(clip.state_dict())


def check_names(state: dict[str, Tensor], names: set[str], optional: str = 'nothing') -> None:
    """Raises ValueError if weights are left over or missing.

    Args:
        state: Converted weights.
        names: Names that they should have.
        optional: Pattern of names that may be missing.
    """
    left = sorted(set(state) - names)
    missing = sorted(name for name in names - set(state) if not re.search(optional, name))
    if left or missing:
        raise ValueError(f'weights that belong nowhere: {left}; that are missing: {missing}')


def convert_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts a whole official model.

    Args:
        state: State dict of the official model.

    Returns:
        State dict of :class:`hyper_mm.OpenVocabSegmentor`.

    Raises:
        ValueError: If a weight is missing or belongs nowhere.
    """
    from hyper_mm.layers import CostAggregator

    aggregator = convert_aggregator(select(state, AGGREGATOR))
    layers = {int(name.split('.')[1]) for name in aggregator if name.startswith('layers.')}
    names = set(CostAggregator(num_layers=max(len(layers), 1)).state_dict())
    check_names(aggregator, names, optional='padding')
    converted = {f'{HEAD}aggregator.{name}': weight.float() for name, weight in aggregator.items()}
    for name in UPSAMPLING:
        found = select(state, f'sem_seg_head.{name}') | select(state, name)
        check_names(found, {'weight', 'bias'})
        converted |= {f'{HEAD}{name}{key}': weight.float() for key, weight in found.items()}
    converted |= {f'clip.{name}': w for name, w in convert_clip(select(state, CLIP)).items()}
    known = (AGGREGATOR, CLIP, *UPSAMPLING, *(f'sem_seg_head.{name}' for name in UPSAMPLING))
    left = [n for n in state if not n.startswith(known) and not CONSTANTS.fullmatch(n)]
    if left:
        raise ValueError(f'weights that belong nowhere: {sorted(left)}')
    return converted


def convert_adapters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts official HyperCLIP adapters.

    Args:
        state: State dict of the official CLIP model.

    Returns:
        State of :class:`hyper_mm.layers.HyperCLIPAdapter`.
    """
    return {
        name.replace(ADAPTER, 'attn.').replace('.weights', '.weight'): weight
        for name, weight in state.items()
        if ADAPTER in name
    }


def select(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries below a prefix, without it."""
    return {name[len(prefix) :]: w for name, w in state.items() if name.startswith(prefix)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='checkpoint of the official code')
    parser.add_argument('target', type=Path, help='file to write')
    parser.add_argument('--adapter', action='store_true', help="convert HyperCLIP's adapters")
    args = parser.parse_args()
    import torch

    state = torch.load(args.source, map_location='cpu', weights_only=True)
    state = state.get('model', state)
    try:
        if args.adapter:
            converted = convert_adapters(select(state, CLIP))
        else:
            converted = convert_checkpoint(state)
    except ValueError as error:
        parser.error(f'{args.source}: {error}')
    if not converted:
        parser.error(f'{args.source} has no such weights')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(converted if args.adapter else dict(state_dict=converted), args.target)
    parts = (
        ('of the head', sum(name.startswith(HEAD) for name in converted)),
        ('of CLIP', sum(n.startswith('clip.') and '.maps.' not in n for n in converted)),
        ('of adapters', len(converted) if args.adapter else sum('.maps.' in n for n in converted)),
    )
    counts = ', '.join(f'{count} {name}' for name, count in parts if count)
    print(f'{len(converted)} weights in {args.target}: {counts}')


if __name__ == '__main__':
    main()
