"""How good predictions are, and how bad their mistakes, by a tree of labels."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from hyper_mm.layers.taxonomy.tree import Taxonomy


def confusion(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts ``(K, K)`` of true classes (rows) and predicted ones; labels outside do not count.

    Args:
        labels: True classes, any shape.
        predictions: Predicted classes, same shape.
        num_classes: K.

    Raises:
        ValueError: If a prediction beside a label that counts is no class.
    """
    counted = (labels >= 0) & (labels < num_classes)
    found = predictions[counted].astype(np.int64)
    wrong = np.unique(found[(found < 0) | (found >= num_classes)])
    if len(wrong):
        raise ValueError(
            f'predictions must be classes 0..{num_classes - 1}, got {wrong[:5].tolist()}'
        )
    pairs = labels[counted].astype(np.int64) * num_classes + found
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def level_ious(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Intersection over union of groups of classes.

    Args:
        counts: Counts ``(K, K)``, see :func:`confusion`.
        groups: Group ``(K,)`` of each class.

    Returns:
        ``(G,)``; NaN for groups that are neither true nor predicted anywhere.
    """
    member = np.eye(groups.max() + 1)[groups]
    grouped = member.T @ counts @ member
    hit = np.diag(grouped)
    union = grouped.sum(0) + grouped.sum(1) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def tree_scores(counts: np.ndarray, taxonomy: Taxonomy) -> dict[str, float]:
    """Scores of predictions by a tree.

    Args:
        counts: Counts ``(K, K)``, see :func:`confusion`.
        taxonomy: The tree.

    Returns:
        ``mistake_severity``: height of the lowest common ancestor of the true and the predicted
        class, mean over mistakes (Bertinetto et al., CVPR 2020; 0 without a mistake);
        ``hierarchical_distance``: the same over all; ``tree_distance``: edges between them, mean
        over all; ``accuracy`` and ``accuracy_depth{d}`` in percent, of the groups at each depth;
        ``mIoU_depth{d}`` in percent, and ``mIoU``.
    """
    total = max(counts.sum(), 1)
    heights, edges = taxonomy.common_heights().numpy(), taxonomy.distances().numpy()
    wrong = counts.sum() - np.trace(counts)
    scores = {
        'accuracy': 100 * np.trace(counts) / total,
        'mIoU': 100 * np.nanmean(level_ious(counts, np.arange(len(counts)))),
        'mistake_severity': (heights * counts).sum() / max(wrong, 1),
        'hierarchical_distance': (heights * counts).sum() / total,
        'tree_distance': (edges * counts).sum() / total,
    }
    for depth in taxonomy.depths():
        groups = taxonomy.at_depth(depth)[0].numpy()
        same = groups[:, None] == groups
        scores[f'accuracy_depth{depth}'] = 100 * (same * counts).sum() / total
        scores[f'mIoU_depth{depth}'] = 100 * np.nanmean(level_ious(counts, groups))
    return {name: float(value) for name, value in scores.items()}


def distance_at(labels: np.ndarray, ranking: np.ndarray, taxonomy: Taxonomy) -> float:
    """Mean height of the lowest common ancestor of the true class and the k best predictions.

    Args:
        labels: True classes ``(n,)``.
        ranking: Best predictions ``(n, k)``.
        taxonomy: The tree.

    Source: Bertinetto et al., Making Better Mistakes (CVPR 2020), hierarchical distance at k.
    """
    return float(taxonomy.common_heights().numpy()[labels[:, None], ranking].mean())


def consistent_counts(
    probability: torch.Tensor, leaves: torch.Tensor, taxonomy: Taxonomy
) -> np.ndarray:
    """Positions whose most probable group holds their predicted class, at each depth of the tree.

    The probability of a group is that of its classes together: a class may win while its group does
    not, if its siblings are improbable and those of others are not.

    Args:
        probability: Probabilities of classes ``(K, n)``.
        leaves: Predicted classes ``(n,)``.
        taxonomy: The tree.

    Returns:
        Counts of :meth:`~hyper_mm.layers.taxonomy.Taxonomy.depths`.
    """
    found = []
    for depth in taxonomy.depths():
        groups = taxonomy.at_depth(depth)[0].to(probability.device)
        member = F.one_hot(groups).to(probability.dtype)  # (K, G)
        coarse = (member.T @ probability).argmax(0)
        found.append(int((groups[leaves.long()] == coarse).sum()))
    return np.array(found, dtype=np.int64)


def area_under_sparsification(error: np.ndarray, uncertainty: np.ndarray, steps: int = 50) -> float:
    """AUSE: how much worse an uncertainty sorts errors than the errors themselves would.

    Positions are removed in the order of uncertainty, then in the order of the error; the area
    between both curves of the mean error of what is left, over the mean error of all. 0 is perfect.

    Args:
        error: Error ``(n,)`` of each position, 0 or more.
        uncertainty: Uncertainty ``(n,)``, on any scale; equal ones stay in order.
        steps: Fractions removed, from 0 to ``1 - 1 / steps``.

    Source: Ilg et al., Uncertainty Estimates and Multi-Hypotheses Networks (ECCV 2018).
    """
    if not error.sum():
        return 0.0
    curves = []
    for key in (uncertainty, error):
        kept = error[np.argsort(key, kind='stable')]
        mean = np.cumsum(kept) / np.arange(1, len(kept) + 1)
        places = [max(round(len(kept) * (1 - k / steps)), 1) - 1 for k in range(steps)]
        curves.append(mean[places] / error.mean())
    return float(np.mean(curves[0] - curves[1]))


def calibration_error(correct: np.ndarray, confidence: np.ndarray, bins: int = 15) -> float:
    """ECE: mean difference of confidence and accuracy over bins of equal width, weighted by size.

    Args:
        correct: Whether each prediction is right ``(n,)``.
        confidence: Its confidence in [0, 1].
        bins: Number of bins.
    """
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gap = 0.0
    for k in range(bins):
        chosen = place == k
        if chosen.any():
            gap += chosen.mean() * abs(confidence[chosen].mean() - correct[chosen].mean())
    return float(gap)
