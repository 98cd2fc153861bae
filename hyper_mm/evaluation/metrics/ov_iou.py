"""Intersection over union for open-vocabulary segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.registry import METRICS

ABSENT = ('ignore', 'zero')


@METRICS.register_module()
class OVIoUMetric(BaseMetric):
    r"""Mean intersection over union over any number of classes.

    .. math:: \text{IoU}_t = \frac{|P_t \cap G_t|}{|P_t \cup G_t|}, \qquad
        \text{mIoU} = \operatorname{mean}_{t \in \mathcal T} \text{IoU}_t

    What is the mean over? The evaluator of detectron2 0.6, with which the numbers of this field
    are made, takes the classes that are there in the ground truth; mmseg's ``IoUMetric`` also those
    that are only predicted, at an IoU of 0. On PC-459 this is about 19 against 14.6 for the same
    predictions. Results: ``mIoU``, ``mAcc``, ``fwIoU``, ``aAcc`` in percent, and with
    ``seen_classes`` or ``unseen_classes``, ``mIoU_seen``, ``mIoU_unseen`` and their harmonic mean
    ``hIoU``.

    Args:
        ignore_index: Label that is ignored.
        absent: Classes that are not in the ground truth: ``'ignore'`` leaves them out
            (detectron2), ``'zero'`` counts those that were predicted as 0 (mmseg).
        seen_classes: Names of the classes of training, for the split.
        unseen_classes: Names of the other classes, if these are fewer to name.
        collapse: Predictions from this number on become this number: 20 for PAS-20b, where
            everything but 20 classes is background.
        output_dir: Folder for the predicted label maps, PNGs of 8 bits, or of 16 where the
            vocabulary has more than 256 classes.
        format_only: Only write the label maps.
        keep_results: What mmseg's ``tools/test.py --out`` sets: label maps are kept beside the
            scores, which ``output_dir`` does here in any case.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: If ``absent`` is unknown; in evaluation, if labels or predictions are no
            classes, ``ignore_index`` is one, ``seen_classes`` are not among the classes, or two
            images of ``output_dir`` have one name.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        absent: str = 'ignore',
        seen_classes: Sequence[str] | None = None,
        unseen_classes: Sequence[str] | None = None,
        collapse: int | None = None,
        output_dir: str | None = None,
        format_only: bool = False,
        keep_results: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice(ABSENT, absent=absent)
        if format_only and output_dir is None:
            raise ValueError('format_only needs an output_dir, got None')
        if keep_results and output_dir is None:
            raise ValueError('keep_results needs an output_dir, got None')
        self.ignore_index = ignore_index
        self.absent = absent
        if seen_classes is not None and unseen_classes is not None:
            raise ValueError('give seen_classes or unseen_classes, got both')
        self.seen_classes = None if seen_classes is None else list(seen_classes)
        self.unseen_classes = None if unseen_classes is None else list(unseen_classes)
        self.collapse = collapse
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.format_only = format_only
        self._written: dict[str, str] = {}
        if self.output_dir is not None and is_main_process():
            self.output_dir.mkdir(parents=True, exist_ok=True)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts pixels of a batch.

        Each of ``data_samples`` has ``pred_sem_seg`` and ``gt_sem_seg``, both ``(1, H, W)``; their
        maps are called ``data`` (mmseg) or ``sem_seg`` (mmdet).

        Raises:
            ValueError: If their sizes differ, or a label or prediction is no class.
        """
        for sample in data_samples:
            predicted = _labels(sample['pred_sem_seg'])
            if self.output_dir is not None:
                self._write(predicted, sample['img_path'])
            if self.format_only:
                self.results.append(None)
                continue
            labels = _labels(sample['gt_sem_seg']).to(predicted.device)
            where = sample.get('seg_map_path') or sample.get('img_path') or 'an image'
            self.results.append(self._count(predicted.long(), labels.long(), where))

    def _count(self, predicted: Tensor, labels: Tensor, where: str) -> Tensor:
        """Intersection, predicted and labeled pixels of each class, ``(3, T)``."""
        classes = len(self.dataset_meta['classes'])
        if 0 <= self.ignore_index < classes:
            raise ValueError(
                f'ignore_index must not be one of the {classes} classes, got {self.ignore_index}: '
                'label maps of 8 bits cannot tell them apart, use 16'
            )
        if predicted.shape != labels.shape:
            raise ValueError(
                f'{where}: predictions are {tuple(predicted.shape)}, labels {tuple(labels.shape)}'
            )
        if self.collapse is not None:
            predicted = predicted.clamp(max=self.collapse)
        valid = labels != self.ignore_index
        predicted, labels = predicted[valid], labels[valid]
        for name, values in (('labels', labels), ('predictions', predicted)):
            wrong = values[(values < 0) | (values >= classes)]
            if wrong.numel():
                raise ValueError(
                    f'{where}: {name} must be classes 0..{classes - 1}, got '
                    f'{wrong.unique()[:5].tolist()} (ignore_index is {self.ignore_index})'
                )
        counted = [labels[labels == predicted], predicted, labels]
        return torch.stack([torch.bincount(x, minlength=classes) for x in counted]).cpu()

    def _write(self, predicted: Tensor, path: str) -> None:
        labels = predicted.cpu().numpy()
        wide = max(len(self.dataset_meta['classes']) - 1, labels.max(initial=0)) > 255
        image = Image.fromarray(labels.astype(np.uint16 if wide else np.uint8))
        name = f'{Path(path).stem}.png'
        if self._written.setdefault(name, path) != path:
            raise ValueError(
                f'output_dir: {path} and {self._written[name]} would be the same file {name}: give '
                'images of different folders different names'
            )
        image.save(self.output_dir / name)

    def compute_metrics(self, results: list[Tensor | None]) -> dict[str, float]:
        """Means over classes.

        Args:
            results: Counts of all images.

        Returns:
            The results, in percent.
        """
        if self.format_only:
            return {}
        if not results:
            raise ValueError('there are no images to score')
        intersection, predicted, labeled = torch.stack(results).sum(0).double()
        union = predicted + labeled - intersection
        counts = labeled if self.absent == 'ignore' else union
        iou = torch.where(counts > 0, intersection / union, torch.nan)
        accuracy = torch.where(labeled > 0, intersection / labeled, torch.nan)
        total = labeled.sum()
        metrics = {
            'mIoU': iou.nanmean(),
            'mAcc': accuracy.nanmean(),
            'fwIoU': (labeled / total * iou.nan_to_num(0)).sum(),
            'aAcc': intersection.sum() / total,
        }
        names = list(self.dataset_meta['classes'])
        split = self.seen_classes if self.unseen_classes is None else self.unseen_classes
        if split is not None:
            unknown = set(split) - set(names)
            if unknown:
                raise ValueError(
                    f'seen_classes and unseen_classes must be among the classes, got '
                    f'{sorted(unknown)}'
                )
            chosen = torch.tensor([name in split for name in names])
            seen = chosen if self.unseen_classes is None else ~chosen
            a, b = metrics['mIoU_seen'], metrics['mIoU_unseen'] = (
                iou[seen].nanmean(),
                iou[~seen].nanmean(),
            )
            metrics['hIoU'] = 2 * a * b / (a + b) if a + b > 0 else a * 0
        self._print(names, iou, accuracy)
        return {name: round(100 * value.item(), 2) for name, value in metrics.items()}

    def _print(self, names: list[str], iou: Tensor, accuracy: Tensor) -> None:
        """Logs the classes that were there."""
        table = Table('class', 'IoU', 'Acc')
        for name, *values in zip(names, iou.tolist(), accuracy.tolist()):
            if not np.isnan(values[0]):
                table.add_row(name, *(f'{100 * value:.2f}' for value in values))
        console = Console(width=80, color_system=None)
        with console.capture() as capture:
            console.print(table)
        MMLogger.get_current_instance().info(f'per class:\n{capture.get()}')


def _labels(pixels: dict) -> Tensor:
    """Label map ``(H, W)`` of the samples of mmseg or mmdet."""
    return pixels['data' if 'data' in pixels else 'sem_seg'].squeeze(0)
