"""Head of open-vocabulary segmentors: cosines of pixels and class names, refined (CAT-Seg)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hyper_mm.checks import check_choice, check_range
from hyper_mm.layers.open_vocab.cost_aggregation import CostAggregator
from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures
from hyper_mm.models.heads.text_similarity_head import similarity_logits
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.windows import resize
from hyper_mm.registry import MODELS

CLASSES_AT_A_TIME = 64


@MODELS.register_module()
class CostAggregationHead(OwnInit, BaseModule):
    """Upsampled guidance and CAT-Seg's cost aggregation (Cho et al., CVPR 2024).

    Two maps of the vision tower are brought to two and four times the patch grid by transposed
    convolutions (a convolutional tower has maps of these sizes, which are only projected); with the
    dense features they guide :class:`hyper_mm.layers.CostAggregator`, which computes one logit map
    for each class, at four times the patch grid.

    The loss is binary cross-entropy over all classes and all pixels,

        L = mean_{t, p} softplus(x_tp) - [t = y_p] x_tp

    summed a few classes at a time, without one-hot targets, so that hundreds of classes fit.

    Args:
        in_channels: Width of the vision tower; or channels of the two maps, of twice and four times
            the resolution of the dense features, of a convolutional one.
        guidance_channels: Channels of the two maps after upsampling.
        aggregator: Arguments of :class:`hyper_mm.layers.CostAggregator`.
        ignore: What ignored pixels are: ``'zero'``, targets of no class, as in the official code,
            or ``'mask'``, left out.
        ignore_index: Label of ignored pixels.
        loss_weight: Factor of the loss.
        residual: Inverse temperature of :class:`hyper_mm.TextSimilarityHead`, whose logits the
            aggregation then corrects. The last convolution is zero at initialization, so that
            training begins where that head stands. None: there are no other logits, as in CAT-Seg.
        criterion: ``'bce'``, as above, or ``'ce'``: cross-entropy over the classes of each pixel
            that is not ignored, which compares the classes, as the prediction does.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: If ``ignore`` is unknown, or ``in_channels`` are not one or two numbers.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        guidance_channels: tuple[int, int] = (256, 128),
        aggregator: dict | None = None,
        ignore: str = 'zero',
        ignore_index: int = 255,
        loss_weight: float = 1.0,
        residual: float | None = None,
        criterion: str = 'bce',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice(('zero', 'mask'), ignore=ignore)
        check_choice(('bce', 'ce'), criterion=criterion)
        self.criterion = criterion
        self.ignore, self.ignore_index, self.loss_weight = ignore, ignore_index, loss_weight
        if residual is not None:
            check_range('(0, inf)', residual=residual)
        self.residual = residual
        first, second = guidance_channels
        self.upsample1: nn.Module
        self.upsample2: nn.Module
        if isinstance(in_channels, int):
            self.upsample1 = nn.ConvTranspose2d(in_channels, first, kernel_size=2, stride=2)
            self.upsample2 = nn.ConvTranspose2d(in_channels, second, kernel_size=4, stride=4)
        else:
            if len(in_channels) != 2:
                raise ValueError(f'in_channels must be one or two numbers, got {in_channels}')
            self.upsample1 = nn.Conv2d(in_channels[0], first, kernel_size=1)
            self.upsample2 = nn.Conv2d(in_channels[1], second, kernel_size=1)
        self.aggregator = CostAggregator(guidance_dims=(first, second), **(aggregator or {}))
        if residual is not None:
            nn.init.zeros_(self.aggregator.decoder.head.weight)
            nn.init.zeros_(self.aggregator.decoder.head.bias)

    @property
    def num_prompts(self) -> int:
        """Templates of a class that :meth:`forward` takes."""
        return self.aggregator.num_prompts

    def forward(self, dense: DenseFeatures, text: Tensor) -> Tensor:
        """Logits of every class.

        Args:
            dense: Features ``(B, D, h, w)`` and two maps ``(B, in_channels, h, w)``, or of two and
                four times as many rows and columns.
            text: Text features ``(T, P, D)``.

        Returns:
            ``(B, T, 4 h, 4 w)``.
        """
        early, late = dense.intermediate
        guidance = [dense.features, self.upsample1(early), self.upsample2(late)]
        logits = self.aggregator(dense.features, text, guidance)
        if self.residual is None:
            return logits
        plain = similarity_logits(dense.features, text, self.residual)
        return logits + resize(plain, logits.shape[-2:])

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Loss at the resolution of the labels.

        Args:
            logits: ``(B, T, h, w)``, scaled up to the labels (bilinear).
            labels: ``(B, H, W)``; 0..T-1, or ``ignore_index``.

        Returns:
            ``loss_ce``.

        Raises:
            ValueError: If a label is neither a class nor ``ignore_index``, or ``ignore_index`` is
                the number of a class.
        """
        classes, labels = logits.shape[1], labels.long()
        if 0 <= self.ignore_index < classes:
            raise ValueError(
                f'ignore_index must not be one of {classes} classes, got {self.ignore_index}'
            )
        ignored = labels == self.ignore_index
        wrong = ~ignored & ((labels < 0) | (labels >= classes))
        if wrong.any():
            found = labels[wrong].unique()[:5].tolist()
            raise ValueError(
                f'labels must be 0..{classes - 1} (the vocabulary) or {self.ignore_index} '
                f'(ignored), got {found}'
            )
        if self.criterion == 'ce':
            labels = labels.masked_fill(ignored, -1)
            sums = logits.new_zeros(2, dtype=torch.float32)
            for one, of_one in zip(logits, labels):  # one image at a time
                sums = sums + checkpoint(_ce_sum, one[None], of_one[None], use_reentrant=False)
            return dict(loss_ce=self.loss_weight * sums[0] / sums[1].clamp(min=1))
        counted = ~ignored if self.ignore == 'mask' else torch.ones_like(ignored)
        labels = labels.masked_fill(ignored, -1)
        total = logits.new_zeros((), dtype=torch.float32)
        for start in range(0, classes, CLASSES_AT_A_TIME):
            part = logits[:, start : start + CLASSES_AT_A_TIME]
            total = total + checkpoint(_bce_sum, part, labels - start, counted, use_reentrant=False)
        mean = total / (counted.sum() * classes).clamp(min=1)
        return dict(loss_ce=self.loss_weight * mean)


def _bce_sum(logits: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """Binary cross-entropy, summed; labels outside the classes given here are of none of them."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = resize(logits.float(), labels.shape[-2:])
        loss = F.softplus(logits).sum(1)
        inside = (labels >= 0) & (labels < logits.shape[1])
        target = logits.gather(1, labels.where(inside, 0)[:, None])[:, 0]
        return ((loss - target * inside) * counted).sum()


def _ce_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the pixels with a label, summed, and their number ``(2,)``."""
    with torch.autocast(logits.device.type, enabled=False):
        logits = resize(logits.float(), labels.shape[-2:])
        loss = F.cross_entropy(logits, labels, ignore_index=-1, reduction='sum')
        return torch.stack([loss, (labels >= 0).sum().to(loss.dtype)])
