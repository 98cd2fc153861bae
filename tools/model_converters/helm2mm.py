"""Converts the state dict of HELM's official code to hyper_mm's names.

    python tools/model_converters/helm2mm.py official.pth converted.pth

The official names of the parts are `Wq`, `Wk`, `Wv`, `final_linear` (HELM-D's attention), `wq`,
`wq_a`, `wq_b`, `wkv_a`, `wkv_b`, `wo` (HMLA), `w1`, `w2`, `w3` of feed-forward networks and of
experts, `gate`, and `w_y` of residual connections (within a mixture: of the sum of its experts).
What stands around them (`linear.`, `module.`, wrappers) is passed over: a part is known by its
name, the number of its block and, for experts, its number. Of two norms or residual connections of
a block, the first in the file is that of the attention.

Left out, by name: the score bias, which the softmax ignores; the curvatures (`c`, `k`), which stand
in the config here; frequencies of the rotation. Every other key is converted or refused,
and so is a file that lacks one. Of an
embedding of ambient points the time is left out, as it follows from the rest. The official form of
MiCE is `ffn=dict(renormalize=False, combine='sequential', shared_curvature=None,
learn_curvature=False, curvatures=(1.0, 1.0))`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


BLOCK = re.compile(r'(?:^|.*\.)(?:\w*blocks|layers)\.(\d+)\.(.*)')
EXPERT = re.compile(r'(?:^|.*\.)experts\.(\d+)\.(.*)')
DEAD = re.compile(r'(?:^|\.)(?:c|k|manifold\w*\.\w+|inv_freq|freqs\w*|cos\w*|sin\w*)$')
PARTS = {
    **dict(Wq='wq', Wk='wk', Wv='wv', final_linear='wo'),
    **dict(wq='wq', wq_a='wq_a', wq_b='wq', wkv_a='wkv_a', wkv_b='wkv_b', wo='wo'),
}
NORMS = dict(kv_norm='kv_norm', q_norm='q_norm')
FFN = ('w1', 'w2', 'w3')
LEAVES = ('weight', 'bias')
MIXTURES = ('ffn', 'mlp', 'moe', 'mice', 'MiCE')
NUMBERS = ('.tau', 'res1.weight', 'res2.weight', 'out_weight', 'out_log_scale')
TEMPERATURES = ('tau', 'scale', 'temperature', 'softmax_scale')


class UnknownKeyError(KeyError):
    """A key of the official state dict that has no counterpart."""

    def __str__(self) -> str:
        return f'unknown key of an official HELM model: {self.args[0]}'


def words(name: str) -> list[str]:
    """Parts of a name."""
    return name.split('.')


def block_name(name: str, full: str, seen: dict) -> tuple[str, int | None]:
    """Name of a key within a block here, and the number of the expert that it belongs to.

    Args:
        name: What follows the number of the block.
        full: The whole key, for messages.
        seen: Owners of norms and residual connections found so far in this block.
    """
    parts = words(name)
    leaf = parts[-1]
    expert = EXPERT.match(name)
    kind = next((part for part in parts if part in FFN), None)
    if kind and expert:
        return f'ffn.{"w" if leaf == "weight" else "b"}{kind[1]}', int(expert.group(1))
    if kind and any('shared' in part for part in parts):
        index = next((part for part in parts if part.isdigit()), '0')
        return f'ffn.shared.{index}.{kind}.{leaf}', None
    if kind:
        return f'ffn.{kind}.{leaf}', None
    part = next((part for part in parts if part in PARTS), None)
    if part:
        return f'attention.{PARTS[part]}.{leaf}', None
    if any(p in NORMS for p in parts):
        return f'attention.{next(p for p in parts if p in NORMS)}.weight', None
    if 'gate' in parts:
        return 'ffn.bias' if leaf == 'bias' else 'ffn.gate', None
    if leaf in ('w_y', 'scale') and any(part in MIXTURES for part in parts[:-1]):
        return 'ffn.out_weight' if leaf == 'w_y' else 'ffn.out_log_scale', None
    if leaf in TEMPERATURES and len(parts) > 1 and 'res' not in parts[-2]:
        return 'attention.tau', None
    if leaf == 'w_y' or any('norm' in part for part in parts):
        what = 'res' if leaf == 'w_y' else 'norm'
        owner = name.rsplit('.', 1)[0]
        owners = seen[what]
        if owner not in owners:
            owners.append(owner)
        if len(owners) <= 2:
            return f'{what}{owners.index(owner) + 1}.weight', None
    raise UnknownKeyError(full)


def convert_state_dict(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the weights of an official model.

    Args:
        official: State dict.

    Returns:
        State dict of :class:`hyper_mm.HelmForCausalLM` with a :class:`hyper_mm.HelmDecoder`.

    Raises:
        KeyError: If a key is unknown here, two keys have the same counterpart, an expert or another
            weight is missing, or there are no blocks.
    """
    import torch

    converted: dict[str, Tensor] = {}
    experts: dict[str, dict[int, Tensor]] = defaultdict(dict)
    seen: dict[str, dict] = defaultdict(lambda: defaultdict(list))
    for full, weight in official.items():
        if DEAD.search(full):
            continue
        match = BLOCK.match(full)
        if match is None:
            name, expert = outer_name(full), None
        elif full.endswith('.bias') and not {*PARTS, *FFN, 'gate'} & {*words(full)}:
            if weight.numel() != 1:
                raise UnknownKeyError(full)
            continue  # the score bias
        else:
            number, inner = match.groups()
            name, expert = block_name(inner, full, seen[number])
            name = f'decoder.blocks.{number}.{name}'
        if expert is not None:
            experts[name][expert] = weight
            continue
        if name in converted:
            raise KeyError(f'{full} is the second key for {name}')
        converted[name] = weight.reshape(1) if name.endswith(NUMBERS) else weight
    for name, weights in experts.items():
        gate = converted.get(f'{name.rsplit(".", 1)[0]}.gate', ())
        missing = sorted({*range(max(max(weights) + 1, len(gate)))} - weights.keys())
        if missing:
            raise KeyError(f'experts {missing} of {name} are missing')
        converted[name] = torch.stack([weights[i] for i in range(len(weights))])
    if not any('.blocks.' in name for name in converted):
        raise KeyError('no blocks of an official HELM model in this state dict')
    missing = sorted(required(converted) - converted.keys())
    if missing:
        raise KeyError(f'the official model lacks what becomes {missing}')
    name, rows = 'decoder.embedding.weight', converted['decoder.norm.weight']
    if converted[name].shape[1] == len(rows) + 1:
        converted[name] = converted[name][:, 1:]
    return converted


def required(names: Iterable[str]) -> set[str]:
    """Names that belong to a model with these, by the kind of attention and network of a block."""
    wanted = {'head.weight', *(f'decoder.{name}.weight' for name in ('embedding', 'norm'))}
    wanted |= {f'decoder.project.{leaf}' for leaf in LEAVES}
    blocks = defaultdict(set)
    for name in names:
        if name.startswith('decoder.blocks.'):
            number, own = name.split('.', 3)[2:]
            blocks[int(number)].add(own)
    for number in range(max(blocks) + 1):
        own = blocks[number]
        has = {'.'.join(words(name)[:2]) for name in own}
        parts = [f'{part}.weight' for part in ('norm1', 'norm2', 'res1', 'res2')]
        linears = ['attention.wq', 'attention.wo']
        if has & {'attention.wkv_a', 'attention.wkv_b', 'attention.kv_norm'}:
            linears += ['attention.wkv_a', 'attention.wkv_b']
            parts.append('attention.kv_norm.weight')
        else:
            linears += ['attention.wk', 'attention.wv']
        if has & {'attention.wq_a', 'attention.q_norm'}:
            linears.append('attention.wq_a')
            parts.append('attention.q_norm.weight')
        shared = {words(name)[2] for name in own if name.startswith('ffn.shared.')}
        if shared or has & {'ffn.gate', 'ffn.bias', 'ffn.out_weight', 'ffn.b1', 'ffn.b2', 'ffn.b3'}:
            parts += ['ffn.gate', 'ffn.bias', 'ffn.out_weight', 'ffn.out_log_scale']
            parts += [f'ffn.{kind}{i}' for kind in 'wb' for i in '123']
            linears += [f'ffn.shared.{i}.{part}' for i in shared or '0' for part in FFN]
        else:
            linears += [f'ffn.{part}' for part in FFN]
        parts += ['attention.tau', *(f'{name}.{leaf}' for name in linears for leaf in LEAVES)]
        wanted |= {f'decoder.blocks.{number}.{part}' for part in parts}
    return wanted


def outer_name(full: str) -> str:
    """Name of a key outside of the blocks."""
    parts = words(full)
    leaf = 'bias' if parts[-1] == 'bias' else 'weight'
    for known, name in (
        (r'emb', f'embedding.{leaf}'),
        (r'final_proj|proj', f'project.{leaf}'),
        (r'norm', f'norm.{leaf}'),
    ):
        if any(re.search(known, part) for part in parts):
            return f'decoder.{name}'
    if any(part in ('head', 'lm_head', 'output', 'logits') for part in parts):
        return 'head.weight'
    raise UnknownKeyError(full)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help='checkpoint of the official code')
    parser.add_argument('target', type=Path, help='file to write')
    args = parser.parse_args()
    import torch

    checkpoint = torch.load(args.source, map_location='cpu', weights_only=True)
    for key in ('state_dict', 'model', 'model_state_dict'):
        checkpoint = checkpoint.get(key, checkpoint)
    converted = convert_state_dict(checkpoint)
    torch.save(dict(state_dict=converted), args.target)
    print(f'{len(converted)} tensors out of {len(checkpoint)} written to {args.target}')


if __name__ == '__main__':
    main()
