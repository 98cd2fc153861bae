"""What the open-vocabulary detectors have in common: classes by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.open_vocab.image_towers import ImageTower, TowerMaps
from hyper_mm.layers.open_vocab.region_scores import NameFeatures
from hyper_mm.models.backbones.clip_backbone import CLIPBackbone
from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights

Names = str | Sequence[str] | dict | Vocabulary
"""A vocabulary: built-in name, path of a file, list of names, arguments, or one that is built."""


class RegionPyramid(tuple):
    """Maps of a pyramid, with what the heads of an open-vocabulary detector need beside them.

    It is a tuple of the maps, so heads of mmdet take it as it is.

    Attributes:
        last: Last map of CLIP's image tower ``(B, C, h, w)``.
        tower: The tower.
        names: Text features of the classes.
        seen: Whether each class was seen in training ``(T,)``.
    """

    last: Tensor
    tower: ImageTower
    names: NameFeatures
    seen: Tensor

    @classmethod
    def of(
        cls,
        levels: Sequence[Tensor],
        maps: TowerMaps,
        tower: ImageTower,
        names: NameFeatures,
        seen: Tensor,
    ) -> RegionPyramid:
        """Puts the parts together."""
        pyramid = cls(levels)
        pyramid.last, pyramid.tower = maps.last, tower
        pyramid.names, pyramid.seen = names, seen
        return pyramid

    def regions(self, rois: Tensor) -> Tensor:
        """Features of regions by CLIP's image tower.

        Args:
            rois: ``(N, 5)``: number of the image, and box in pixels.

        Returns:
            Features ``(N, D)``.
        """
        found = rois.new_zeros(len(rois), self.names.features.shape[1])
        for index, last in enumerate(self.last):
            own = rois[:, 0] == index
            if own.any():
                found[own] = self.tower.boxes(last, rois[own, 1:]).to(found.dtype)
        return found


class OpenVocabMixin(LoadsTrainedWeights, OwnInit, AuxLossMixin):
    """Mixin of a detector of mmdet on a :class:`CLIPBackbone`, before its class.

    Its classes are those of ``vocabulary``, which can be exchanged at any time, and which names
    them in predictions and pictures; in training they are those of ``train_vocabulary``.
    """

    backbone: CLIPBackbone

    def _read_backbone(self) -> CLIPBackbone:
        """Checks that the backbone is a CLIP model."""
        if not isinstance(self.backbone, CLIPBackbone):
            raise TypeError(
                'backbone must be a hyper_mm.CLIPBackbone, whose texts name the classes, got '
                f'{type(self.backbone).__name__}'
            )
        return self.backbone

    def _set_vocabularies(self, vocabulary: Names, train_vocabulary: Names | None) -> None:
        self._train_vocabulary = None
        self.vocabulary = vocabulary
        if train_vocabulary is not None:
            self._train_vocabulary = self._checked(train_vocabulary)

    def _checked(self, value: Names) -> Vocabulary:
        vocabulary = Vocabulary.load(value)
        self.backbone.check(vocabulary)
        return vocabulary

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes; assign a name, a path, a list or a :class:`Vocabulary` to change them."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, value: Names) -> None:
        self._vocabulary = self._checked(value)
        self._palette: Any = None

    @property
    def train_vocabulary(self) -> Vocabulary:
        """The classes of the training labels."""
        return self.vocabulary if self._train_vocabulary is None else self._train_vocabulary

    @property
    def adapter(self) -> object:
        """The adapter of the CLIP model, for hooks."""
        return self.backbone.adapter

    @property
    def dataset_meta(self) -> dict:
        """Class names and palette of the vocabulary, as visualizers want them."""
        palette = self._palette or [tuple(color) for color in self.vocabulary.palette]
        return dict(classes=tuple(self.vocabulary.names), palette=palette)

    @dataset_meta.setter
    def dataset_meta(self, meta: dict | None) -> None:
        """Takes the palette of a data set whose classes are the vocabulary's; names stay."""
        meta = meta or {}
        classes = list(meta.get('classes') or ())
        if classes and self.vocabulary.match(classes) == list(range(len(self.vocabulary))):
            self._take_meta(meta)

    def _take_meta(self, meta: dict) -> None:
        """Takes what a data set of the vocabulary's classes says of them."""
        palette = meta.get('palette')
        fits = isinstance(palette, (list, tuple)) and len(palette) == len(self.vocabulary)
        self._palette = palette if fits else None

    def init_weights(self) -> None:
        """Initializes what is not pretrained, and logs what will be trained."""
        super().init_weights()
        parts = {name: _count(part) for name, part in self.named_children() if _count(part)}
        listed = ', '.join(f'{name} {count:,}' for name, count in parts.items())
        count = sum(p.numel() for p in self.parameters())  # type: ignore[attr-defined]
        print_log(f'trained parameters: {listed}; of {count:,} in all', logger='current')

    def _name(self, instances: InstanceData) -> None:
        """Gives instances the names of their classes, which mmdet's visualizer draws."""
        names = self.vocabulary.names
        instances.label_names = [names[label] for label in instances.labels.tolist()]

    def seen(self) -> Tensor:
        """Whether each class was seen in training ``(T,)``: a name of it was one there."""
        if self.training:  # type: ignore[attr-defined]
            return torch.ones(len(self.train_vocabulary), dtype=torch.bool)
        return torch.tensor(self.vocabulary.shared_with(self.train_vocabulary))

    def extract_feat(self, batch_inputs: Tensor) -> RegionPyramid:
        """The pyramid of images, with the text features of the classes.

        Args:
            batch_inputs: Normalized images ``(B, 3, H, W)``.
        """
        maps = self.backbone(batch_inputs)
        neck = getattr(self, 'neck', None)
        levels = maps.levels if neck is None else neck(maps.levels)
        vocabulary = self.train_vocabulary if self.training else self.vocabulary
        names = self.backbone.encode(vocabulary)
        seen = self.seen().to(maps.last.device)
        return RegionPyramid.of(levels, maps, self.backbone.tower, names, seen)


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
