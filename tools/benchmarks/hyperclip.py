"""What HyperCLIP's adapter costs a CLIP model.

    python tools/benchmarks/hyperclip.py
    python tools/benchmarks/hyperclip.py --model ViT-L-14 --repeats 3
    python tools/benchmarks/hyperclip.py --model EVA02-B-16 --block-size 64 --batch 4

Inference of the model with cached weights (validation and test) and of the merged model (export),
each beside the plain one, and a training step of the adapted vision tower
(forward and backward, frozen weights, no optimizer) beside the same tower without an adapter, its
weights frozen and the gradient going to its input. The two take turns in one process; each line has
the median of the ratios of neighboring runs, and its quartiles. Random weights and images.

The training step has several peers. As open_clip runs its own towers (batch first), PyTorch
multiplies a frozen projection with the transposed tokens image by image, which can take longer than
the whole adapter; an adapted projection has a gradient and takes the fast way. Such a ratio says
more of PyTorch than of the adapter. The peer that is `length first` gives the same features without
that detour: compare with it. The last peer trains the same projections in place, without an
adapter. Towers of timm (EVA02 has separate q, k and v) have no `length first`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from timing import in_turns, note, quartiles

if TYPE_CHECKING:
    from torch import nn


def length_first(clip: nn.Module) -> nn.Module:
    """Lets the vision tower of a CLIP model run length first; its features stay the same."""
    clip.visual.transformer.batch_first = False
    for block in clip.visual.transformer.resblocks:
        block.attn.batch_first = False
    return clip


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', default='ViT-B-16', help='architecture of open_clip')
    parser.add_argument('--block-size', type=int, default=128)
    parser.add_argument('--batch', type=int, default=8, help='images a step')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--repeats', type=int, default=11, help='measured pairs of runs')
    parser.add_argument(
        '--blocks', type=int, help='first blocks of the vision tower; all if left out'
    )
    parser.add_argument(
        '--cpu-time', action='store_true', help='of this process alone: for a busy machine'
    )
    args = parser.parse_args()
    import open_clip
    import torch

    from hyper_mm import apply_hyperclip
    from hyper_mm.layers.hyperclip.attention_kinds import tower_attentions

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    plain, model = (open_clip.create_model(args.model).eval() for _ in range(2))
    for clip in (plain, model) if args.blocks else ():
        trunk = clip.visual.transformer if hasattr(clip.visual, 'transformer') else None
        owner, name = (clip.visual.trunk, 'blocks') if trunk is None else (trunk, 'resblocks')
        setattr(owner, name, getattr(owner, name)[: args.blocks])
    model.load_state_dict(plain.state_dict())
    plain.requires_grad_(False)
    adapter = apply_hyperclip(model, args.block_size, towers=('vision',))
    with torch.no_grad():
        for weight in adapter.parameters():
            weight += 0.02 * torch.randn_like(weight)
    side = model.visual.image_size[0]
    images = torch.randn(args.batch, 3, side, side)
    leaf = images.clone().requires_grad_()
    cut = f', {args.blocks} blocks' if args.blocks else ''
    clock = 'CPU' if args.cpu_time else 'wall'
    print(
        f'torch {torch.__version__}, {args.threads} threads, {args.model}{cut}, batch {args.batch}'
    )
    print(f'{clock} time')
    print(adapter)

    def show(name: str, plain_run: Callable, adapted_run: Callable) -> None:
        clock = time.process_time if args.cpu_time else time.perf_counter
        times = in_turns(plain_run, adapted_run, args.repeats, 2, clock)
        ratios, seconds = [b / a for a, b in zip(*times)], statistics.median(times[0])
        note(f'{name}, adapted over plain', ratios, seconds=seconds)
        low, median, high = quartiles(ratios)
        print(f'{name}: plain {seconds:.3f} s, ratio {median:.3f} ({low:.3f}-{high:.3f})')

    peers = {'frozen': plain}
    if hasattr(plain.visual, 'transformer'):
        peers['frozen, length first'] = length_first(copy.deepcopy(plain))
    peers['q, k, v trained in place'] = copy.deepcopy(plain)
    for layer in tower_attentions(peers['q, k, v trained in place'])['vision'].values():
        for weight in layer.weights:
            weight.frozen.requires_grad_('out' not in weight.parts)
    for name, peer in peers.items():
        show(
            f'training step, peer {name}',
            lambda peer=peer: peer.encode_image(leaf).sum().backward(),
            lambda: model.encode_image(leaf).sum().backward(),
        )
    with torch.no_grad():
        unmerged = model.encode_image(images)
        with adapter.cached():
            show(
                'inference with cached weights',
                lambda: plain.encode_image(images),
                lambda: model.encode_image(images),
            )
        adapter.merge()
        merged = model.encode_image(images)
        error = (merged - unmerged).norm() / unmerged.norm()
        show(
            'merged inference',
            lambda: plain.encode_image(images),
            lambda: model.encode_image(images),
        )
    print(f'merged against unmerged: relative error {error.item():.1e}')


if __name__ == '__main__':
    main()
