"""Overlap of few-shot segmentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from mmengine.evaluator import BaseMetric

from hyper_mm.registry import METRICS


@METRICS.register_module()
class FewShotIoUMetric(BaseMetric):
    r"""Mean IoU over the classes of episodes, foreground-background IoU, and dice; in percent.

    Pixels are summed over all episodes of a class (PANet's and the usual reading) before
    :math:`|P \cap G| / |P \cup G|`; ``mIoU`` and ``mDice`` are the means over the classes that
    occurred, ``FBIoU`` that of foreground (all ways) and background. The prediction labels are
    those of the episode; its metainfo ``episode_classes`` lists them. Without it
    (episodes of domains), they are the classes themselves.

    A batch counts as one result, so that mmengine's loops, which count items of the data set, keep
    all queries: test with a batch of one episode.

    Args:
        ignore_index: Label of pixels that do not count.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.
    """

    default_prefix = None

    def __init__(self, ignore_index: int = 255, **kwargs):
        super().__init__(**kwargs)
        self.ignore_index = ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts pixels of queries.

        Each of ``data_samples`` has ``pred_sem_seg`` and ``gt_sem_seg``, both ``(1, H, W)``.

        Raises:
            ValueError: If their sizes differ.
        """
        sums = defaultdict(lambda: np.zeros(2, np.int64))
        for sample in data_samples:
            predicted = sample['pred_sem_seg']['data'].squeeze(0).cpu().numpy()
            labels = sample['gt_sem_seg']['data'].squeeze(0).cpu().numpy()
            if predicted.shape != labels.shape:
                raise ValueError(f'predictions are {predicted.shape}, labels {labels.shape}')
            valid = labels != self.ignore_index
            predicted, labels = predicted[valid], labels[valid]
            ways = sample.get('episode_classes')
            if ways is None:
                ways = range(1, len(self.dataset_meta['classes']))
            for way, k in enumerate(ways, 1):
                sums[k] += overlap(predicted == way, labels == way)
            sums['foreground'] += overlap(predicted > 0, labels > 0)
            sums['background'] += overlap(predicted == 0, labels == 0)
        self.results.append(dict(sums))

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Sums up and divides.

        Args:
            results: Counts of each batch.
        """
        sums = defaultdict(lambda: np.zeros(2, np.int64))
        for counts in results:
            for name, pair in counts.items():
                sums[name] += pair
        iou = {k: 100 * both / max(total - both, 1) for k, (both, total) in sums.items()}
        dice = {k: 200 * both / max(total, 1) for k, (both, total) in sums.items()}
        sides = ('foreground', 'background')
        classes = [k for k in sums if k not in sides and sums[k][1] > 0]
        return dict(
            mIoU=float(np.mean([iou[k] for k in classes])) if classes else float('nan'),
            mDice=float(np.mean([dice[k] for k in classes])) if classes else float('nan'),
            FBIoU=float(np.mean([iou[k] for k in sides])),
        )


def overlap(p: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Pixels in both masks, and the sum of their areas."""
    return np.array([(p & g).sum(), p.sum() + g.sum()], np.int64)
