"""Converts the aggregator of released CAT-Seg and HyperCLIP checkpoints, and HyperCLIP's adapters.

    python tools/model_converters/cat_seg2mm.py model_final.pth cat_seg.pth
    python tools/model_converters/cat_seg2mm.py model_final.pth adapter.pth --adapter

The first file loads into `hyper_mm.OpenVocabSegmentor` by `load_from` (the head; CLIP comes from
its own public weights), the second into a HyperCLIP adapter by `adapter.load_state_dict`.
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
"""Released names, and those of :class:`hyper_mm.layers.CostAggregator`."""


def convert_aggregator(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts the weights of the released aggregator.

    Args:
        state: State dict with the released names.

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


def convert_adapters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Converts released HyperCLIP adapters.

    Args:
        state: State dict of the released CLIP model.

    Returns:
        State of :class:`hyper_mm.layers.HyperCLIPAdapter`.
    """
    mark = 'hyperbolic_attn.adapter_attn_'
    return {
        name.replace(mark, 'attn.').replace('.weights', '.weight'): weight
        for name, weight in state.items()
        if mark in name
    }


def select(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries below a prefix, without it."""
    return {name[len(prefix) :]: w for name, w in state.items() if name.startswith(prefix)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='released checkpoint')
    parser.add_argument('target', type=Path, help='file to write')
    parser.add_argument('--adapter', action='store_true', help="convert HyperCLIP's adapters")
    args = parser.parse_args()
    import torch

    state = torch.load(args.source, map_location='cpu', weights_only=True)
    state = state.get('model', state)
    if args.adapter:
        converted = convert_adapters(select(state, CLIP))
    else:
        aggregator = convert_aggregator(select(state, AGGREGATOR))
        converted = {f'{HEAD}aggregator.{name}': w for name, w in aggregator.items()}
        for name in UPSAMPLING:
            converted |= {
                f'{HEAD}{name}{k}': w for k, w in select(state, f'sem_seg_head.{name}').items()
            }
            converted |= {f'{HEAD}{name}{k}': w for k, w in select(state, name).items()}
    if not converted:
        parser.error(f'{args.source} has no such weights')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(converted if args.adapter else dict(state_dict=converted), args.target)
    print(f'{len(converted)} weights in {args.target}')


if __name__ == '__main__':
    main()
