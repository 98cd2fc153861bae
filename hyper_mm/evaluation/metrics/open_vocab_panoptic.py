"""Panoptic quality of classes given by name, with the seen and the unseen ones apart."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table

from hyper_mm.datasets.open_vocab_panoptic import segment_ids
from hyper_mm.evaluation.functional.panoptic_quality import match_segments, panoptic_quality
from hyper_mm.registry import METRICS

INSTANCE_OFFSET = 1000


@METRICS.register_module()
class OpenVocabPanopticMetric(BaseMetric):
    """PQ, SQ and RQ of all classes, of things and stuff, and of seen and unseen classes.

    As mmdet's ``CocoPanopticMetric`` without ``ann_file``, the truth is read from the pngs that the
    samples name (``meta_keys`` of the pipeline: ``seg_map_path``, ``segments_info``), so parts of a
    set can be scored; ``panopticapi`` is not needed.

    Args:
        seen_classes: Names of the classes of training; the others are unseen.
        unseen_classes: Names of the other classes, if these are fewer to name.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: If both are given; in evaluation, if they are not among the classes, a sample
            names no truth, or a map does not fit its image.
    """

    default_prefix = 'coco_panoptic'

    def __init__(
        self,
        seen_classes: Sequence[str] | None = None,
        unseen_classes: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if seen_classes is not None and unseen_classes is not None:
            raise ValueError('give seen_classes or unseen_classes, got both')
        self.seen_classes, self.unseen_classes = seen_classes, unseen_classes

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Counts the matches of a batch; each sample has ``pred_panoptic_seg``."""
        classes = self.dataset_meta['classes']
        things = set(self.dataset_meta.get('thing_classes', classes))
        for sample in data_samples:
            path, segments = sample.get('seg_map_path'), sample.get('segments_info')
            if path is None or segments is None:
                raise ValueError(
                    f'{sample.get("img_path")}: a sample must name its truth: put seg_map_path and '
                    'segments_info into meta_keys of PackDetInputs'
                )
            truth = segment_ids(mmcv.imread(path, 'color', 'rgb'))
            predicted = sample['pred_panoptic_seg']['sem_seg'].squeeze(0).cpu().numpy()
            labels = {int(s): int(s) % INSTANCE_OFFSET for s in np.unique(predicted)}
            labels = {s: label for s, label in labels.items() if label < len(classes)}
            described = []
            for segment in segments:
                crowd = segment.get('iscrowd')
                if crowd is None:  # mmdet marks the crowds of things by is_thing alone
                    crowd = classes[segment['category']] in things and not segment['is_thing']
                described.append(dict(segment, iscrowd=crowd))
            try:
                counts = match_segments(predicted, labels, truth, described, len(classes))
            except ValueError as error:
                raise ValueError(f'{path}: {error}') from error
            self.results.append(counts)

    def compute_metrics(self, results: list[np.ndarray]) -> dict[str, float]:
        """Means over classes, in percent.

        Args:
            results: Counts ``(4, T)`` of all images.

        Returns:
            ``PQ``, ``SQ``, ``RQ``, the same with ``_th`` and ``_st`` for things and stuff, and with
            ``_seen`` and ``_unseen`` where these are told apart.
        """
        if not results:
            raise ValueError('there are no images to score')
        counts, classes = np.sum(results, 0), list(self.dataset_meta['classes'])
        things = self.dataset_meta.get('thing_classes', classes)
        parts = {
            '': range(len(classes)),
            '_th': [i for i, name in enumerate(classes) if name in things],
            '_st': [i for i, name in enumerate(classes) if name not in things],
        }
        split = self.unseen_classes if self.seen_classes is None else self.seen_classes
        if split is not None:
            unknown = sorted(set(split) - set(classes))
            if unknown:
                raise ValueError(
                    f'seen_classes and unseen_classes must be among the classes, got {unknown}'
                )
            named = [i for i, name in enumerate(classes) if name in split]
            others = [i for i, name in enumerate(classes) if name not in split]
            seen, unseen = (others, named) if self.seen_classes is None else (named, others)
            parts |= {'_seen': seen, '_unseen': unseen}
        table, found = Table('classes', 'number', 'PQ', 'SQ', 'RQ'), {}
        for suffix, rows in parts.items():
            values = panoptic_quality(counts, rows)
            there = int((counts[1:, list(rows)].sum(0) > 0).sum())
            table.add_row(suffix[1:] or 'all', str(there), *(f'{v:.2f}' for v in values.values()))
            found |= {name + suffix: round(value, 3) for name, value in values.items()}
        console = Console(width=80, color_system=None)
        with console.capture() as capture:
            console.print(table)
        MMLogger.get_current_instance().info(f'panoptic quality:\n{capture.get()}')
        return found
