"""Converts the state dict of the official Hi-Mapper modules to hyper_mm's names.

    python tools/model_converters/himapper2mm.py official.pth converted.pth --prefix neck.mapper.

The official modules are ``last_l`` (tree, decomposer, lift) and ``mix_l`` (encoder). Keys without
effect there have no counterpart here and are dropped by name: the ``memnorm`` of the encoder, and
the query and key projections of its self-attention over a single token. Every other key is
converted or refused.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


RENAMED = (
    (r'last_l\.node_mean$', 'tree.mu'),
    (r'last_l\.node_log_sigma$', 'tree.logvar'),
    (r'last_l\.Etransformer\.(memory_proj|out_proj)\.', r'decomposer.\1.'),
    (r'last_l\.Etransformer\.node_proj\.', 'decomposer.query_proj.'),
    (r'last_l\.Etransformer\.decoder\.0\.', 'decomposer.block.'),
    (r'last_l\.Llinear\.weight$', 'lift.proj.weight'),
    (r'last_l\.Llinear\.lorentz\.k$', 'lift.curvature.log'),
    (r'mix_l\.(memory_proj|out_proj)\.', r'encoder.\1.'),
    (r'mix_l\.node_proj\.', 'encoder.query_proj.'),
    (r'mix_l\.decoder\.(\d+)\.self_attn\.v_proj\.', r'encoder.blocks.\1.value.'),
    (r'mix_l\.decoder\.(\d+)\.self_attn\.proj\.', r'encoder.blocks.\1.proj.'),
    (r'mix_l\.decoder\.(\d+)\.(?!self_attn\.)', r'encoder.blocks.\1.'),
)
DEAD = re.compile(r'mix_l\.decoder\.\d+\.(memnorm\.|self_attn\.[qk]_proj\.)')
OFFICIAL = re.compile(r'(?:.*\.)?((?:last_l|mix_l)\..*)')


def convert_state_dict(official: dict[str, Tensor], prefix: str = '') -> dict[str, Tensor]:
    """Renames the weights of the official modules.

    Args:
        official: State dict; keys outside ``last_l`` and ``mix_l`` (the backbone) are left out.
        prefix: Put before every name.

    Returns:
        State dict of :class:`hyper_mm.layers.HierarchyMapper`, but for ``lift.alpha``, which the
        official code does not have (it is 1 there).

    Raises:
        KeyError: If the modules hold a key that is unknown here, or there are no modules.
    """
    converted = {}
    for full_name, weight in official.items():
        match = OFFICIAL.match(full_name)
        if match is None or DEAD.match(match.group(1)):
            continue
        name = match.group(1)
        for pattern, new in RENAMED:
            renamed, count = re.subn(f'^{pattern}', new, name)
            if count:
                # the official lift is x @ W, a linear layer is x @ W.T
                converted[prefix + renamed] = weight.T if renamed == 'lift.proj.weight' else weight
                break
        else:
            raise KeyError(f'unknown key of the official Hi-Mapper modules: {full_name}')
    if not converted:
        raise KeyError('no weights of the official modules (last_l.*, mix_l.*) in this state dict')
    if f'{prefix}lift.proj.weight' in converted:
        weight = converted[f'{prefix}lift.proj.weight']
        converted[f'{prefix}lift.alpha.log'] = weight.new_zeros(())
    for name in ('curvature', 'alpha'):  # the official curvature is 0-dimensional: log(c)
        key = f'{prefix}lift.{name}.log'
        if key in converted:
            converted[key] = converted[key].reshape(1)
            converted[f'{key}_initial'] = converted[key].new_zeros(1)
    return converted


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('source', type=Path, help='checkpoint of the official code')
    parser.add_argument('target', type=Path, help='file to write')
    parser.add_argument('--prefix', default='neck.mapper.', help='put before every name')
    args = parser.parse_args()
    import torch

    checkpoint = torch.load(args.source, map_location='cpu', weights_only=True)
    for key in ('state_dict', 'model'):
        checkpoint = checkpoint.get(key, checkpoint)
    converted = convert_state_dict(checkpoint, args.prefix)
    torch.save(dict(state_dict=converted), args.target)
    print(f'{len(converted)} of {len(checkpoint)} tensors converted to {args.target}')


if __name__ == '__main__':
    main()
