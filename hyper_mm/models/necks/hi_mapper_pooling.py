"""Hi-Mapper in place of the pooling of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.models.necks.hi_mapper_base import HiMapperBase
from hyper_mm.registry import MODELS


@MODELS.register_module()
class HiMapperPooling(HiMapperBase):
    r"""Hi-Mapper between the backbone and the head of a classifier.

    It decomposes the last feature map into a visual hierarchy and enriches the global token by it,
    :math:`\hat v = v_{cls} + v^L`: the class token of a ViT, the class and the distillation token
    (each by itself) of a distilled one, or the mean of the map, in place of
    ``GlobalAveragePooling``. The head stays as it is.

    Its losses, ``loss_hier_*``, need a model that collects them: ``hyper_mm.ImageClassifier``.

    Args:
        in_channels: Channels d of the backbone's last output.
        num_prefix_tokens: Tokens in front of the patches: 1 for a class token, 2 with a
            distillation token, 0 for feature maps.
        **kwargs: Arguments of :class:`HiMapperBase` (``memory_grad``, ``loss_grad``,
            ``loss_warmup``) and of :class:`hyper_mm.layers.HierarchyMapper` (``recipe``, ``tree``,
            ``lift``, ``loss``, ``competition``, ``test_mode``, ...).

    Raises:
        ValueError: For a ``num_prefix_tokens`` other than 0, 1 and 2; in forward, for features that
            are not finite or do not fit the arguments.

    Example:
        >>> model = dict(
        ...     type='hyper_mm.ImageClassifier',
        ...     backbone=dict(type='VisionTransformer', arch='deit-s', out_type='raw'),
        ...     neck=dict(type='hyper_mm.HiMapperPooling', in_channels=384, num_prefix_tokens=1),
        ...     head=dict(type='VisionTransformerClsHead', in_channels=384, num_classes=1000))

    Source: Kwon et al., Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping
    (CVPR 2024).
    """

    def __init__(self, in_channels: int, num_prefix_tokens: int = 0, **kwargs):
        super().__init__(in_channels, **kwargs)
        check_choice((0, 1, 2), num_prefix_tokens=num_prefix_tokens)
        self.in_channels = in_channels
        self.num_prefix_tokens = num_prefix_tokens

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> tuple:
        """Pools and enriches.

        Args:
            inputs: Outputs of the backbone, of which the last counts: tokens ``(B, P + M, d)`` with
                ``P = num_prefix_tokens`` (a ViT with ``out_type='raw'``), or, with ``P = 0``, a
                feature map ``(B, d, H, W)``.

        Returns:
            The enriched token ``(B, d)`` of the data type of the features; the pair of them for two
            prefix tokens; in a tuple of length 1 as heads expect.

        Raises:
            TypeError: If the inputs are neither a tensor nor a tuple of them.
        """
        if not isinstance(inputs, (Tensor, tuple, list)) or inputs == ():
            raise TypeError(
                'HiMapperPooling takes the outputs of a backbone, a tensor or a tuple of them, got '
                f'{type(inputs).__name__}'
            )
        features = inputs if isinstance(inputs, Tensor) else inputs[-1]
        tokens = self._tokens(features)
        count = self.num_prefix_tokens
        if not count:
            found = self.find(tokens)
        else:
            prefix, patches = tokens.split((count, tokens.shape[1] - count), 1)
            found = self.find(patches.contiguous(), prefix)  # layer norms are slow across strides
        token = found.token.to(features.dtype)
        return (token.squeeze(1) if count < 2 else token.unbind(1),)

    def _tokens(self, features: Tensor) -> Tensor:
        expected = '(B, d, H, W)' if self.num_prefix_tokens == 0 else '(B, P + M, d)'
        ndim = 4 if self.num_prefix_tokens == 0 else 3
        if not isinstance(features, Tensor) or features.ndim != ndim:
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features)
            raise ValueError(
                f'HiMapperPooling with num_prefix_tokens={self.num_prefix_tokens} takes features '
                f'{expected}, got {found}: set num_prefix_tokens=0 for feature maps, or '
                "out_type='raw' in a ViT backbone and num_prefix_tokens=1 (2 if distilled)"
            )
        if ndim == 4:
            if features.requires_grad:  # convolutions are slow for gradients across strides
                features.register_hook(Tensor.contiguous)
            features = features.flatten(2).transpose(-2, -1).contiguous()
        if features.shape[-1] != self.in_channels:
            raise ValueError(
                f'HiMapperPooling: in_channels is {self.in_channels}, but the backbone gives '
                f'{features.shape[-1]} channels: set in_channels={features.shape[-1]} in the neck'
            )
        if features.shape[1] <= self.num_prefix_tokens:
            raise ValueError(
                f'HiMapperPooling: {features.shape[1]} tokens leave no patch beside '
                f'num_prefix_tokens={self.num_prefix_tokens}'
            )
        return features
