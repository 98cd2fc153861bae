"""Panoptic, instance and semantic segmentation of classes given by name, by one model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmdet.models import Mask2Former as _Mask2Former
from torch import Tensor

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.models.detectors.open_vocab_base import Names, OpenVocabMixin
from hyper_mm.models.heads.open_vocab_mask2former_head import (
    OpenVocabFusionHead,
    OpenVocabMask2FormerHead,
)
from hyper_mm.registry import MODELS


@MODELS.register_module()
class OpenVocabMask2Former(OpenVocabMixin, _Mask2Former):
    """mmdet's ``Mask2Former`` for classes that are given by name.

    FC-CLIP's arrangement: Mask2Former's head on the maps of a CLIP image tower (frozen, or adapted)
    finds masks of any class. A mask is classified by the cosines of its query with the names, and
    in testing by their geometric mean with those of CLIP's own features in the mask.

    Args:
        *args: Arguments of mmdet's class. ``backbone`` is a ``hyper_mm.CLIPBackbone``,
            ``panoptic_head`` a ``hyper_mm.OpenVocabMask2FormerHead``, ``panoptic_fusion_head`` a
            ``hyper_mm.OpenVocabFusionHead``.
        vocabulary: Classes of the predictions; see :class:`hyper_mm.OpenVocabFasterRCNN`.
        train_vocabulary: Classes of the training labels, things first, where they are not
            ``vocabulary``'s.
        stuff: Names of the classes of ``vocabulary`` that are not countable. None: those that the
            data set calls so where its classes are the vocabulary's, else those that share a name
            with stuff of training.
        **kwargs: Arguments of mmdet's class.

    Raises:
        TypeError: If a part is of another kind.
        ValueError: If the width of the head is not that of the text features, its number of classes
            not that of the training vocabulary, a prompt is too long, or ``stuff`` names no class.
    """

    panoptic_head: OpenVocabMask2FormerHead
    panoptic_fusion_head: OpenVocabFusionHead

    def __init__(
        self,
        *args,
        vocabulary: Names,
        train_vocabulary: Names | None = None,
        stuff: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        backbone, head = self._read_backbone(), self.panoptic_head
        for name, kind in (
            ('panoptic_head', OpenVocabMask2FormerHead),
            ('panoptic_fusion_head', OpenVocabFusionHead),
        ):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(
                    f'{name} must be a hyper_mm.{kind.__name__}, got '
                    f'{type(getattr(self, name)).__name__}'
                )
        if head.embed_dims != backbone.embed_dims:
            raise ValueError(
                f'panoptic_head.embed_dims must be {backbone.embed_dims}, the width of the text '
                f'features, got {head.embed_dims}'
            )
        self.stuff = None if stuff is None else tuple(stuff)
        self._set_vocabularies(vocabulary, train_vocabulary)
        if head.num_classes != len(self.train_vocabulary):
            raise ValueError(
                'panoptic_head.num_things_classes + num_stuff_classes must be '
                f'{len(self.train_vocabulary)}, the classes of training, got {head.num_classes}'
            )
        self.things()

    def things(self) -> Tensor:
        """Whether each class of the vocabulary is countable ``(T,)``.

        Raises:
            ValueError: If ``stuff`` names something that is no class.
        """
        if self.stuff is not None:
            stuff = self.stuff
            known = self.vocabulary.match(stuff)
            if None in known:
                unknown = [name for name, row in zip(stuff, known) if row is None]
                raise ValueError(f'stuff must be classes of the vocabulary, got {unknown}')
        else:
            stuff = self._dataset_stuff
        if stuff is None:
            names = [', '.join(entry) for entry in self.train_vocabulary.entries]
            stuff = names[self.panoptic_head.num_things_classes :]
        if not stuff:
            return torch.ones(len(self.vocabulary), dtype=torch.bool)
        return ~torch.tensor(self.vocabulary.shared_with(Vocabulary(list(stuff))))

    _dataset_stuff: tuple[str, ...] | None = None

    def _take_meta(self, meta: dict) -> None:
        super()._take_meta(meta)
        self._dataset_stuff = meta.get('stuff_classes')

    def predict(self, batch_inputs: Tensor, batch_data_samples: list, rescale: bool = True) -> list:
        """Segments images.

        Args:
            batch_inputs: Normalized images ``(B, 3, H, W)``, padded.
            batch_data_samples: With the metainfo of the images.
            rescale: Whether the results have the sizes of the original images.

        Returns:
            The data samples with what the fusion head is set to make: ``pred_panoptic_seg``,
            ``pred_instances``, ``pred_sem_seg``.
        """
        x = self.extract_feat(batch_inputs)
        logits, masks = self.panoptic_head.predict(x, batch_data_samples)
        tower = x.tower.masks(x.last, masks)
        fusion = self.panoptic_fusion_head
        probabilities = fusion.ensemble.probabilities(logits, tower, x.names, x.seen)
        things = self.things().to(masks.device)
        metas = [sample.metainfo for sample in batch_data_samples]
        found = fusion.predict(probabilities, masks.float(), things, metas, rescale)
        names = list(self.vocabulary.names)
        for sample, fields in zip(batch_data_samples, found):
            sample.set_data(fields)
            if 'pred_panoptic_seg' in sample:
                meta = dict(label_names=names, ignore_index=len(names))
                sample.pred_panoptic_seg.set_metainfo(meta)
            if 'pred_sem_seg' in sample:
                sample.pred_sem_seg.set_metainfo(dict(label_names=names))
            if 'pred_instances' in sample:
                self._name(sample.pred_instances)
        return batch_data_samples
