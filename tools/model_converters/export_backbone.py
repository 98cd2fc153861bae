r"""Writes the weights of a checkpoint's backbone alone, for any stock config to start from.

This is how a backbone that was trained with Hi-Mapper goes on without it:

    python tools/model_converters/export_backbone.py work_dirs/x/epoch_50.pth backbone.pth
    # then, in a stock config: backbone=dict(init_cfg=dict(type='Pretrained',
    #     checkpoint='backbone.pth'))

`--to mmseg` renames the weights of mmpretrain's VisionTransformer for mmseg's, which has a place
for all of them, and the same features, with `patch_bias=True, final_norm=True` and
`norm_cfg=dict(type='LN', eps=1e-6)`.

Where an EMAHook was at work, the weights of a checkpoint are the averaged ones, and the plain ones
lie beside them: `--ema` insists on the former, `--raw` takes the latter.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


PREFIX = 'backbone.'
TO_MMSEG = (
    (r'^layers\.(\d+)\.attn\.qkv\.', r'layers.\1.attn.attn.in_proj_'),
    (r'^layers\.(\d+)\.attn\.proj\.', r'layers.\1.attn.attn.out_proj.'),
)
VIT = re.compile(
    r'(pos_embed|cls_token|patch_embed\.projection\..*|ln1\..*'
    r'|layers\.\d+\.(ln[12]|attn\.(qkv|proj)|ffn\.layers\.(0\.0|1))\..*)'
)


def backbone_weights(
    checkpoint: dict, ema: bool = False, raw: bool = False
) -> tuple[dict[str, Tensor], Counter]:
    """Finds the backbone's weights.

    Args:
        checkpoint: A checkpoint of a classifier, segmentor or detector.
        ema: Refuse a checkpoint without averaged weights.
        raw: Take the weights that were not averaged.

    Returns:
        State dict without the prefix `backbone.`, and the number of tensors left out by the name of
        the part they belong to.

    Raises:
        ValueError: If the checkpoint has no backbone, or no average that was asked for.
    """
    state = checkpoint.get('state_dict', checkpoint)
    if ema or raw:
        if 'ema_state_dict' not in checkpoint:
            option = '--ema' if ema else '--raw'
            raise ValueError(
                f'{option} needs a checkpoint that was written beside an EMAHook: '
                'this one has no ema_state_dict'
            )
        if raw:  # mmengine saves the average as state_dict, and the model as ema_state_dict
            state = {
                name[len('module.') :]: weight
                for name, weight in checkpoint['ema_state_dict'].items()
                if name.startswith('module.')
            }
    found = {n[len(PREFIX) :]: w for n, w in state.items() if n.startswith(PREFIX)}
    if not found:
        parts = sorted({name.split('.')[0] for name in state})
        raise ValueError(f"no weights named '{PREFIX}...' in this checkpoint, which has {parts}")
    return found, Counter(name.split('.')[0] for name in state if not name.startswith(PREFIX))


def mmpretrain_vit_to_mmseg(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of mmpretrain's `VisionTransformer` to mmseg's names.

    Args:
        state: State dict of the backbone.

    Returns:
        State dict of `mmseg.VisionTransformer` with `patch_bias=True` and `final_norm=True`.

    Raises:
        ValueError: If there are weights that mmseg's has no place for, as in other backbones.
    """
    unknown = [name for name in state if not VIT.fullmatch(name)]
    if unknown:
        raise ValueError(
            "--to mmseg is for mmpretrain's VisionTransformer; mmseg's has no place for "
            f'{", ".join(sorted(unknown)[:4])}{" ..." if len(unknown) > 4 else ""}'
        )
    renamed = {}
    for name, weight in state.items():
        for pattern, new in TO_MMSEG:
            name = re.sub(pattern, new, name)
        renamed[name] = weight
    return renamed


def export(
    source: str | Path,
    target: str | Path,
    to: str | None = None,
    ema: bool = False,
    raw: bool = False,
) -> tuple[int, Counter]:
    """Writes the backbone's weights alone.

    Args:
        source: Checkpoint; a path, or anything that mmengine loads.
        target: File to write.
        to: `'mmseg'` to rename for mmseg; None to keep the names.
        ema: See :func:`backbone_weights`.
        raw: See :func:`backbone_weights`.

    Returns:
        Number of tensors written, and of those left out by part.
    """
    import torch
    from mmengine.runner.checkpoint import CheckpointLoader

    from hyper_mm import checkpoints as compat

    compat.install_checkpoint_loader()
    checkpoint = CheckpointLoader.load_checkpoint(str(source), 'cpu')
    state, left_out = backbone_weights(checkpoint, ema, raw)
    if to == 'mmseg':
        state = mmpretrain_vit_to_mmseg(state)
    state = {name: weight.detach().clone().contiguous() for name, weight in state.items()}
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f'{target.name}.part')
    torch.save(dict(state_dict=state), part)
    os.replace(part, target)
    return len(state), left_out


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help='checkpoint of a classifier, segmentor or detector')
    parser.add_argument('target', help='file to write')
    parser.add_argument('--to', choices=['mmseg'], help="rename mmpretrain's ViT for mmseg's")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--ema', action='store_true', help='refuse weights that are no average')
    weights.add_argument('--raw', action='store_true', help='take the weights before averaging')
    args = parser.parse_args()
    try:
        count, left_out = export(args.source, args.target, args.to, args.ema, args.raw)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    parts = ', '.join(f'{name} ({n})' for name, n in sorted(left_out.items())) or 'nothing'
    print(f'{count} tensors of the backbone written to {args.target}; left out: {parts}')


if __name__ == '__main__':
    main()
