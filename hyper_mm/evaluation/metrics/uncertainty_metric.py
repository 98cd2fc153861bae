"""How good the confidence and the radius of predictions are as uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from hyper_mm.checks import check_count
from hyper_mm.evaluation.functional.taxonomy_scores import (
    area_under_sparsification,
    calibration_error,
)
from hyper_mm.registry import METRICS


@METRICS.register_module()
class UncertaintyMetric(BaseMetric):
    """Calibration error, and areas under the sparsification error (AUSE) of two uncertainties.

    For data samples of mmseg (``gt_sem_seg``, ``pred_sem_seg``, ``seg_logits``; random pixels of an
    image, the same in every run) and of mmpretrain (``gt_label``, ``pred_score``). Scores:

    - ``ece``: mean difference of confidence and accuracy, in percent;
    - ``ause_entropy``: of the entropy of the softmax, 0 is perfect;
    - ``ause_radius``: of the distance of the embeddings from the origin, where predictions have it
      (``test_cfg.radius`` of :class:`hyper_mm.EncoderDecoder <hyper_mm.models.segmentors.
      encoder_decoder.EncoderDecoder>`).

    Args:
        pixels: Pixels drawn of an image.
        bins: Bins of the calibration error.
        ignore_index: Label of pixels that do not count.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: If ``pixels`` or ``bins`` is not positive; in evaluation, for samples without
            logits or scores, or with logits of another prediction (test-time augmentation).
    """

    default_prefix = 'uncertainty'

    def __init__(self, pixels: int = 4096, bins: int = 15, ignore_index: int = 255, **kwargs):
        super().__init__(**kwargs)
        check_count(1, pixels=pixels, bins=bins)
        self.pixels, self.bins, self.ignore_index = pixels, bins, ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps error, confidence, entropy and radius of some predictions of a batch."""
        for sample in data_samples:
            if 'gt_sem_seg' in sample and 'seg_logits' in sample:
                self.results.append(self._of_pixels(sample))
            elif 'gt_label' in sample and 'pred_score' in sample:
                score = torch.as_tensor(sample['pred_score']).float().cpu()[:, None]
                label = torch.as_tensor(sample['gt_label']).cpu().reshape(-1)[:1]
                self.results.append(_judged(score, label, None))
            else:
                raise ValueError(
                    'UncertaintyMetric needs gt_sem_seg and seg_logits, or gt_label and '
                    f'pred_score, got {sorted(sample)}'
                )

    def _of_pixels(self, sample: dict) -> tuple[np.ndarray, ...]:
        labels = sample['gt_sem_seg']['data'].flatten().cpu()
        places = (labels != self.ignore_index).nonzero().flatten()
        if len(places) > self.pixels:
            draw = torch.Generator().manual_seed(len(self.results))
            places = places[torch.randperm(len(places), generator=draw)[: self.pixels]]
        logits = sample['seg_logits']['data'].flatten(1)[:, places].float().cpu()
        if len(logits) == 1:
            raise ValueError('UncertaintyMetric needs logits of two classes or more, got one')
        if 'pred_sem_seg' in sample:
            found = sample['pred_sem_seg']['data'].flatten()[places].cpu()
            if not torch.equal(logits.argmax(0), found.long()):
                raise ValueError(
                    'UncertaintyMetric: seg_logits are not those of pred_sem_seg (SegTTAModel '
                    'keeps those of its last view): leave the metric out of tests with '
                    'augmentation'
                )
        radius = None
        if 'embedding_radius' in sample:
            radius = sample['embedding_radius']['data'].flatten()[places].float().cpu()
        return _judged(logits.softmax(0), labels[places], radius)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all that was kept; names and units are those of the class."""
        error, confidence, entropy, radius = (np.concatenate(parts) for parts in zip(*results))
        if not len(error):
            raise ValueError('UncertaintyMetric has seen no pixel with a label')
        scores = dict(
            ece=100 * calibration_error(1 - error, confidence, self.bins),
            ause_entropy=area_under_sparsification(error, entropy),
        )
        if not np.isnan(radius).any():
            scores['ause_radius'] = area_under_sparsification(error, -radius)
        return scores


def _judged(
    probability: torch.Tensor, label: torch.Tensor, radius: torch.Tensor | None
) -> tuple[np.ndarray, ...]:
    """Error, confidence, entropy and radius (NaN if unknown) of probabilities ``(K, n)``."""
    confidence, found = probability.max(0)
    entropy = torch.special.entr(probability).sum(0)
    if radius is None:
        radius = torch.full_like(confidence, torch.nan)
    error = (found != label).float()
    return tuple(x.numpy() for x in (error, confidence, entropy, radius))
