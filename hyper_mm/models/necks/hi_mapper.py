"""Hi-Mapper as a neck of dense models."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.layers import AssignmentFusion, Hierarchy, NodeFusion, TokenFusion
from hyper_mm.models.necks.hi_mapper_base import HiMapperBase
from hyper_mm.models.utils.added_neck import AddedNeck
from hyper_mm.registry import MODELS

FUSIONS = {'token': TokenFusion, 'nodes': NodeFusion, 'assignment': AssignmentFusion}


@MODELS.register_module()
class HiMapper(AddedNeck, HiMapperBase):
    """Hi-Mapper between a backbone and a decode head, or a neck such as FPN.

    It decomposes one feature level into a visual hierarchy, brings the hierarchy back into that
    level by an update that is zero at initialization (a pretrained model is unchanged then), and
    passes the other levels on. The count, widths and sizes of the levels do not change, and any
    image size works.

    Its losses, ``loss_hier_cont`` and ``loss_hier_kl``, need a model that collects them:
    ``hyper_mm.EncoderDecoder`` and its like.

    Args:
        in_channels: Channels of the backbone's levels; a single number for levels of equal width.
        level: Which level to decompose.
        fusion: ``'token'`` adds the encoded global token to every position; ``'nodes'`` lets every
            position attend to the nodes; ``'assignment'`` gives it the nodes that it is assigned
            to. If None, ``'assignment'`` with ``recipe='recommended'`` and else ``'token'``.
        gate_init: Initial value of the gate; if None, 1 with ``zero_init_out`` and else 0.
        zero_init_out: Initialize the output projection of the update to zero, and so close it that
            way; if None, what the ``recipe`` says.
        neck: Config of a neck to apply to the result. Checkpoints in which this neck has the place
            of ours, those of the stock model, are loaded into it; in models of ours, also where the
            two are a list, ``neck=[HiMapper, FPN]``.
        **kwargs: Arguments of :class:`HiMapperBase` (``memory_grad``, ``loss_grad``,
            ``loss_warmup``) and of :class:`hyper_mm.layers.HierarchyMapper` (``recipe``, ``tree``,
            ``lift``, ``loss``, ``competition``, ``test_mode``, ...).

    Raises:
        ValueError: For an unknown ``fusion``, a ``level`` outside its range, or an update closed
            twice, which could not learn; in forward, for features that are not finite or do not
            fit ``in_channels``.

    Example:
        >>> model = dict(
        ...     type='hyper_mm.EncoderDecoder',
        ...     backbone=dict(type='mmseg.VisionTransformer', ..., output_cls_token=True),
        ...     neck=dict(type='hyper_mm.HiMapper', in_channels=384))

    Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
    (CVPR 2024). The authors published no code for dense tasks: this wiring is ours.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        level: int = -1,
        fusion: str | None = None,
        gate_init: float | None = None,
        zero_init_out: bool | None = None,
        neck: dict | None = None,
        **kwargs,
    ):
        recommended = kwargs.get('recipe') == 'recommended'
        fusion = ('assignment' if recommended else 'token') if fusion is None else fusion
        zero_init_out = recommended if zero_init_out is None else zero_init_out
        gate_init = float(zero_init_out) if gate_init is None else gate_init
        check_choice(FUSIONS, fusion=fusion)
        if zero_init_out and not gate_init:
            raise ValueError(
                'gate_init must not be 0 with zero_init_out=True: neither would have a gradient'
            )
        widths = (in_channels,) if isinstance(in_channels, int) else tuple(in_channels)
        if not isinstance(in_channels, int) and not -len(widths) <= level < len(widths):
            raise ValueError(f'level must index in_channels {widths}, got {level}')
        dim = in_channels if isinstance(in_channels, int) else widths[level]
        super().__init__(dim, encode=fusion == 'token', zero_init_out=zero_init_out, **kwargs)
        self.in_channels = in_channels if isinstance(in_channels, int) else widths
        self.level = level
        options: dict = {} if fusion == 'token' else dict(zero_init_out=zero_init_out)
        if fusion == 'assignment':
            options['num_levels'] = len(self.mapper.tree.nodes)
        self.fusion = FUSIONS[fusion](dim, gate_init=gate_init, **options)
        self.with_assignment = fusion == 'assignment'
        self.neck = None if neck is None else MODELS.build(neck)

    def forward(self, inputs: Sequence[Tensor | Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Enriches one level of a feature pyramid.

        Args:
            inputs: Levels ``(B, C, H, W)``, or pairs of a level and its class token ``(B, C)`` as
                ViT backbones return with ``output_cls_token=True``; a single tensor is a single
                level. Without a class token the mean of the feature map stands for it.

        Returns:
            The levels ``(B, C, H, W)``, of the data type in which they came, or what ``neck``
            makes of them.

        Raises:
            TypeError: If the inputs are no levels.
        """
        levels, _ = self.enrich(inputs)
        return levels if self.neck is None else self.neck(levels)

    def enrich(
        self, inputs: Sequence[Tensor | Sequence[Tensor]]
    ) -> tuple[tuple[Tensor, ...], Hierarchy]:
        """The enriched levels, before ``neck``, and the hierarchy; see :meth:`forward`."""
        pairs = _levels_and_tokens(inputs)
        levels = [level for level, _ in pairs]
        self._check_channels(levels)
        features, given = pairs[self.level]
        tokens = features.flatten(2).transpose(-2, -1)
        found = self.find(
            tokens.contiguous(),  # layer norms are slow across strides
            None if given is None else given.unsqueeze(1),
            f'features at level {self.level}',
            tuple(features.shape[-2:]),
            gate=self.fusion.gate.detach().abs().mean(),
        )
        tokens = self.fusion(tokens, found)
        levels[self.level] = tokens.transpose(-2, -1).reshape(features.shape).to(features.dtype)
        return tuple(levels), found

    def _check_channels(self, levels: list[Tensor]) -> None:
        found = tuple(x.shape[1] for x in levels)
        if not -len(found) <= self.level < len(found):
            raise ValueError(
                f'HiMapper: level is {self.level}, but the backbone gives {len(found)} levels'
            )
        expected = self.in_channels
        expected = (expected,) * len(found) if isinstance(expected, int) else expected
        if found != expected:
            raise ValueError(
                f'HiMapper: in_channels is {self.in_channels}, but the backbone gives levels of '
                f'{found} channels: set in_channels={found} in the neck'
            )


def _levels_and_tokens(inputs: object) -> list[tuple[Tensor, Tensor | None]]:
    """Levels ``(B, C, H, W)`` of a backbone with their class tokens ``(B, C)``, if any."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
    if not isinstance(inputs, (tuple, list)):
        raise TypeError(
            'HiMapper takes the levels of a backbone as a tuple of tensors (B, C, H, W), got '
            f'{type(inputs).__name__}'
        )
    found = []
    for i, given in enumerate(inputs):
        pair = (given, None) if isinstance(given, Tensor) else given
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(
                f'HiMapper: level {i} must be a tensor (B, C, H, W), or a pair of it and a class '
                f'token (B, C), got {type(given).__name__}'
            )
        level, token = pair
        for what, x, ndim in (('level', level, 4), ('class token of level', token, 2)):
            if not (what != 'level' and x is None) and getattr(x, 'ndim', None) != ndim:
                shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise TypeError(
                    f'HiMapper: {what} {i} must have {ndim} dimensions, got {shape}: set '
                    "out_type='featmap' in a ViT backbone of mmpretrain"
                )
        found.append((level, token))
    return found
