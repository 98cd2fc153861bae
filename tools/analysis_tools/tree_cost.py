"""What wider and deeper trees cost Hi-Mapper: queries, size, work and activations in training.

    python tools/analysis_tools/tree_cost.py
    python tools/analysis_tools/tree_cost.py --max-samples 2

The module alone on the feature map of DeiT-S at 224 x 224. Activations are the bytes that one
training step keeps for its backward pass (forward and losses), counted once each. The formulas
are in cost_model.py.
"""

from __future__ import annotations

import argparse

from counting import counted_macs, kept_bytes


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

            def forward(m=mapper, x=memory, t=token) -> object:
                found = m(x, t)
                return found, m.losses(found.levels)

            tree = mapper.tree
            print(
                f'| {leaves} | {levels} | {sum(tree.nodes)} '
                f'| {sum(n * k for n, k in zip(tree.nodes, tree.copies))} '
                f'| {sum(p.numel() for p in mapper.parameters()) / 1e6:.2f} '
                f'| {counted_macs(forward) / 1e6 / args.batch:.0f} '
                f'| {kept_bytes(mapper, forward) / 2**20 / args.batch:.1f} |',
                flush=True,
            )


if __name__ == '__main__':
    main()
