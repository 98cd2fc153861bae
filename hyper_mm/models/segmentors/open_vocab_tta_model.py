"""Test-time augmentation of the open-vocabulary segmentor."""

from __future__ import annotations

from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.structures import SegDataSample
from torch import nn

from hyper_mm.registry import MODELS


@MODELS.register_module()
class OpenVocabTTAModel(SegTTAModel):
    """Averages the scores of the views of an image, then takes the best class.

    The scores of :class:`hyper_mm.OpenVocabSegmentor` are probabilities of each class for itself,
    which the softmax of mmseg's ``SegTTAModel`` would flatten.

    Args:
        module: The segmentor, or its config.
        **kwargs: See ``mmengine.model.BaseTTAModel``.

    Raises:
        TypeError: If the module is no segmentor with ``keep_scores``.
    """

    def __init__(self, module: dict | nn.Module, **kwargs) -> None:
        super().__init__(module, **kwargs)
        if not hasattr(self.module, 'keep_scores'):
            raise TypeError(
                'module must be a hyper_mm.OpenVocabSegmentor, got '
                f'{type(self.module).__name__}: others take SegTTAModel'
            )
        self.module.keep_scores = True

    def merge_preds(self, data_samples_list: list[list[SegDataSample]]) -> list[SegDataSample]:
        """One prediction for each image.

        Args:
            data_samples_list: Predictions of all views, image by image.

        Returns:
            The first view's data samples, with mean ``seg_logits`` and the ``pred_sem_seg`` of
            these.
        """
        merged = []
        for views in data_samples_list:
            scores = sum(view.seg_logits.data for view in views) / len(views)
            first = views[0]
            first.set_data(
                dict(
                    seg_logits=PixelData(data=scores),
                    pred_sem_seg=PixelData(data=self.module.best_classes(scores)),
                )
            )
            merged.append(first)
        return merged
