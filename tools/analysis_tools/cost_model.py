"""What the methods cost, by formula: parameters, multiply-accumulates, activations, communication.

    python tools/analysis_tools/cost_model.py
    python tools/analysis_tools/cost_model.py --check     # the formulas beside measurements
    python tools/analysis_tools/cost_model.py --gpus 8 64 --speed 2 --price 3.5

For planning before a machine is at hand. Costs are those of the method alone, beside the model that
it is added to; of language models and LorentzViT, those of the whole model. Multiply-accumulates
are of the forward pass for one image or sequence in training; the backward pass takes twice as many
again. Activations are what is kept for it, in float32. Communication is what a process sends each
step: a ring all-reduce of the gradients (DDP), or two gatherings of the weights and a scattering of
the gradients (FSDP).

The last table is the wall time and price of the papers' runs, from what a GPU is assumed to compute
in each: an estimate, and no measurement.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch
    from torch import nn

FLOAT = 4
"""Bytes of a float32."""


class Cost(NamedTuple):
    """Cost of a method.

    Attributes:
        parameters: Trained parameters.
        macs: Multiply-accumulates of the forward pass, for each image or sequence.
        shared_macs: The same for each batch, whatever its size.
        activations: Bytes kept for the backward pass, for each image or sequence.
        shared_activations: The same for each batch.
    """

    parameters: int
    macs: int
    shared_macs: int = 0
    activations: int = 0
    shared_activations: int = 0

    def times(self, count: int) -> Cost:
        """Cost of so many of them."""
        return Cost(*(count * value for value in self))

    def plus(self, *others: Cost) -> Cost:
        """Cost of all together."""
        return Cost(*(sum(values) for values in zip(self, *others)))


def linear(inside: int, outside: int, bias: bool = True) -> int:
    """Parameters of a linear map."""
    return inside * outside + bias * outside


def hi_mapper(
    dim: int,
    positions: int,
    tokens: int = 1,
    width: int = 128,
    num_leaves: int = 32,
    num_levels: int = 4,
    hyp_dim: int = 128,
) -> Cost:
    """Hi-Mapper in training, with its losses (``recipe='paper'``).

    Args:
        dim: Width d of the features.
        positions: Positions M of the feature map.
        tokens: Global tokens that are enriched.
        width: Hidden width w.
        num_leaves: Leaves; level l has ``num_leaves / 2**l`` nodes, each of ``2**l`` samples.
        num_levels: Levels.
        hyp_dim: Dimensions of the hyperboloid.
    """
    d, w, m, t = dim, width, positions, tokens
    nodes = [num_leaves >> level for level in range(num_levels)]
    s, q = sum(nodes), num_levels * num_leaves  # nodes, and samples of all of them
    attention = 4 * w * w + w
    mlp = linear(w, 4 * w) + linear(4 * w, w)
    inward = 2 * d + linear(d, w)  # layer norm and linear map
    outward = 2 * w + linear(w, d)
    parameters = 2 * num_leaves * d
    parameters += 2 * inward + 2 * w + 3 * 2 * w + 2 * attention + mlp + outward
    parameters += 2 * inward + 2 * w + outward
    parameters += num_levels * (3 * 2 * w + attention + linear(w, w, False) + linear(w, w) + mlp)
    parameters += linear(d, hyp_dim, False) + 2  # lift, its scale and curvature
    # decomposer: keys and values of the positions, and the queries of all samples
    macs = m * d * w + 2 * m * w * w + 2 * q * m * w + q * w * w
    macs += 4 * q * w * w + 2 * q * num_leaves * w + 8 * q * w * w + s * w * d
    # encoder: the nodes once, then each token level by level
    macs += s * d * w + 2 * s * w * w + 2 * t * s * w + t * (2 * d * w + num_levels * 12 * w * w)
    macs += s * d * hyp_dim + s * s * (hyp_dim + 2)  # lift, and distances of all pairs
    shared = q * d * w + q * w * w  # queries are projected once a batch
    # layer norms and linear maps keep their inputs, attention its queries, keys and values
    kept = m * (8 * d + 16 * w + 24) + q * (96 * w + 64) + 104 * num_levels * t * w + 8 * t * d
    kept += s * (12 * d + 28 * w + 48 * hyp_dim + 164) + 14 * s * s  # the lift is in float64
    return Cost(parameters, macs, shared, kept, 16 * q * (d + w))


def hyper_clip(
    dim: int, depth: int, block_size: int = 128, projections: int = 3, text_dim: int = 0,
    text_depth: int = 0,
) -> Cost:  # fmt: skip
    """HyperCLIP's adapter of a tower or two: maps of the frozen weights, whatever the batch.

    Args:
        dim: Width of the vision tower.
        depth: Its layers.
        block_size: Size n of the blocks.
        projections: Adapted projections of each layer: query, key and value.
        text_dim: Width of the text tower.
        text_depth: Its layers; 0 leaves it out.
    """
    maps = [(dim, depth)] + [(text_dim, text_depth)] * bool(text_depth)
    parameters = sum(projections * layers * d * block_size for d, layers in maps)
    shared = sum(projections * layers * d * d * block_size for d, layers in maps)
    # of each weight: the scaled one, its image, and what the Mobius map keeps of it
    kept = sum(6 * projections * layers * d * d for d, layers in maps)
    return Cost(parameters, 0, shared, 0, kept)


def lorentz_block(dim: int, heads: int, hidden: int, length: int) -> Cost:
    """A block of HELM-D or LorentzViT, for one sequence.

    Args:
        dim: Space dimensions d; heads have ``(d + 1) / heads - 1``.
        heads: Number of heads.
        hidden: Hidden space dimensions of the feed-forward network.
        length: Tokens N.
    """
    inner = dim + 1 - heads  # space dimensions of all heads
    parameters = 3 * linear(dim + 1, inner) + linear(dim + 1, dim) + 1
    parameters += 2 * linear(dim + 1, hidden) + linear(hidden + 1, dim) + 2 * dim + 2
    per_token = 3 * (dim + 1) * inner + (dim + 1) * dim
    per_token += 2 * (dim + 1) * hidden + (hidden + 1) * dim + 2 * length * (dim + 1)
    kept = length * (44 * dim + 12 * hidden + 10 * heads + 66)
    rotations = 4 * length * (inner // heads) + 4  # of all positions, one table for the batch
    return Cost(parameters, length * per_token, 0, kept, rotations)


def mixture(
    dim: int, hidden: int, length: int, experts: int, top_k: int = 2, shared: int = 1
) -> Cost:
    """Experts of a block of HELM-MiCE, in place of its feed-forward network.

    Args:
        dim: Space dimensions d.
        hidden: Hidden space dimensions of an expert.
        length: Tokens N.
        experts: Routed experts.
        top_k: Those of a token.
        shared: Experts of all tokens.
    """
    one = 2 * linear(dim + 1, hidden) + linear(hidden + 1, dim)
    parameters = (experts + shared) * (one + 1) + experts * dim  # curvatures, gate
    used = top_k + shared
    per_token = used * (2 * (dim + 1) * hidden + (hidden + 1) * dim) + experts * dim
    kept = length * (12 * hidden * used + dim * (16 + 4 * shared + 9 * top_k))
    return Cost(parameters, length * per_token, 0, kept)


def helm(
    dim: int, depth: int, heads: int, hidden: int, length: int, vocab_size: int, embedding: int = 0
) -> Cost:
    """HELM-D with its loss; its logits, which are computed in chunks, are not kept.

    Args:
        dim: Space dimensions.
        depth: Blocks.
        heads: Heads.
        hidden: Hidden dimensions of the feed-forward networks.
        length: Tokens of a sequence.
        vocab_size: Tokens of the vocabulary.
        embedding: Columns of the table of tokens; 0 for ``dim``.
    """
    outside = Cost(
        vocab_size * (embedding or dim) + linear(dim + 1, dim) + dim + vocab_size * (dim + 1),
        length * (dim + 1) * dim + (length - 1) * vocab_size * (dim + 1),
    )
    return lorentz_block(dim, heads, hidden, length).times(depth).plus(outside)


def all_reduce(parameters: int, gpus: int) -> float:
    """Bytes that a process sends each step with DDP: a ring all-reduce of float32 gradients."""
    return 2 * (gpus - 1) / gpus * FLOAT * parameters


def fully_sharded(parameters: int, gpus: int) -> float:
    """Bytes that a process sends each step with FSDP: weights gathered twice, gradients once."""
    return 3 * (gpus - 1) / gpus * FLOAT * parameters


def kept_bytes(module: nn.Module, forward: Callable[[], object]) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters aside.

    Args:
        module: The module.
        forward: Runs it.

    Returns:
        Bytes of all distinct storages.
    """
    import torch

    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    sizes: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes(), x  # kept alive: no address comes twice
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = forward()
    del result
    return sum(size for size, _ in sizes.values())


def counted_macs(forward: Callable[[], object]) -> int:
    """Multiply-accumulates of what runs, as PyTorch counts them, without gradients.

    With gradients, some products are filled up with zeros, which saves time.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter does not know the fused attention of CPUs
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        forward()
    return counter.get_total_flops() // 2


def measured(module: nn.Module, forward: Callable[[int], object]) -> Cost:
    """Cost of a module, measured at two batch sizes.

    Args:
        module: In training mode.
        forward: Runs it, of a batch size, up to its losses.
    """
    few, many = 2, 4
    macs = [counted_macs(lambda n=n: forward(n)) for n in (few, many)]
    kept = [kept_bytes(module, lambda n=n: forward(n)) for n in (few, many)]
    of_each = [(b - a) // (many - few) for a, b in (macs, kept)]
    shared = [a - few * each for (a, _), each in zip((macs, kept), of_each)]
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return Cost(trained, of_each[0], shared[0], of_each[1], shared[1])


class Case(NamedTuple):
    """A method at one size: the formula, and what measures the same."""

    name: str
    formula: Cost
    measure: Callable[[], Cost]


def hi_mapper_case(dim: int, positions: int, num_leaves: int, num_levels: int) -> Case:
    """Hi-Mapper of one size."""

    def measure() -> Cost:
        import torch

        from hyper_mm.layers import HierarchyMapper

        mapper = HierarchyMapper(dim, tree=dict(num_leaves=num_leaves, num_levels=num_levels))

        def forward(batch: int) -> object:
            memory = torch.randn(batch, positions, dim, requires_grad=True)
            token = torch.randn(batch, 1, dim, requires_grad=True)
            found = mapper(memory, token)
            return found, mapper.losses(found.levels)

        return measured(mapper, forward)

    name = f'Hi-Mapper, d = {dim}, {positions} positions, {num_leaves} leaves, {num_levels} levels'
    formula = hi_mapper(dim, positions, num_leaves=num_leaves, num_levels=num_levels)
    return Case(name, formula, measure)


def block_case(dim: int, heads: int, hidden: int, length: int) -> Case:
    """A block of HELM-D or LorentzViT of one size."""

    def measure() -> Cost:
        import torch

        from hyper_mm.layers import LorentzAttention, LorentzBlock, LorentzSwiGLU

        attention = LorentzAttention(dim, heads)
        block = LorentzBlock(dim, attention, LorentzSwiGLU(dim, hidden), dim**0.5)
        return measured(
            block, lambda n: block(torch.randn(n, length, dim, requires_grad=True), 1.0)
        )

    name = f'block of HELM-D, d = {dim}, {heads} heads, hidden {hidden}, {length} tokens'
    return Case(name, lorentz_block(dim, heads, hidden, length), measure)


def mixture_case(dim: int, hidden: int, length: int, experts: int, top_k: int, shared: int) -> Case:
    """Experts of HELM-MiCE of one size."""

    def measure() -> Cost:
        import torch

        from hyper_mm.layers import MiCE

        layer = MiCE(dim, hidden, experts, top_k, shared)
        return measured(
            layer, lambda n: layer(torch.randn(n, length, dim, requires_grad=True), 1.0)
        )

    name = (
        f'experts of HELM-MiCE, d = {dim}, {experts} + {shared}, {top_k} a token, hidden {hidden}, '
        f'{length} tokens'
    )
    return Case(name, mixture(dim, hidden, length, experts, top_k, shared), measure)


def hyper_clip_case(dim: int, depth: int, block_size: int) -> Case:
    """HyperCLIP's adapter of a vision tower of one size, beside the tower alone."""

    def measure() -> Cost:
        import copy

        import torch
        from torch import nn

        from hyper_mm.layers import apply_hyperclip

        layer = nn.TransformerEncoderLayer(dim, dim // 16, 4 * dim, 0.0, batch_first=True)
        plain = nn.Sequential(*(copy.deepcopy(layer) for _ in range(depth))).train()
        adapted = copy.deepcopy(plain)
        apply_hyperclip(adapted, block_size=block_size)
        for name, parameter in plain.named_parameters():
            parameter.requires_grad_('in_proj' in name)  # what the adapter changes
        costs = [
            measured(model, lambda n, model=model: model(torch.randn(n, 8, dim)))
            for model in (adapted, plain)
        ]
        difference = [a - b for a, b in zip(*costs)]
        return Cost(costs[0].parameters, *difference[1:])

    name = f'HyperCLIP, d = {dim}, {depth} layers, blocks of {block_size}'
    return Case(name, hyper_clip(dim, depth, block_size), measure)


CASES = (
    hi_mapper_case(48, 49, 16, 3),
    hi_mapper_case(192, 100, 32, 4),
    hi_mapper_case(384, 196, 32, 4),
    block_case(62, 3, 128, 32),
    block_case(129, 2, 300, 64),
    block_case(194, 5, 256, 128),
    mixture_case(62, 40, 32, 4, 2, 1),
    mixture_case(129, 100, 64, 8, 2, 1),
    mixture_case(194, 64, 128, 4, 1, 2),
    hyper_clip_case(64, 2, 16),
    hyper_clip_case(128, 3, 32),
    hyper_clip_case(256, 2, 64),
)


class Run(NamedTuple):
    """A run of a paper.

    Attributes:
        name: What is trained.
        parameters: Of all weights, in millions.
        trained: Those that are trained, in millions.
        macs: Of the forward pass for one image or sequence, in billions.
        samples: Images or sequences of the run.
        batch: Of a step, at most so many GPUs can share it.
        teraflops: What a GPU of the class of an A100 is assumed to compute in training, in 10**12
            operations a second: much where matrices are large (language models), little where two
            images are on a GPU, as in detection and segmentation.
    """

    name: str
    parameters: float
    trained: float
    macs: float
    samples: int
    batch: int
    teraflops: float


def language(name: str, dim: int, depth: int, heads: int, hidden: int, tokens: float, batch: int):
    """A run of HELM-D on sequences of 2048 tokens."""
    cost = helm(dim, depth, heads, hidden, 2048, 128256)
    return Run(name, cost.parameters / 1e6, cost.parameters / 1e6, cost.macs / 1e9,
               int(tokens / 2048), batch, 60)  # fmt: skip


RUNS = (
    Run('Hi-Mapper DeiT-S, ImageNet-1k, 50 epochs', 23.6, 23.6, 4.6, 50 * 1281167, 1024, 30),
    Run('Hi-Mapper DeiT-S + UPerNet, ADE20K, 160k steps', 53.7, 53.7, 61.0, 160_000 * 16, 16, 5),
    Run('Hi-Mapper Swin-T, Mask R-CNN, COCO, 12 epochs', 49.7, 49.7, 281.0, 12 * 117266, 16, 12),
    Run('HyperCLIP ViT-B/16, CAT-Seg, COCO-Stuff, 80k', 160.5, 10.6, 330.0, 80_000 * 4, 4, 8),
    language('HELM-D 115M, 5 B tokens', 389, 6, 6, 1559, 5.03e9, 1024),
    language('HELM-D 1B, 5 B tokens', 1559, 16, 24, 6239, 5.03e9, 1024),
)
"""Those that the papers report and the configs train.

Multiply-accumulates of images are PyTorch's count for the configs' models: of a 224 x 224 image, a
crop of 512 x 512, of 800 x 1344 pixels with 512 boxes and 128 masks (from 224 x 224, by the number
of pixels), a crop of 384 x 384 with 171 names (from 4 and 12 names). Of HELM they are the formula.
"""


def hours(run: Run, gpus: int, speed: float = 1.0) -> float:
    """Wall time of a run: forward and backward, of two operations a multiply-accumulate.

    Args:
        run: The run.
        gpus: Number of GPUs.
        speed: Of a GPU, over the assumed one.
    """
    frozen = run.parameters > run.trained  # no gradient of frozen weights, only through them
    operations = run.samples * run.macs * 1e9 * 2 * (2 if frozen else 3)
    return operations / (gpus * speed * run.teraflops * 1e12) / 3600


def print_runs(gpus: Sequence[int], speed: float, price: float) -> None:
    """Prints time, price and communication of the papers' runs."""
    head = ' | '.join(f'{n} GPUs: hours; GB sent a step, DDP, FSDP' for n in gpus)
    print(f'| run | weights (trained), M | GMAC a sample | samples | TFLOP/s | {head} | USD |')
    print('|---' * (6 + len(gpus)) + '|')
    for run in RUNS:
        cells = []
        for n in gpus:
            sent = (
                f(int(m * 1e6), n) / 1e9
                for f, m in ((all_reduce, run.trained), (fully_sharded, run.parameters))
            )
            text = f'{hours(run, n, speed):.1f}; ' + ', '.join(f'{x:.2f}' for x in sent)
            cells.append(text if n <= run.batch else f'a batch is {run.batch}')
        dollars = hours(run, 1, speed) * price
        print(
            f'| {run.name} | {run.parameters:.0f} ({run.trained:.1f}) | {run.macs:.1f} '
            f'| {run.samples:,} | {run.teraflops * speed:g} | {" | ".join(cells)} '
            f'| {dollars:,.0f} |'
        )


def cell(formula: int, value: int | None, unit: float) -> str:
    """A number in units, and the measured one behind it."""
    measured = '' if value is None else f' ({value / unit:.3g})'
    return f'{formula / unit:.3g}{measured}'


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='measure the same, in parentheses')
    parser.add_argument('--gpus', type=int, nargs='+', default=[8, 64])
    parser.add_argument('--speed', type=float, default=1, help='of a GPU, over the assumed one')
    parser.add_argument('--price', type=float, default=2.0, help='USD for an hour of a GPU')
    args = parser.parse_args(argv)
    if min(args.gpus) < 1 or args.speed <= 0 or args.price < 0:
        parser.error('--gpus and --speed must be positive, --price at least 0')
    print(
        '| method and size | parameters (M) | MMAC an image | MMAC a batch '
        '| MiB kept an image | MiB kept a batch |'
    )
    print('|---|---|---|---|---|---|')
    for case in CASES:
        found = case.measure() if args.check else [None] * 5
        units = 1e6, 1e6, 1e6, 2**20, 2**20
        cells = (cell(*values) for values in zip(case.formula, found, units))
        print(f'| {case.name} | {" | ".join(cells)} |')
    print()
    print_runs(args.gpus, args.speed, args.price)


if __name__ == '__main__':
    main()
