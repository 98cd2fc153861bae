"""Hi-Mapper as a neck of dense models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.layers import HierarchyMapper, NodeFusion, TokenFusion
from hyper_mm.models.utils.aux_losses import AuxLossSource
from hyper_mm.registry import MODELS

FUSIONS = {'token': TokenFusion, 'nodes': NodeFusion}


@MODELS.register_module()
class HiMapper(AuxLossSource, BaseModule):
    """Hi-Mapper between a backbone and a decode head, or a neck such as FPN.

    It decomposes one feature level into a visual hierarchy, brings the hierarchy back into that
    level through a gate that starts at zero (a pretrained model starts unchanged), and passes the
    other levels on. The count, widths and sizes of the levels do not change, and any image size
    works.

    Its losses, ``loss_hier_cont`` and ``loss_hier_kl``, need a model that collects them:
    ``hyper_mm.EncoderDecoder`` and its like.

    Args:
        in_channels: Channels of the backbone's levels; a single number for levels of equal width.
        level: Which level to decompose.
        fusion: ``'token'`` adds the encoded global token to every position; ``'nodes'`` lets every
            position attend to the nodes.
        gate_init: Initial value of the gate.
        memory_grad: Factor of the gradient from the module into the backbone, in [0, 1]; 0 lets the
            module read the features without shaping them.
        neck: Config of a neck to apply to the result.
        init_cfg: Initialisation config of mmengine.
        **mapper: Arguments of :class:`hyper_mm.layers.HierarchyMapper` (``num_leaves``,
            ``num_levels``, ``manifold``, ``probabilistic``, ``test_mode``, ``curvature``, ...).

    Raises:
        ValueError: For an unknown ``fusion``, a ``level`` or ``memory_grad`` outside its range; in
            forward, for features that are not finite or do not fit ``in_channels``.

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
        fusion: str = 'token',
        gate_init: float = 0.0,
        memory_grad: float = 1.0,
        neck: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
        **mapper,
    ):
        super().__init__(init_cfg)
        if fusion not in FUSIONS:
            raise ValueError(f'fusion must be one of {tuple(FUSIONS)}, got {fusion!r}')
        if not 0 <= memory_grad <= 1:
            raise ValueError(f'memory_grad must be in [0, 1], got {memory_grad}')
        self.in_channels = in_channels if isinstance(in_channels, int) else tuple(in_channels)
        if isinstance(in_channels, int):
            dim = in_channels
        elif -len(in_channels) <= level < len(in_channels):
            dim = in_channels[level]
        else:
            raise ValueError(f'level must index in_channels {self.in_channels}, got {level}')
        self.level = level
        self.memory_grad = memory_grad
        self.mapper = HierarchyMapper(dim, encode=fusion == 'token', **mapper)
        self.fusion = FUSIONS[fusion](dim, gate_init=gate_init)
        self.neck = None if neck is None else MODELS.build(neck)

    def forward(self, inputs: Sequence[Tensor | Sequence[Tensor]]) -> tuple[Tensor, ...]:
        """Enriches one level of a feature pyramid.

        Args:
            inputs: Levels ``(B, C, H, W)``, or pairs of a level and its class token ``(B, C)`` as
                ViT backbones give with ``output_cls_token=True``. Without a class token the mean of
                the feature map stands for it.

        Returns:
            The levels ``(B, C, H, W)``, or what ``neck`` makes of them.
        """
        levels = [x if isinstance(x, Tensor) else x[0] for x in inputs]
        self._check_channels(levels)
        features = levels[self.level]
        self._check_finite(features)
        given = inputs[self.level]
        tokens = features.flatten(2).transpose(1, 2)
        memory = self._scale_gradient(tokens.contiguous())  # layer norms are slow across strides
        if isinstance(given, Tensor):
            token = memory.mean(1, keepdim=True)
        else:
            token = self._scale_gradient(given[1]).unsqueeze(1)
        found = self.mapper(memory, token)
        if self.training and torch.is_grad_enabled():
            self._publish_losses(found.levels)
        tokens = self.fusion(tokens, found.update, found.levels)
        levels[self.level] = tokens.transpose(1, 2).reshape(features.shape)
        return tuple(levels) if self.neck is None else self.neck(tuple(levels))

    def _publish_losses(self, levels: tuple[Tensor, ...]) -> None:
        losses, diagnostics = self.mapper.losses(levels)
        gate = self.fusion.gate.detach().abs().mean()
        self.publish(
            {f'loss_hier_{name}': loss for name, loss in losses.items()}
            | {f'hi_mapper/{name}': value for name, value in dict(diagnostics, gate=gate).items()}
        )

    def _scale_gradient(self, x: Tensor) -> Tensor:
        if self.memory_grad == 1:
            return x
        return x.detach() if self.memory_grad == 0 else x.detach().lerp(x, self.memory_grad)

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

    def _check_finite(self, features: Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        extremes = torch.stack(features.detach().aminmax())  # NaN if there is one
        if extremes.isfinite().all():
            return
        count = int((~torch.isfinite(features)).sum())
        raise ValueError(
            f'HiMapper: {count} of {features.numel()} input features at level {self.level} are not '
            'finite: training has diverged before this neck (lower the learning rate, clip '
            'gradients with optim_wrapper.clip_grad, or look at the last good checkpoint)'
        )
