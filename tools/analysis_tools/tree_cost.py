"""What wider and deeper trees cost Hi-Mapper: queries, size, work and activations in training.

    python tools/benchmarks/tree_cost.py
    python tools/benchmarks/tree_cost.py --max-samples 2

The module alone on the feature map of DeiT-S at 224 x 224. Activations are the bytes that one
training step keeps for its backward pass (forward and losses), counted once each: they do not
depend on the machine.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from timing import note

if TYPE_CHECKING:
    import torch

    from hyper_mm.layers import HierarchyMapper


def saved_bytes(mapper: HierarchyMapper, memory: torch.Tensor, token: torch.Tensor) -> int:
    """Bytes that a training step keeps for its backward pass, parameters aside.

    Args:
        mapper: The module, in training mode.
        memory: Features ``(B, M, d)``.
        token: Global tokens ``(B, T, d)``.

    Returns:
        Bytes of all distinct storages.
    """
    import torch

    own = {p.untyped_storage().data_ptr() for p in mapper.parameters()}
    sizes = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes(), x  # kept alive: no address comes twice
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        found = mapper(memory, token)
        losses, _ = mapper.losses(found.levels)
        (found.token.sum() + sum(losses.values())).detach()
    return sum(size for size, _ in sizes.values())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--leaves', type=int, nargs='+', default=[16, 32, 64])
    parser.add_argument('--levels', type=int, nargs='+', default=[3, 4, 5])
    parser.add_argument('--max-samples', type=int, help='most samples of a node (default: none)')
    parser.add_argument('--dim', type=int, default=384)
    parser.add_argument('--positions', type=int, default=196)
    parser.add_argument('--batch', type=int, default=8)
    args = parser.parse_args()
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from hyper_mm.layers import HierarchyMapper

    print(
        '| leaves | levels | nodes | queries | parameters (M) | MACs an image (M) | MiB an image |'
    )
    print('|---|---|---|---|---|---|---|')
    for leaves in args.leaves:
        for levels in args.levels:
            torch.manual_seed(0)
            mapper = HierarchyMapper(
                args.dim,
                tree=dict(num_leaves=leaves, num_levels=levels, max_samples=args.max_samples),
            )
            memory = torch.randn(args.batch, args.positions, args.dim, requires_grad=True)
            token = torch.randn(args.batch, 1, args.dim, requires_grad=True)
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                mapper.losses(mapper(memory, token).levels)
            tree = mapper.tree
            kept = saved_bytes(mapper, memory, token) / 2**20 / args.batch
            note(f'{leaves} leaves, {levels} levels, kept an image', [kept], 'MiB')
            print(
                f'| {leaves} | {levels} | {sum(tree.nodes)} '
                f'| {sum(n * k for n, k in zip(tree.nodes, tree.copies))} '
                f'| {sum(p.numel() for p in mapper.parameters()) / 1e6:.2f} '
                f'| {counter.get_total_flops() / 2e6 / args.batch:.0f} '
                f'| {kept:.1f} |',
                flush=True,
            )


if __name__ == '__main__':
    main()
