r"""Scores of a visual-semantic hierarchy, on tensors. Needs torch alone.

A text's radius, its distance from the root, measures how specific it is. The captions of an image
from general to specific should lie ever farther out (:func:`radius_order`), and a walk from the
root outwards should meet them and no others (:func:`walk`).

Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hyper_mm.checks import check_at_least, check_choice

HITS = ('all', 'mean')


class WalkScores(NamedTuple):
    """Scores ``(M,)`` of the walks of all images, each in [0, 1].

    Attributes:
        precision: Part of the texts met that are the image's own.
        recall: Part of the tiers of which a text was met.
    """

    precision: Tensor
    recall: Tensor


def radius_levels(radii: Tensor, steps: int = 50) -> Tensor:
    """Radii ``(steps,)`` at which a walk looks: evenly from the least to the greatest.

    Raises:
        ValueError: If ``steps`` is not at least 2.
    """
    check_at_least(2, steps=steps)
    low, high = radii.min(), radii.max()
    levels = torch.linspace(0, 1, steps, dtype=radii.dtype, device=radii.device)
    levels = low + levels * (high - low)
    levels[-1] = high  # not a rounding below it
    return levels


def walk(similarity: Tensor, radii: Tensor, levels: Tensor) -> Tensor:
    """The text most similar to each image among those within each radius.

    With texts in order of their radius, that is a running maximum, read off at each level: ``O(M
    K)`` for M images and K texts, where the definition masks all similarities anew at each level.

    Args:
        similarity: Similarities of images and texts ``(M, K)``.
        radii: Radii of the texts ``(K,)``.
        levels: Radii to look at ``(L,)``, none below the least radius of a text.

    Returns:
        Index of the text found ``(M, L)``.

    Raises:
        ValueError: If no text is within some level, or the shapes do not fit.
    """
    if similarity.ndim != 2 or radii.shape != similarity.shape[1:]:
        raise ValueError(
            'similarity must be (images, texts) and radii (texts,), got '
            f'{tuple(similarity.shape)} and {tuple(radii.shape)}'
        )
    radii, order = radii.sort(stable=True)
    last = torch.searchsorted(radii, levels, right=True) - 1
    if (last < 0).any():
        raise ValueError(f'levels must not be below the least radius, {radii[0]}, got {levels}')
    found = []
    for rows in similarity.split(128):  # what fits a cache
        top = rows.index_select(1, order).cummax(1).values
        # where the running maximum first has its value: of equal texts the first, as argmax takes
        found.append(order[torch.searchsorted(top, top[:, last])])
    return torch.cat(found)


def score_walks(picks: Tensor, captions: Tensor, image: Tensor) -> WalkScores:
    r"""Scores walks against the captions of the images.

    .. math:: P = \lvert S \cap G \rvert / \lvert S \rvert,\qquad
        R = \operatorname*{mean}_{tiers} [S \cap G_{tier} \ne \emptyset]

    with the distinct texts met ``S`` and the image's captions ``G``, of all its items.

    Args:
        picks: Texts met ``(M, L)``, as numbers of distinct texts.
        captions: Captions of every item, general to specific ``(N, T)``, numbered likewise.
        image: Image of every item ``(N,)``, below M; every image has one or more.

    Returns:
        The scores of all images.

    Raises:
        ValueError: If an image has no item.
    """
    count = len(picks)
    if len(image) == 0 or not torch.equal(image.unique(), torch.arange(count, device=image.device)):
        raise ValueError(f'image must hold each number below {count} at least once')
    met, _ = picks.sort(1)
    first = torch.ones_like(met, dtype=torch.bool)
    first[:, 1:] = met[:, 1:] != met[:, :-1]
    base = 1 + max(int(captions.max()), int(picks.max()))
    own = image[:, None] * base + captions  # one number for an image and a text
    pairs = torch.arange(count, device=met.device)[:, None] * base + met
    precision = (first & torch.isin(pairs, own)).sum(1) / first.sum(1)
    hit = torch.isin(own, pairs)
    tiers = torch.zeros(count, captions.shape[1], device=hit.device)
    tiers.index_put_((image,), hit.float(), accumulate=True)
    return WalkScores(precision.double(), (tiers > 0).double().mean(1))


def radius_order(radii: Tensor) -> Tensor:
    r"""Kendall's tau of the radii and the tiers, of every item: ``tau_d`` is its mean.

    Equal neighbors count as in order, as for the official code, which ranks by a stable argsort.

    Args:
        radii: Radii, or any other measure of specificity, general to specific ``(N, T)``.

    Returns:
        Correlations ``(N,)`` in [-1, 1].
    """
    sign = _pair_differences(radii).ge(0).double() * 2 - 1
    return sign.mean(1)


def tau_b(values: Tensor) -> Tensor:
    r"""Kendall's tau-b of values and tiers, of every item; ties count for nothing.

    Args:
        values: For instance lengths of captions, general to specific ``(N, T)``.

    Returns:
        Correlations ``(N,)`` in [-1, 1]; 0 where all values of an item are equal.
    """
    sign = _pair_differences(values).sign().double()
    untied = sign.abs().sum(1)
    return sign.sum(1) / (untied * sign.shape[1]).clamp_min(1).sqrt()


def _pair_differences(values: Tensor) -> Tensor:
    """Later minus earlier, of all pairs of tiers ``(N, T (T - 1) / 2)``."""
    tiers = values.shape[1]
    if tiers < 2:
        raise ValueError(f'items must have at least 2 tiers, got {tiers}')
    i, j = torch.triu_indices(tiers, tiers, 1, device=values.device)
    return values[:, j] - values[:, i]


def spearman(x: Tensor, y: Tensor) -> float:
    """Spearman's rank correlation; equal values share their mean rank.

    Args:
        x: Values ``(N,)``.
        y: Values ``(N,)``.

    Returns:
        The correlation; NaN where one of them is constant.
    """
    ranks = torch.stack([_ranks(x), _ranks(y)])
    return torch.corrcoef(ranks)[0, 1].item()


def _ranks(values: Tensor) -> Tensor:
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def hierarchical_recall(
    similarity: Tensor, targets: Tensor, ks: tuple[int, ...], hit: str = 'all'
) -> list[float]:
    """Recall of the names of images among the k most similar texts, for every k.

    A text that is as similar as an image's own counts as more similar, so that features that are
    all the same score 0.

    Args:
        similarity: Similarities of images and names ``(M, K)``.
        targets: Names of every image, at all levels ``(M, L)``.
        ks: Numbers of texts.
        hit: ``'all'``: part of the images all of whose names are found (0 for k < L); ``'mean'``:
            mean part of the names of an image that are.

    Returns:
        Recall in [0, 1] for every k.

    Raises:
        ValueError: For another ``hit``.
    """
    check_choice(HITS, hit=hit)
    own = similarity.gather(1, targets)
    rank = (~(similarity.unsqueeze(1) < own.unsqueeze(2))).sum(2) - 1
    found = [(rank < k).double() for k in ks]
    return [(x.amin(1) if hit == 'all' else x.mean(1)).mean().item() for x in found]


class RetrievalRanks(NamedTuple):
    """How many of the wrong ones are at least as similar as the right one.

    Attributes:
        texts: Of each image, texts of others before the first of its own ``(M,)``.
        images: Of each text, images before its own ``(K,)``.
    """

    texts: Tensor
    images: Tensor


def retrieval_ranks(similarity: Tensor, image: Tensor) -> RetrievalRanks:
    """Ranks of image-text retrieval in both directions; ``R@k`` is the part of ranks below k.

    Args:
        similarity: Similarities of images and texts ``(M, K)``.
        image: Image of each text ``(K,)``, below M; every image has one or more.

    Returns:
        The ranks; equal similarities count as worse, so that features that are all the same do not
        score.

    Raises:
        ValueError: If an image has no text.
    """
    count = len(similarity)
    if not torch.equal(image.unique(), torch.arange(count, device=image.device)):
        raise ValueError(f'image must hold each number below {count} at least once')
    own = similarity.gather(0, image[None])[0]
    best = own.new_full((count,), -torch.inf).scatter_reduce(0, image, own, 'amax')
    texts, images = [], own.new_zeros(len(own), dtype=torch.long)
    for numbers, rows in zip(
        torch.arange(count, device=image.device).split(128), similarity.split(128)
    ):  # what fits a cache
        others = image != numbers[:, None]
        texts.append((~(rows < best[numbers, None]) & others).sum(1))
        images += (~(rows < own) & others).sum(0)
    return RetrievalRanks(torch.cat(texts), images)
