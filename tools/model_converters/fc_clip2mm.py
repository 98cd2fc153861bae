"""Converts an official checkpoint of FC-CLIP for `hyper_mm.OpenVocabMask2Former`.

    python tools/model_converters/fc_clip2mm.py fcclip_cocopan.pth fc_clip.pth
    python tools/test.py configs/hyperclip/clip_convnext-l_coco-panoptic.py fc_clip.pth
        --cfg-options model.backbone.clip.pretrained= model.panoptic_head.temperature=...

The file holds all weights, CLIP's included. Temperatures are options of the config here and weights
there: the command prints those of the checkpoint. Weights that belong nowhere, and parts that have
none, are an error. The names are those of the layout of detectron2's Mask2Former with FC-CLIP's
additions; they were tested on generated checkpoints, not on the public one.
"""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

PIXELS = r'^sem_seg_head\.pixel_decoder\.'
QUERIES = r'^sem_seg_head\.predictor\.'
HEAD = 'panoptic_head.'
LAYER = rf'{HEAD}transformer_decoder.layers.\1.'
RULES = (
    (r'^backbone\.clip_model\.', 'backbone.clip.'),
    (rf'{PIXELS}input_proj\.(\d+)\.0\.', rf'{HEAD}pixel_decoder.input_convs.\1.conv.'),
    (rf'{PIXELS}input_proj\.(\d+)\.1\.', rf'{HEAD}pixel_decoder.input_convs.\1.gn.'),
    (rf'{PIXELS}transformer\.level_embed$', f'{HEAD}pixel_decoder.level_encoding.weight'),
    (
        rf'{PIXELS}transformer\.encoder\.layers\.(\d+)\.self_attn\.',
        rf'{HEAD}pixel_decoder.encoder.layers.\1.self_attn.',
    ),
    (
        rf'{PIXELS}transformer\.encoder\.layers\.(\d+)\.norm1\.',
        rf'{HEAD}pixel_decoder.encoder.layers.\1.norms.0.',
    ),
    (
        rf'{PIXELS}transformer\.encoder\.layers\.(\d+)\.norm2\.',
        rf'{HEAD}pixel_decoder.encoder.layers.\1.norms.1.',
    ),
    (
        rf'{PIXELS}transformer\.encoder\.layers\.(\d+)\.linear1\.',
        rf'{HEAD}pixel_decoder.encoder.layers.\1.ffn.layers.0.0.',
    ),
    (
        rf'{PIXELS}transformer\.encoder\.layers\.(\d+)\.linear2\.',
        rf'{HEAD}pixel_decoder.encoder.layers.\1.ffn.layers.1.',
    ),
    (rf'{PIXELS}adapter_1\.norm\.', f'{HEAD}pixel_decoder.lateral_convs.0.gn.'),
    (rf'{PIXELS}adapter_1\.', f'{HEAD}pixel_decoder.lateral_convs.0.conv.'),
    (rf'{PIXELS}layer_1\.norm\.', f'{HEAD}pixel_decoder.output_convs.0.gn.'),
    (rf'{PIXELS}layer_1\.', f'{HEAD}pixel_decoder.output_convs.0.conv.'),
    (rf'{PIXELS}mask_features\.', f'{HEAD}pixel_decoder.mask_feature.'),
    (
        rf'{QUERIES}transformer_cross_attention_layers\.(\d+)\.multihead_attn\.',
        f'{LAYER}cross_attn.attn.',
    ),
    (rf'{QUERIES}transformer_cross_attention_layers\.(\d+)\.norm\.', f'{LAYER}norms.0.'),
    (rf'{QUERIES}transformer_self_attention_layers\.(\d+)\.self_attn\.', f'{LAYER}self_attn.attn.'),
    (rf'{QUERIES}transformer_self_attention_layers\.(\d+)\.norm\.', f'{LAYER}norms.1.'),
    (rf'{QUERIES}transformer_ffn_layers\.(\d+)\.linear1\.', f'{LAYER}ffn.layers.0.0.'),
    (rf'{QUERIES}transformer_ffn_layers\.(\d+)\.linear2\.', f'{LAYER}ffn.layers.1.'),
    (rf'{QUERIES}transformer_ffn_layers\.(\d+)\.norm\.', f'{LAYER}norms.2.'),
    (rf'{QUERIES}decoder_norm\.', f'{HEAD}transformer_decoder.post_norm.'),
    (rf'{QUERIES}(query_feat|query_embed|level_embed)\.', rf'{HEAD}\1.'),
    (rf'{QUERIES}mask_embed\.layers\.(\d)\.', rf'{HEAD}mask_embed.#\1.'),
    (rf'{QUERIES}class_embed\.layers\.(\d)\.', rf'{HEAD}region_embed.#\1.'),
    (rf'{QUERIES}_mask_pooling_proj\.', f'{HEAD}mask_pooling_proj.'),
    (r'^void_embedding\.weight$', f'{HEAD}classifier.background'),
)
"""Official names, and those of :class:`hyper_mm.OpenVocabMask2Former`; `#` counts layers by two."""
SCALES = {
    'sem_seg_head.predictor.logit_scale': 'model.panoptic_head.temperature',
    'backbone.clip_model.logit_scale': 'model.panoptic_fusion_head.ensemble.temperature',
}
"""Logarithms of the inverse temperatures, and the options that take them."""
CONSTANTS = re.compile(r'(pixel_mean|pixel_std|criterion\.empty_weight|.*\.attn_mask)$')
"""What is no weight."""


def convert(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Converts a whole model.

    Args:
        state: State dict of the official model.

    Returns:
        State dict of :class:`hyper_mm.OpenVocabMask2Former`, and the temperatures by option.

    Raises:
        ValueError: If a weight belongs nowhere, or a part has none.
    """
    converted, temperatures, used, left = {}, {}, set(), []
    for name, weight in state.items():
        if name in SCALES:
            temperatures[SCALES[name]] = math.exp(-float(weight))
        if name in SCALES and not name.startswith('backbone.') or CONSTANTS.fullmatch(name):
            continue
        found = [(pattern, new) for pattern, new in RULES if re.match(pattern, name)]
        if not found:
            left.append(name)
            continue
        pattern, new = found[0]
        used.add(pattern)
        target = re.sub(pattern, new, name)
        target = re.sub(r'#(\d)', lambda x: str(2 * int(x[1])), target)
        converted[target] = weight.float()
    missing = [pattern for pattern, _ in RULES if pattern not in used]
    missing += [name for name in SCALES if SCALES[name] not in temperatures]
    if left or missing:
        raise ValueError(f'weights that belong nowhere: {sorted(left)}; parts without: {missing}')
    background = f'{HEAD}classifier.background'
    converted[background] = converted[background].flatten()
    return converted, temperatures


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='checkpoint of the official code')
    parser.add_argument('target', type=Path, help='file to write')
    args = parser.parse_args()
    import torch

    state = torch.load(args.source, map_location='cpu', weights_only=True)
    try:
        converted, temperatures = convert(state.get('model', state))
    except ValueError as error:
        parser.error(f'{args.source}: {error}')
    args.target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=converted), args.target)
    print(f'{len(converted)} weights in {args.target}')
    print('options: ' + ' '.join(f'{name}={value:.6g}' for name, value in temperatures.items()))


if __name__ == '__main__':
    main()
