"""Methods at three sizes each: their cost by formula, and what measures the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from cost_formulas import (
    Cost,
    Episode,
    cost_aggregation,
    hi_mapper,
    hyper_clip,
    lath_adapter,
    lorentz_block,
    maml,
    maple,
    mixture,
    proto_net,
    radial,
)
from counting import counted_macs, kept_bytes

if TYPE_CHECKING:
    from torch import nn


def measured(
    module: nn.Module,
    forward: Callable[[int], object],
    gradients: bool = False,
    batches: tuple[int, int] = (2, 4),
) -> Cost:
    """Cost of a module, measured at two batch sizes.

    Args:
        module: In training mode.
        forward: Runs it, of a batch size, up to its losses.
        gradients: See :func:`counted_macs`.
        batches: The sizes.
    """
    few, many = batches
    macs = [counted_macs(lambda n=n: forward(n), gradients) for n in (few, many)]
    kept = [kept_bytes(module, lambda n=n: forward(n)) for n in (few, many)]
    of_each = [(b - a) // (many - few) for a, b in (macs, kept)]
    shared = [a - few * each for (a, _), each in zip((macs, kept), of_each)]
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return Cost(trained, of_each[0], shared[0], of_each[1], shared[1])


class Case(NamedTuple):
    """A method at one size: the formula, and what measures the same.

    Attributes:
        name: The method and its size.
        formula: Cost by formula.
        measure: Measures it.
        needs: Libraries that this takes besides torch.
    """

    name: str
    formula: Cost
    measure: Callable[[], Cost]
    needs: tuple[str, ...] = ()


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


def small_clip(dim: int, text: tuple[int, int, int], image: tuple[int, int, int], size: int,
               patch: int) -> dict:  # fmt: skip
    """Config of a random CLIP of open_clip; towers are width, blocks, heads."""
    return dict(
        embed_dim=dim,
        quick_gelu=True,
        vision_cfg=dict(
            image_size=size,
            patch_size=patch,
            width=image[0],
            layers=image[1],
            head_width=image[0] // image[2],
        ),
        text_cfg=dict(
            context_length=77, vocab_size=49408, width=text[0], layers=text[1], heads=text[2]
        ),
    )


def maple_case(
    dim: int, text: tuple[int, int, int], image: tuple[int, int, int], size: int, deep: int,
    classes: int,
) -> Case:  # fmt: skip
    """MaPLe on a CLIP of one size, with patches of 16."""

    def measure() -> Cost:
        import torch
        from mmengine.registry import MODELS
        from mmpretrain.structures import DataSample

        model = MODELS.build(
            dict(
                type='hyper_mm.PromptedCLIP',
                clip=dict(model=small_clip(dim, text, image, size, 16)),
                prompts=dict(type='MaPLe', num_context=2, depth=deep),
                vocabulary=[f'n{i:02}' for i in range(classes)],
            )
        )

        def forward(batch: int) -> object:
            samples = [DataSample().set_gt_label(i % classes) for i in range(batch)]
            return model.loss(torch.randn(batch, 3, size, size), samples)

        # without gradients, class features are remembered, and attention is one operation
        return measured(model, forward, gradients=True)

    name = (
        f'MaPLe, d = {dim}, towers {text[0]} x {text[1]} and {image[0]} x {image[1]}, {size} '
        f'pixels, {classes} classes'
    )
    # start, a photo of a nXX., end: n and the digits are tokens of their own
    formula = maple(text, image, dim, classes, 10, size, 16, deep=deep)
    return Case(name, formula, measure, ('mmpretrain', 'open_clip'))


def lath_adapter_case(dim: int, batch: int, classes: int, attributes: int) -> Case:
    """LatHAdapter's head of one size."""

    def measure() -> Cost:
        import torch
        from mmengine.registry import MODELS

        head = MODELS.build(
            dict(
                type='hyper_mm.LatHAdapterHead',
                num_classes=None,
                embed_dims=dim,
                num_attributes=attributes,
            )
        )

        def forward() -> object:
            image = torch.randn(batch, dim, requires_grad=True)
            text = torch.randn(classes, dim, requires_grad=True)
            return head.loss(image, text, torch.arange(batch) % classes)

        forward()  # places the attributes
        trained = sum(p.numel() for p in head.parameters())
        return Cost(trained, 0, counted_macs(forward), 0, kept_bytes(head, forward))

    name = f'LatHAdapter, d = {dim}, {batch} images, {classes} classes, {attributes} attributes'
    return Case(name, lath_adapter(dim, batch, classes, attributes), measure, ('mmengine',))


def radial_case(dim: int, depth: int, heads: int, out_dim: int, words: int) -> Case:
    """Radial embeddings of a text tower of one size, captions of so many words."""

    def measure() -> Cost:
        from mmengine.registry import MODELS
        from mmengine.structures import BaseDataElement

        clip = small_clip(out_dim, (dim, depth, heads), (16, 1, 1), 32, 16)
        model = MODELS.build(
            dict(
                type='hyper_mm.RadialCLIP',
                clip=dict(model=clip),
                loss=dict(type='hyper_mm.RadialEmbeddingLoss', lambda_reg=0.0),
            )
        ).train()
        texts = [' '.join(['a'] * words)] * 4

        def forward(batch: int) -> object:
            chains = [BaseDataElement(texts=texts, negatives=texts) for _ in range(batch)]
            return model([None] * batch, chains)

        return measured(model, forward)

    name = f'Radial Embeddings, text tower {dim} x {depth}, {words + 2} tokens, 4 + 4 captions'
    formula = radial(dim, depth, heads, out_dim, words + 2)
    return Case(name, formula, measure, ('mmengine', 'open_clip'))


def cost_aggregation_case(classes: int, side: int, text_dim: int, **options) -> Case:
    """CAT-Seg's cost aggregation of one size."""

    def measure() -> Cost:
        import torch

        from hyper_mm.layers import CostAggregator

        aggregator = CostAggregator(text_dim=text_dim, **options).train()
        channels = (options['appearance_dim'], *options['guidance_dims'])

        def forward(batch: int) -> object:
            maps = [
                torch.randn(batch, c, side << level, side << level, requires_grad=True)
                for level, c in enumerate(channels)
            ]
            image = torch.randn(batch, text_dim, side, side, requires_grad=True)
            text = torch.randn(classes, 1, text_dim, requires_grad=True)
            return aggregator(image, text, maps)

        return measured(aggregator, forward)

    name = (
        f'CAT-Seg aggregation, d = {text_dim}, cost of {options["dim"]}, {side} x {side}, '
        f'{classes} classes'
    )
    formula = cost_aggregation(classes, side, text_dim, **options)
    return Case(name, formula, measure)


def episode_step(
    method: str, channels: int, side: int, support: int, query: int, steps: int = 1
) -> tuple[nn.Module, Callable[[int], dict]]:
    """A few-shot segmentor on a U-Net, and what computes its losses of so many episodes."""
    import torch
    from mmengine.registry import MODELS, DefaultScope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    norm = dict(type='IN', affine=True)
    head = dict(
        type='mmseg.FCNHead',
        in_channels=channels,
        channels=channels,
        in_index=4,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=2,
        out_channels=2,
        norm_cfg=norm,
        loss_decode=dict(type='hyper_mm.BatchDiceLoss', background=0),
    )
    options = dict(type='hyper_mm.MetaLearner', algorithm=method.lower(), inner_steps=steps,
                   gain_interval=0)  # fmt: skip
    if method == 'ProtoNet':
        head = dict(type='hyper_mm.PrototypicalHead', in_index=4)
        options = dict(type='hyper_mm.PrototypicalSegmentor')
    elif method == 'MetaSeg':
        options = dict(type='hyper_mm.EpisodicSegmentor', inner_steps=steps, gain_interval=0)
    backbone = dict(type='mmseg.UNet', base_channels=channels, norm_cfg=norm)
    segmentor = dict(type='mmseg.EncoderDecoder', backbone=backbone, decode_head=head)
    with DefaultScope.overwrite_default_scope('mmseg'):  # where mmcv finds the parts of the U-Net
        model = MODELS.build(dict(model=segmentor, **options)).train()

    def batch(images: int) -> dict:
        labels = torch.arange(side * side).view(1, side, side) % 2
        samples = [SegDataSample(gt_sem_seg=PixelData(data=labels)) for _ in range(images)]
        return dict(inputs=torch.randn(images, 3, side, side), data_samples=samples)

    def forward(episodes: int) -> dict:
        return model.loss(
            [dict(support=batch(support), query=batch(query)) for _ in range(episodes)]
        )

    return model, forward


def episode_case(
    method: str, channels: int, side: int, support: int, query: int, steps: int = 1
) -> Case:
    """A few-shot segmentor on a U-Net of one size."""

    def measure() -> Cost:
        step = episode_step(method, channels, side, support, query, steps)
        return measured(*step, batches=(1, 2))

    name = (
        f'{method} U-Net, {channels} channels, {side} x {side}, {support} + {query} images'
        + f', {steps} steps' * (method != 'ProtoNet')
    )
    formula = episode_formula(method, channels, side, support, query, steps).cost
    return Case(name, formula, measure, ('mmseg',))


def episode_formula(
    method: str, channels: int, side: int, support: int, query: int, steps: int = 1
) -> Episode:
    """Cost of an episode of a method by its name."""
    if method == 'ProtoNet':
        return proto_net(channels, side, support, query)
    return maml(
        channels, side, support, query, steps, method != 'MAML', support_loss=method == 'MetaSeg'
    )


EPISODES = tuple(
    (method, *sizes)
    for method in ('MAML', 'FOMAML', 'MetaSeg', 'ProtoNet')
    for sizes in ((8, 32, 1, 2, 1), (4, 48, 2, 1, 1), (6, 32, 2, 3, 2))
)

SMALL_AGGREGATION = dict(
    appearance_dim=32,
    guidance_dims=(24, 16),
    dim=64,
    projected_dim=32,
    decoder_dims=(32, 16),
    decoder_guidance_dims=(16, 8),
    num_layers=2,
    num_heads=4,
    window=4,
    pad_len=16,
)

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
    maple_case(32, (64, 3, 2), (96, 4, 3), 64, 2, 11),
    maple_case(48, (96, 2, 3), (64, 3, 2), 96, 2, 24),
    maple_case(64, (128, 4, 4), (128, 2, 2), 64, 2, 7),
    lath_adapter_case(64, 8, 50, 6),
    lath_adapter_case(128, 4, 100, 4),
    lath_adapter_case(512, 16, 200, 20),
    radial_case(64, 3, 2, 32, 6),
    radial_case(128, 2, 4, 64, 20),
    radial_case(96, 4, 3, 128, 40),
    cost_aggregation_case(10, 8, 32, **SMALL_AGGREGATION),
    cost_aggregation_case(
        20, 12, 64, **dict(SMALL_AGGREGATION, dim=32, num_layers=1, window=4, pad_len=16)
    ),
    cost_aggregation_case(24, 12, 48, **dict(SMALL_AGGREGATION, num_heads=2, window=4, pad_len=32)),
    *(episode_case(*sizes) for sizes in EPISODES),
)
