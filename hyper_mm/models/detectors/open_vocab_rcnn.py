"""Two-stage detectors of classes given by name, on the image tower of CLIP."""

from __future__ import annotations

from mmdet.models import FasterRCNN as _FasterRCNN
from mmdet.models import MaskRCNN as _MaskRCNN
from torch import Tensor

from hyper_mm.models.detectors.open_vocab_base import Names, OpenVocabMixin
from hyper_mm.models.heads.open_vocab_roi_head import OpenVocabRoIHead
from hyper_mm.registry import MODELS


class _OpenVocabTwoStage(OpenVocabMixin):
    """Construction of both detectors."""

    roi_head: OpenVocabRoIHead

    def __init__(
        self,
        *args,
        vocabulary: Names,
        train_vocabulary: Names | None = None,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        backbone = self._read_backbone()
        if not isinstance(self.roi_head, OpenVocabRoIHead):
            raise TypeError(
                f'roi_head must be a hyper_mm.OpenVocabRoIHead, got {type(self.roi_head).__name__}'
            )
        head = self.roi_head.bbox_head
        if head.embed_dims != backbone.embed_dims:
            raise ValueError(
                f'roi_head.bbox_head.embed_dims must be {backbone.embed_dims}, the width of the '
                f'text features, got {head.embed_dims}'
            )
        self._set_vocabularies(vocabulary, train_vocabulary)
        head.num_classes = len(self.train_vocabulary)  # label of the background in training

    def predict(self, batch_inputs: Tensor, batch_data_samples: list, rescale: bool = True) -> list:
        """Detects, and names what is found; see mmdet's class."""
        samples = super().predict(batch_inputs, batch_data_samples, rescale)
        for sample in samples:
            self._name(sample.pred_instances)
        return samples


@MODELS.register_module()
class OpenVocabFasterRCNN(_OpenVocabTwoStage, _FasterRCNN):
    """mmdet's ``FasterRCNN`` for classes that are given by name.

    F-VLM's arrangement: a CLIP image tower (frozen, or adapted) with a pyramid, whose region
    proposals, boxes and region embeddings are trained on the base classes. A region is classified
    by the cosines of its embedding with the names, beside a learned background; in testing, by the
    geometric mean of these scores and of CLIP's own for the region.

    Args:
        *args: Arguments of mmdet's class. ``backbone`` is a ``hyper_mm.CLIPBackbone``, ``roi_head``
            a ``hyper_mm.OpenVocabRoIHead``.
        vocabulary: Classes of the predictions: name of a built-in vocabulary, path of a file, list
            of names, or arguments of :class:`hyper_mm.datasets.vocabulary.Vocabulary`. Those that
            share a name with a class of training are base classes, others are novel.
        train_vocabulary: Classes of the training labels, where they are not ``vocabulary``'s.
        **kwargs: Arguments of mmdet's class.

    Raises:
        TypeError: If the backbone or the head is of another kind.
        ValueError: If the width of the head is not that of the text features, or a prompt is too
            long.

    Source: Kuo et al., F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language
    Models (ICLR 2023). The detector of the HyperCLIP paper is not described.
    """


@MODELS.register_module()
class OpenVocabMaskRCNN(_OpenVocabTwoStage, _MaskRCNN):
    """mmdet's ``MaskRCNN`` for classes that are given by name: :class:`OpenVocabFasterRCNN` with
    masks, whose head must be of one class (``class_agnostic=True``).

    Args:
        *args: See :class:`OpenVocabFasterRCNN`.
        **kwargs: The same.

    Raises:
        ValueError: Also if the mask head has a mask for each class.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.roi_head.with_mask and not self.roi_head.mask_head.class_agnostic:
            raise ValueError(
                'roi_head.mask_head.class_agnostic must be True: masks of classes that training '
                'has not seen need one mask for all, got False'
            )
