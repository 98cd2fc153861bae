"""A CLIP model as the backbone of a detector: maps of its image tower, and features of texts."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.open_vocab.image_towers import TowerMaps, image_tower
from hyper_mm.layers.open_vocab.region_scores import NameFeatures
from hyper_mm.models.utils.finetuning import prepare_clip
from hyper_mm.models.utils.observed import observe
from hyper_mm.models.utils.open_clip import build_open_clip
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder
from hyper_mm.registry import MODELS


@MODELS.register_module()
class CLIPBackbone(OwnInit, BaseModule):
    """Both towers of a CLIP model, for the open-vocabulary detectors.

    The image tower gives maps for a pyramid: those of its four stages (ResNet, ConvNeXt and other
    convolutional networks), or that of one block (vision transformers: put
    ``hyper_mm.SimpleFeaturePyramid`` behind it). Its last map is what regions are pooled from. An
    image tower of which nothing is trained runs without gradients and as in evaluation (without
    stochastic depth); batch norms keep their statistics in any case. The text tower has no dropout.

    Args:
        clip: Arguments of :func:`hyper_mm.models.utils.open_clip.build_open_clip`.
        adapter: Config of an adapter, see :func:`hyper_mm.models.utils.finetuning.prepare_clip`.
            Convolutional towers have no attention layers: ``towers=('text',)``.
        finetune: What of CLIP is trained without an adapter: ``'frozen'``, ``'qv'`` or ``'full'``.
        taps: Blocks of a vision transformer whose maps are returned, counted from 0; None: the last
            but one.
        text: Arguments of the text encoding: ``chunk`` prompts at a time, and whether to
            ``checkpoint`` (compute activations again in the backward pass).
        init_cfg: Initialization config of mmengine.

    Raises:
        TypeError: For an image tower of another kind, or an adapter that cannot be attached.
        ValueError: If an argument has a value that is not allowed.

    Attributes:
        embed_dims: Width of the features of texts and regions.
        channels: Channels of each map.
        strides: Strides of each map.
    """

    loaded = ('clip',)

    def __init__(
        self,
        clip: dict,
        adapter: dict | None = None,
        finetune: str = 'frozen',
        taps: Sequence[int] | None = None,
        text: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.clip = build_open_clip(**clip)
        self.tower = image_tower(self.clip.visual, taps)
        self.adapter = prepare_clip(self.clip, adapter, finetune)
        self._encoder = VocabularyEncoder(self.clip, **(text or {}))
        self.channels, self.strides = self.tower.channels, self.tower.strides
        self.embed_dims = text_width(self.clip)
        self.train()

    @property
    def trains_images(self) -> bool:
        """Whether something of the image tower is trained."""
        return any(p.requires_grad for p in self.clip.visual.parameters())

    def train(self, mode: bool = True) -> CLIPBackbone:
        """Sets the mode of what is trained of the image tower; the rest is as in evaluation.

        Features of texts by a trained tower, whose weights may be exchanged, are forgotten.
        """
        self._encoder.clear(frozen=False)
        super().train(mode)
        self.clip.eval()
        self.clip.visual.train(mode and self.trains_images)
        for module in self.clip.visual.modules():
            if isinstance(module, _NormBase):
                module.eval()
        return self

    def check(self, vocabulary: Vocabulary) -> None:
        """Raises ValueError if a prompt has more tokens than the text tower takes."""
        self._encoder.tokens(vocabulary)

    def encode(self, vocabulary: Vocabulary) -> NameFeatures:
        """Text features of the names of a vocabulary.

        With gradients of the text tower they are encoded each time, else kept until it changes.
        """
        names = self._encoder.names(vocabulary)
        observe(text=names.features)
        return names

    def forward(self, images: Tensor) -> TowerMaps:
        """Computes the maps of normalized images ``(B, 3, H, W)`` of any size."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trains_images):
            maps = self.tower(images)
        observe(pixels=maps.last)
        return maps


def text_width(clip: open_clip.CLIP | open_clip.CustomTextCLIP) -> int:
    """Width of the text features of a model, whatever its image tower is."""
    if hasattr(clip, 'text'):
        return clip.text.output_dim
    projection = clip.text_projection
    if projection is None:
        return clip.transformer.width
    return projection.out_features if isinstance(projection, nn.Module) else projection.shape[1]
