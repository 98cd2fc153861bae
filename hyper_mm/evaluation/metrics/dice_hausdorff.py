"""Dice and Hausdorff distance, image by image."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from scipy.ndimage import label as components

from hyper_mm.checks import check_range
from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.registry import METRICS

Case = tuple[str, np.ndarray]
"""Path of an image, empty where it has none, and dice and distance of each structure ``(S, 2)``."""


@METRICS.register_module()
class DiceHausdorffMetric(BaseMetric):
    r"""Dice in percent and 95 % Hausdorff distance of segmentations, averaged over images.

    .. math:: \text{dice} = 2 |P \cap G| / (|P| + |G|), \qquad
        \text{hd95} = \max(q_{95}\, d(\partial P, \partial G), q_{95}\, d(\partial G, \partial P))

    The scores of medical images: each image counts the same (mmseg's ``mDice`` sums pixels over all
    images). The distance is MONAI's: the greater of the percentiles of the two directions, whereas
    some tools take the percentile of both together. An image without a structure that is not
    predicted either counts for nothing; one in which only one of the two is empty has dice 0 and
    the diagonal of the image as its distance, the greatest there could be. Pixels without a label
    count as background in both.

    Results are ``dice`` and ``hd95`` (means over the structures), and ``dice/<name>`` and
    ``hd95/<name>``; NaN for a structure that no image has.

    Args:
        structures: Name -> classes of which it is the union, for nested structures; each class but
            ``background`` if None.
        background: Class that is no structure, None if all are.
        percentile: In (0, 100]; 100 is the Hausdorff distance itself. Names the result.
        spacing: Height and width of a pixel, or both at once; distances have its unit.
        largest_component: Keep only the largest connected part (4-neighborhood) of each predicted
            structure, as is usual for a single organ.
        ignore_index: Label of pixels without a label.
        cases: File to which the scores of each image are written (csv), None for none.
        **kwargs: ``collect_device``, ``prefix``, ``collect_dir``.

    Raises:
        ValueError: For a percentile outside of (0, 100] or a spacing that is not positive.
    """

    default_prefix = None

    def __init__(
        self,
        structures: dict[str, Sequence[int]] | None = None,
        background: int | None = 0,
        percentile: float = 95,
        spacing: float | Sequence[float] = 1.0,
        largest_component: bool = False,
        ignore_index: int = 255,
        cases: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        spacing = [spacing] * 2 if isinstance(spacing, (int, float)) else list(spacing)
        check_range('(0, 100]', percentile=percentile)
        if len(spacing) != 2 or not all(s > 0 for s in spacing):
            raise ValueError(f'spacing must be one or two positive numbers, got {spacing}')
        self.structures, self.background, self.percentile = structures, background, percentile
        self.spacing, self.largest_component = spacing, largest_component
        self.ignore_index, self.cases = ignore_index, cases

    def _resolve(self) -> tuple[list[str], Structures]:
        """Names and classes of the structures."""
        classes = self.dataset_meta['classes']
        chosen = None if self.structures is None else [*self.structures.values()]
        found = resolve_structures(chosen, len(classes), self.background)
        if self.structures is not None:
            return [*self.structures], found
        return [classes[k] for (k,) in found], found

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Compares predictions with labels.

        Each of ``data_samples`` has ``pred_sem_seg`` and ``gt_sem_seg``, both ``(1, H, W)``.

        Raises:
            ValueError: If their sizes differ.
        """
        structures = self._resolve()[1]
        for sample in data_samples:
            predicted, labels = (
                sample[k]['data'].squeeze(0).cpu() for k in ('pred_sem_seg', 'gt_sem_seg')
            )
            if predicted.shape != labels.shape:
                raise ValueError(
                    f'predictions are {(*predicted.shape,)}, labels {(*labels.shape,)}'
                )
            p, g = (structure_masks(x, structures) for x in (predicted, labels))
            p &= labels != self.ignore_index
            if self.largest_component:
                p = torch.stack([largest_component(mask) for mask in p])
            scores = np.array([self.scores(*pair) for pair in zip(p, g)])
            self.results.append((str(sample.get('img_path', '')), scores))

    def scores(self, p: torch.Tensor, g: torch.Tensor) -> tuple[float, float]:
        """Dice in percent and the distance of two masks ``(H, W)``; NaN if both are empty."""
        from monai.metrics import compute_hausdorff_distance  # takes seconds to import

        if not p.any() and not g.any():
            return math.nan, math.nan
        if not p.any() or not g.any():
            return 0.0, math.hypot(*(n * s for n, s in zip(g.shape, self.spacing)))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)  # MONAI 1.6 warns of its own calls
            distance = compute_hausdorff_distance(
                p[None, None],
                g[None, None],
                include_background=True,
                percentile=self.percentile,
                spacing=self.spacing,
            )
        return 200 * float((p & g).sum() / (p.sum() + g.sum())), float(distance)

    def compute_metrics(self, results: list[Case]) -> dict[str, float]:
        """Averages over the images, then over the structures.

        Args:
            results: Scores of each image.
        """
        scores, metrics = np.stack([scores for _, scores in results]), {}
        if self.cases is not None:
            self.write_cases(results)
        for i, kind in enumerate(('dice', f'hd{self.percentile:g}')):
            means = [mean(scores[:, s, i]) for s in range(scores.shape[1])]
            metrics[kind] = mean(np.array(means))
            metrics.update({f'{kind}/{n}': v for n, v in zip(self._resolve()[0], means)})
        return metrics

    def write_cases(self, results: Sequence[Case]) -> None:
        """Writes one line for each image and structure; what is not defined is left empty.

        Args:
            results: Scores of each image.
        """
        file, names = Path(str(self.cases)), self._resolve()[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open('w', newline='', encoding='utf-8') as stream:
            writer = csv.writer(stream)
            writer.writerow(['image', 'structure', 'dice', f'hd{self.percentile:g}'])
            for image, scores in results:
                for name, pair in zip(names, scores):
                    values = ['' if math.isnan(v) else f'{v:.4f}' for v in pair]
                    writer.writerow([image, name, *values])


def mean(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if there is none."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def largest_component(mask: torch.Tensor) -> torch.Tensor:
    """The largest connected part of a mask ``(H, W)``; an empty one as it is."""
    parts, count = components(mask.numpy())
    if count < 2:
        return mask
    return torch.from_numpy(parts == 1 + np.bincount(parts.ravel())[1:].argmax())
