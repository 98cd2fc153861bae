"""Scores of classes by a tree of labels, for images and for pixels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from hyper_mm.checks import check_count
from hyper_mm.evaluation.functional.taxonomy_scores import (
    confusion,
    consistent_counts,
    distance_at,
    tree_scores,
)
from hyper_mm.layers.taxonomy import Taxonomy
from hyper_mm.registry import METRICS

_CHUNK = 2**16
"""Pixels at once whose probabilities are added up."""


@METRICS.register_module()
class TaxonomyMetric(BaseMetric):
    """How good predictions are at every level of a tree, and how bad their mistakes.

    For data samples of mmseg (``gt_sem_seg``, ``pred_sem_seg``) and of mmpretrain (``gt_label``,
    ``pred_label``, ``pred_score``). See
    :func:`hyper_mm.evaluation.functional.taxonomy_scores.tree_scores` for the scores; images add
    ``distance_at_{k}``, the mean height of the lowest common ancestor of the true class and the k
    best predictions. Samples with scores of the classes (``seg_logits``, ``pred_score``) add
    ``consistency_depth{d}``: the part, in percent, of the predictions whose class is in the most
    probable group at that depth, where the probability of a group is the sum of those of its
    classes; not so where pixels are predicted from other scores, as with mmseg's ``SegTTAModel``,
    whose samples keep the scores of one view.

    Args:
        taxonomy: A file, an object or the name of one of our trees, see
            :meth:`hyper_mm.layers.taxonomy.Taxonomy.load`. Its classes are put in the order of the
            data set.
        topk: Numbers k of best predictions.
        ignore_index: Label of pixels that do not count.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: If ``topk`` is not positive; in evaluation, if the data set has other classes.
    """

    default_prefix = 'tree'

    def __init__(
        self,
        taxonomy: str | Path | Mapping[str, Any],
        topk: Sequence[int] = (1, 5),
        ignore_index: int = 255,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for k in topk:
            check_count(1, topk=k)
        self.source = taxonomy
        self.topk = tuple(topk)
        self.ignore_index = ignore_index
        self.tree = Taxonomy.load(taxonomy)
        self._told = False

    @BaseMetric.dataset_meta.setter  # type: ignore[attr-defined]
    def dataset_meta(self, meta: dict) -> None:
        """Meta information of the data set, whose classes are compared with those of the tree."""
        self._dataset_meta = meta
        classes = (meta or {}).get('classes')
        if classes:
            self.tree = Taxonomy.load(self.source, tuple(classes))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Counts a batch; the data samples are dicts.

        Raises:
            ValueError: If a sample has neither pixels nor a label with predictions.
        """
        num = self.tree.num_classes
        for sample in data_samples:
            if 'gt_sem_seg' in sample and 'pred_sem_seg' in sample:
                labels, found = (
                    sample[name]['data'].squeeze(0).cpu().numpy()
                    for name in ('gt_sem_seg', 'pred_sem_seg')
                )
                labels = np.where(labels == self.ignore_index, -1, labels.astype(np.int64))
                agreed = self._of_logits(sample, labels)
                self.results.append((confusion(labels, found, num), None, agreed))
            elif 'gt_label' in sample and ('pred_score' in sample or 'pred_label' in sample):
                self.results.append(self._of_image(sample, num))
            else:
                raise ValueError(
                    'TaxonomyMetric needs gt_sem_seg and pred_sem_seg, or gt_label and pred_score '
                    f'or pred_label, got {sorted(sample)}'
                )

    def _of_logits(self, sample: dict, labels: np.ndarray) -> np.ndarray | None:
        """Consistent pixels at each depth; None without logits of all classes, or of others."""
        if 'seg_logits' not in sample:
            return None
        logits = sample['seg_logits']['data'].flatten(1)
        if len(logits) != self.tree.num_classes:
            return None
        found = sample['pred_sem_seg']['data'].flatten().to(logits.device)
        counted = torch.from_numpy((labels >= 0) & (labels < self.tree.num_classes))
        places = counted.flatten().nonzero().squeeze(1).to(logits.device)
        agreed = np.zeros(len(self.tree.depths()), dtype=np.int64)
        for part in places.split(_CHUNK):
            if not torch.equal(logits[:, part].argmax(0), found[part].long()):
                self._tell_once(
                    'TaxonomyMetric: seg_logits are not those of pred_sem_seg (SegTTAModel keeps '
                    'those of its last view): such images are left out of the consistency'
                )
                return None
            probability = logits[:, part].float().softmax(0)
            agreed += consistent_counts(probability, found[part], self.tree)
        return agreed

    def _tell_once(self, message: str) -> None:
        if not self._told:
            print_log(message, 'current', logging.WARNING)
        self._told = True

    def _of_image(
        self, sample: dict, num: int
    ) -> tuple[np.ndarray, list[float] | None, np.ndarray | None]:
        label = np.atleast_1d(_array(sample['gt_label']))
        if 'pred_score' not in sample:
            return confusion(label, np.atleast_1d(_array(sample['pred_label'])), num), None, None
        scores = torch.as_tensor(sample['pred_score'])
        order = scores.argsort(descending=True).cpu().numpy()
        distances = [distance_at(label[:1], order[None, :k], self.tree) for k in self.topk]
        found = torch.as_tensor(order[:1].copy(), device=scores.device)
        agreed = consistent_counts(scores.float()[:, None], found, self.tree)
        return confusion(label, order[:1], num), distances, agreed

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sums the counts; names and units are those of the class."""
        scores = tree_scores(sum(counts for counts, *_ in results), self.tree)
        distances = [d for _, d, _ in results if d is not None]
        compared = [(agreed, counts.sum()) for counts, _, agreed in results if agreed is not None]
        if compared:
            agreed, total = (sum(parts) for parts in zip(*compared))
            for depth, count in zip(self.tree.depths(), agreed):
                scores[f'consistency_depth{depth}'] = 100 * float(count) / max(int(total), 1)
        if distances:
            for k, mean in zip(self.topk, np.mean(distances, 0)):
                scores[f'distance_at_{k}'] = float(mean)
        return scores


def _array(value: Any) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
