"""Accuracy from base to new classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.evaluator import BaseMetric

from hyper_mm.datasets.shots import half
from hyper_mm.registry import METRICS


@METRICS.register_module()
class BaseNewAccuracy(BaseMetric):
    r"""Accuracy on base classes, on new ones, their harmonic mean, and by class; in percent.

    .. math:: HM = \frac{2 B N}{B + N}

    One test of all classes takes the place of two: the first half of the classes is base, the rest
    is new, and an image competes with the names of its own half alone, as in CoOp's protocol.
    With :class:`hyper_mm.LatHAdapterHead` the features of a class depend on which others there are;
    ``dict(type='hyper_mm.DatasetVocabularyHook', halves=True)`` has them refined half by half, and
    the numbers are those of two tests again.

    Logged are ``base``, ``new``, ``HM``, and ``mean_class``, the mean of the accuracies of the
    classes that have images.

    Args:
        per_class: Whether to add ``per_class``, the accuracy of each class in the order of the data
            set (NaN without images).
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: In use, if the data set is but one half, or a half has no images.
    """

    default_prefix = 'base_new'

    def __init__(self, per_class: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.per_class = per_class

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compares ``pred_score`` ``(C,)`` with ``gt_label`` in each of ``data_samples``."""
        for sample in data_samples:
            score, label = sample['pred_score'].cpu(), int(sample['gt_label'])
            base, new = (half(range(len(score)), part) for part in ('base', 'new'))
            own = base if label in base else new
            best = own[int(score[own.start : own.stop].argmax())]
            self.results.append((label, best == label, len(score)))

    def compute_metrics(self, results: list[tuple[int, bool, int]]) -> dict[str, float]:
        """Sums up.

        Args:
            results: Label, whether it was found, and number of classes, of each image.
        """
        subsample = (self.dataset_meta or {}).get('subsample', 'all')
        if subsample != 'all':
            raise ValueError(
                f"BaseNewAccuracy needs a data set with subsample='all', got {subsample!r}"
            )
        labels, found, sizes = (torch.tensor(column) for column in zip(*results))
        size = int(sizes[0])
        count = torch.bincount(labels, minlength=size)
        hits = torch.bincount(labels[found], minlength=size)
        metrics = {}
        for part in ('base', 'new'):
            own = list(half(range(size), part))
            if not count[own].sum():
                raise ValueError(f'BaseNewAccuracy has no images of {part} classes')
            metrics[part] = 100 * (hits[own].sum() / count[own].sum()).item()
        base, new = metrics.values()
        by_class = 100 * hits / count
        metrics['HM'] = 2 * base * new / (base + new) if base + new else 0.0
        metrics['mean_class'] = by_class[count > 0].mean().item()
        if self.per_class:
            metrics['per_class'] = [round(value, 4) for value in by_class.tolist()]
        return metrics
