"""Metrics of the hierarchy in a CLIP model: HierarCaps, HyperLex, class names under superclasses;
and of what must survive tuning: image-text retrieval.

All of them read one stream of data samples, as :class:`hyper_mm.RadialCLIP` predicts them, and take
those of their own ``task``: one data loader over several data sets serves several metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.evaluation.functional.caption_hierarchy import (
    HITS,
    hierarchical_recall,
    radius_levels,
    radius_order,
    retrieval_ranks,
    score_walks,
    spearman,
    tau_b,
    walk,
)
from hyper_mm.layers.radial.radial import RadialGeometry, text_radii
from hyper_mm.registry import METRICS


class _TaskMetric(BaseMetric):
    """Keeps the data samples of one task."""

    task: str
    fields: tuple[str, ...]

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps what the metric needs of the data samples, dicts; those of other tasks are skipped.

        Raises:
            ValueError: If a sample lacks a field.
        """
        for sample in data_samples:
            if sample.get('task') != self.task:
                continue
            missing = [name for name in self.fields if sample.get(name) is None]
            if missing:
                raise ValueError(f'{type(self).__name__}: a data sample lacks {missing}')
            kept = {name: sample[name] for name in self.fields}
            self.results.append(
                {
                    name: value.detach().float().cpu() if isinstance(value, Tensor) else value
                    for name, value in kept.items()
                }
            )

    def _stacked(self, results: list[dict], name: str) -> Tensor:
        return torch.stack([result[name] for result in results])

    def _check(self, results: list[dict]) -> None:
        if not results:
            raise ValueError(f'{type(self).__name__}: no data sample has the task {self.task!r}')


@METRICS.register_module()
class HierarCapsMetric(_TaskMetric):
    r"""Precision, recall and order of HierarCaps' four-tier captions.

    For each image, the text most similar to it within each of ``steps`` radii around the root is
    retrieved: ``precision`` and ``recall`` compare those texts with the image's own captions.
    ``tau_d`` is the mean Kendall correlation of the radii of an image's captions with their tiers.
    Equal texts count as one, and items of one image are scored together.

    ``tau_d_words`` and ``tau_d_chars`` are what the length of the captions alone reaches in its
    place (ties count for nothing); without them ``tau_d`` cannot be read: on the test set, counting
    words gives 0.91.

    Args:
        steps: Radii.
        report_length_baseline: Whether to report the baselines of length.
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names.
        **kwargs: Passed to ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: If ``steps`` is not at least 2.

    Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024).
    """

    default_prefix = 'hierarcaps'
    task = 'hierarcaps'
    fields = ('image_feature', 'text_features', 'root', 'texts', 'image_id')

    def __init__(
        self,
        steps: int = 50,
        report_length_baseline: bool = True,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        check_at_least(2, steps=steps)
        self.steps = steps
        self.report_length_baseline = report_length_baseline

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores all images.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Returns:
            Scores by name.
        """
        self._check(results)
        texts = [list(result['texts']) for result in results]
        root = results[0]['root']
        features = self._stacked(results, 'text_features')
        numbers, first = _number(text for item in texts for text in item)
        pool = features.flatten(0, 1)[first]
        images, first_items = _number(result['image_id'] for result in results)
        image_features = self._stacked(results, 'image_feature')[first_items]
        radii = text_radii(pool, root)
        similarity = F.normalize(image_features, dim=-1) @ F.normalize(pool, dim=-1).T
        picks = walk(similarity, radii, radius_levels(radii, self.steps))
        walks = score_walks(picks, numbers.view(len(texts), -1), images)
        scores = dict(
            precision=walks.precision.mean().item(),
            recall=walks.recall.mean().item(),
            tau_d=radius_order(text_radii(features, root)).mean().item(),
        )
        if self.report_length_baseline:
            words = torch.tensor([[len(text.split()) for text in item] for item in texts])
            chars = torch.tensor([[len(text) for text in item] for item in texts])
            scores.update(
                tau_d_words=tau_b(words).mean().item(), tau_d_chars=tau_b(chars).mean().item()
            )
        return scores


@METRICS.register_module()
class HyperLexMetric(_TaskMetric):
    r"""Spearman correlation of graded entailment with the exterior angle at the general word.

    The score of "to what degree is x a type of y" is :math:`-\Xi_r(y, x)`: ``rho`` over all pairs,
    ``rho_nouns`` and ``rho_verbs``. ``rho_radius`` correlates :math:`R(x) - R(y)` instead.

    Args:
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names.
        **kwargs: Passed to ``mmengine.evaluator.BaseMetric``.

    Source: Vulic et al., HyperLex (Computational Linguistics 2017); the protocol is ours, as Alper
    and Averbuch-Elor (ECCV 2024) report numbers without code.
    """

    default_prefix = 'hyperlex'
    task = 'hyperlex'
    fields = ('text_features', 'root', 'pos', 'score')

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores all pairs.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Returns:
            Scores by name; only of the parts of speech that there are.
        """
        self._check(results)
        root = F.normalize(results[0]['root'], dim=-1)
        features = F.normalize(self._stacked(results, 'text_features'), dim=-1)
        specific, general = features.unbind(1)
        space = RadialGeometry()
        angle = space.exterior_angle(space.place(general, root), space.place(specific, root))
        radius = text_radii(specific, root) - text_radii(general, root)
        gold = torch.tensor([float(result['score']) for result in results])
        scores = dict(rho=spearman(-angle, gold), rho_radius=spearman(radius, gold))
        for name, pos in (('nouns', 'N'), ('verbs', 'V')):
            chosen = torch.tensor([result['pos'] == pos for result in results])
            if chosen.any():
                scores[f'rho_{name}'] = spearman(-angle[chosen], gold[chosen])
        return scores


@METRICS.register_module()
class HierarchicalRecall(_TaskMetric):
    """Recall of the names of an image, at all levels, among the k most similar texts, R@k.

    The texts are the names of all images that are evaluated: classes and superclasses in one pool.
    The paper does not say what its pool and prompt are, so this is our reading.

    Args:
        topk: Values of k, positive.
        hit: ``'all'``: part of the images all of whose names are found, 0 for k below their number;
            ``'mean'``: mean part of an image's names that are found.
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names.
        **kwargs: Passed to ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: If ``topk`` is empty or not positive, or for an unknown ``hit``.

    Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024).
    """

    default_prefix = 'breeds'
    task = 'names'
    fields = ('image_feature', 'text_features', 'texts')

    def __init__(
        self,
        topk: Sequence[int] = (1, 5),
        hit: str = 'all',
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        check_choice(HITS, hit=hit)
        self.topk = _check_topk(topk)
        self.hit = hit

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores all images.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Returns:
            ``R@k`` for every k.
        """
        self._check(results)
        numbers, first = _number(text for result in results for text in result['texts'])
        pool = self._stacked(results, 'text_features').flatten(0, 1)[first]
        images = F.normalize(self._stacked(results, 'image_feature'), dim=-1)
        similarity = images @ F.normalize(pool, dim=-1).T
        found = hierarchical_recall(similarity, numbers.view(len(results), -1), self.topk, self.hit)
        return {f'R@{k}': value for k, value in zip(self.topk, found)}


@METRICS.register_module()
class ImageTextRecall(_TaskMetric):
    """Recall of image-text retrieval in both directions: what tuning must not cost.

    ``i2t_R@k``: part of the images with a text of theirs among the k most similar; ``t2i_R@k``:
    part of the texts with their image among the k most similar. Equal similarities count as misses.

    mmpretrain's ``RetrievalRecall`` is not used: it takes the scores of all candidates in every
    sample, one direction at a time, and calls a function that numpy 2.4 no longer has.

    Args:
        topk: Values of k, positive.
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names.
        **kwargs: Passed to ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: If ``topk`` is empty or not positive.
    """

    default_prefix = 'retrieval'
    task = 'retrieval'
    fields = ('image_feature', 'text_features', 'image_id')

    def __init__(
        self,
        topk: Sequence[int] = (1, 5, 10),
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        self.topk = _check_topk(topk)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores all images and texts.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Returns:
            ``i2t_R@k`` and ``t2i_R@k`` for every k, in [0, 1].

        Raises:
            ValueError: If an image is there twice.
        """
        self._check(results)
        if len({result['image_id'] for result in results}) < len(results):
            raise ValueError('each image must be there once, with all of its texts')
        images = F.normalize(self._stacked(results, 'image_feature'), dim=-1)
        texts = F.normalize(torch.cat([result['text_features'] for result in results]), dim=-1)
        counts = torch.tensor([len(result['text_features']) for result in results])
        image = torch.arange(len(results)).repeat_interleave(counts)
        ranks = retrieval_ranks(images @ texts.T, image)
        return {
            f'{name}_R@{k}': (rank < k).double().mean().item()
            for name, rank in (('i2t', ranks.texts), ('t2i', ranks.images))
            for k in self.topk
        }


def _check_topk(topk: Sequence[int]) -> tuple[int, ...]:
    if not topk or min(topk) < 1:
        raise ValueError(f'topk must be positive numbers, got {topk!r}')
    return tuple(topk)


def _number(values) -> tuple[Tensor, Tensor]:
    """Numbers of values, equal for equal ones, and where each number first occurs."""
    known, numbers, first = {}, [], []
    for place, value in enumerate(values):
        if value not in known:
            known[value] = len(known)
            first.append(place)
        numbers.append(known[value])
    return torch.tensor(numbers), torch.tensor(first)
