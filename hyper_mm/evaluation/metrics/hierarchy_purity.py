"""Whether the nodes of a learned hierarchy follow a known tree of parts and wholes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from torch import Tensor

from hyper_mm.checks import check_count
from hyper_mm.evaluation.functional.clustering import kmeans, squared_distances, ward_tree
from hyper_mm.evaluation.functional.tree_scores import containment, purity, triplet_agreement
from hyper_mm.registry import METRICS

BASELINES = ('shuffled', 'random', 'kmeans')


@METRICS.register_module()
class HierarchyPurity(BaseMetric):
    """Scores the assignment of pixels to the nodes of a hierarchy against true parts and wholes.

    The model is one of ours whose neck has ``keep_hierarchy=True``. Assignments are interpolated
    bilinearly from the feature map to the ground truth, padding left out; a pixel's node is the one
    with the largest share. Pixels of all images are pooled.

    ==================== =========================================================================
    ``leaf_purity``      fraction of pixels whose leaf's majority part is their part
    ``leaf_purity_bal``  the same, each part with the same weight
    ``whole_purity``     as leaf_purity, of the nodes at the top level and the wholes
    ``containment``      fraction of pixels whose node at a level is the parent of their node one
                         level below, mean over levels
    ``triplet_part``     agreement of the tree with the truth on triplets of pixels of which two
                         are of one part and the third is of another; 1 is perfect, 0 is chance
    ``triplet_whole``    the same, two of different parts of one whole and the third of another
    ``leaves_used``      exponential of the entropy of the leaves: how many are in use
    ==================== =========================================================================

    Baselines, with the number of nodes of the model at each level, by suffix:

    - ``_shuffled``: the model's nodes, leaves and inner nodes placed in the tree at random;
    - ``_random``: the nearest of random positions' features, in a random binary tree;
    - ``_kmeans``: the nearest center of k-means on the features of this very data set, in the tree
      that Ward's criterion makes of the centers, cut at the model's numbers of nodes.

    The features are those that the module reads, layer-normalized as it does first, and
    interpolated to the pixel. Upper nodes of ``_random`` and ``_kmeans`` are made of their leaves,
    so their containment is 1 by construction and not reported.

    Args:
        taxonomy: ``'part_scenes'`` for parts of PartScenes (label 0 = void reduced),
            ``'ade20k_parts'`` for :class:`hyper_mm.LoadADE20KParts`, the whole of each part label,
            in order, or a file of COCO's categories (``.json``), whose labels are in their order:
            classes are parts then, and super-categories wholes.
        baselines: Which baselines to compute.
        seed: Seed of the baselines.
        repeats: Draws of ``shuffled`` and ``random``, averaged; k-means has as many restarts, of
            which the best in squared error counts.
        stride: Look at every stride-th pixel of both axes of the ground truth.
        ignore_index: Label of pixels to leave out.
        collect_device: Device of the collection across processes.
        prefix: Prefix of the names.
        **kwargs: Passed to ``mmengine.evaluator.BaseMetric``.

    Raises:
        ValueError: For arguments outside their range; in use, for data samples without a hierarchy,
            labels that the taxonomy does not have, or no labeled pixel at all.
    """

    default_prefix = 'hierarchy'

    def __init__(
        self,
        taxonomy: str | Sequence[int] = 'part_scenes',
        baselines: Sequence[str] = BASELINES,
        seed: int = 0,
        repeats: int = 5,
        stride: int = 1,
        ignore_index: int = 255,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        **kwargs,
    ):
        super().__init__(collect_device=collect_device, prefix=prefix, **kwargs)
        unknown = sorted(set(baselines) - set(BASELINES))
        if unknown:
            raise ValueError(f'baselines must be among {BASELINES}, got {unknown}')
        check_count(1, repeats=repeats, stride=stride)
        self.wholes = _wholes(taxonomy)
        self.baselines = tuple(baselines)
        self.seed = seed
        self.repeats = repeats
        self.stride = stride
        self.ignore_index = ignore_index

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keeps labels, winners and features of a batch.

        The data samples are dicts, each with ``hierarchy`` and ``gt_sem_seg`` ``(1, H, W)``.

        Raises:
            ValueError: If a sample lacks one of them, or its image is flipped.
        """
        for sample in data_samples:
            if 'hierarchy' not in sample:
                raise ValueError(
                    'HierarchyPurity: data samples have no hierarchy; use a model of hyper_mm '
                    "(type='hyper_mm.EncoderDecoder') and set model.neck.keep_hierarchy=True"
                )
            if 'gt_sem_seg' not in sample:
                raise ValueError('HierarchyPurity: data samples have no gt_sem_seg')
            self.results.append(self._result(sample))

    def _result(self, sample: dict) -> dict:
        if sample.get('flip'):
            raise ValueError('HierarchyPurity: flipped test images are not supported')
        found, labels = sample['hierarchy'], sample['gt_sem_seg']['data'].squeeze(0).cpu()
        count = sum(name.startswith('assignment_') for name in found)
        levels = [found[f'assignment_{level}'] for level in range(1, count + 1)]
        self._check(labels, levels)
        padded = found['input_shape']
        image = tuple(sample.get('img_shape', padded))[:2]
        # the part of the feature map that the image, without its padding, covers
        extent = (image[0] / padded[0], image[1] / padded[1])
        grid = _pixel_grid(tuple(labels.shape), extent, self.stride)
        labels = labels[:: self.stride, :: self.stride]
        known = labels != self.ignore_index
        winners = [_interpolate(x.cpu(), grid).argmax(0)[known] for x in levels]
        result = dict(
            labels=labels[known].numpy(),
            winners=torch.stack(winners).short().numpy(),
            nodes=tuple(len(x) for x in levels),
        )
        if {'random', 'kmeans'} & set(self.baselines):
            features = found['features'].float().cpu()
            normal = F.layer_norm(features.movedim(0, -1), features.shape[:1]).movedim(-1, 0)
            result.update(features=normal, grid=grid, known=known)
        return result

    def _check(self, labels: Tensor, levels: list[Tensor]) -> None:
        if not levels:
            raise ValueError('HierarchyPurity: the hierarchy has no assignment')
        nodes = [len(level) for level in levels]
        if any(a % b for a, b in zip(nodes, nodes[1:])):
            raise ValueError(f'HierarchyPurity: nodes of a level must divide those below: {nodes}')
        if not all(level.isfinite().all() for level in levels):
            raise ValueError('HierarchyPurity: the assignment has values that are not finite')
        if isinstance(self.wholes, int):
            return
        known = labels[labels != self.ignore_index]
        if known.numel() and not (known.min() >= 0 and known.max() < len(self.wholes)):
            raise ValueError(
                f'HierarchyPurity: labels must be in [0, {len(self.wholes)}) or ignore_index='
                f'{self.ignore_index}, got [{known.min()}, {known.max()}]; is reduce_zero_label '
                'right, and are these parts?'
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Scores the pixels of all images.

        Args:
            results: Kept by :meth:`process`, of all processes.

        Returns:
            Scores by name.
        """
        nodes = results[0]['nodes']
        if any(result['nodes'] != nodes for result in results):
            raise ValueError('HierarchyPurity: images have hierarchies of different sizes')
        labels = np.concatenate([result['labels'] for result in results])
        if not len(labels):
            raise ValueError('HierarchyPurity: no labeled pixel in any image')
        winners = np.concatenate([result['winners'] for result in results], 1)
        values, parts = np.unique(labels, return_inverse=True)
        wholes = values // self.wholes if isinstance(self.wholes, int) else self.wholes[values]
        wholes = np.unique(wholes, return_inverse=True)[1]
        truth = _Truth(parts, wholes)
        ancestors = _binary_tree(nodes)
        scores = truth.scores(winners, nodes, ancestors)
        rng = np.random.default_rng(self.seed)
        if 'shuffled' in self.baselines:
            draws = [_shuffle(ancestors, nodes, rng) for _ in range(self.repeats)]
            draws = [truth.scores(winners, nodes, tree) for tree in draws]
            scores |= _mean(draws, '_shuffled', ('containment', 'triplet_part', 'triplet_whole'))
        names = [name for name in scores if name != 'containment' and not name.endswith('shuffled')]
        generator = torch.Generator().manual_seed(self.seed)
        if 'random' in self.baselines:
            points, draws = _points(results), []
            for _ in range(self.repeats):
                picks = torch.randperm(len(points), generator=generator)[: nodes[0]]
                tree = _shuffle(ancestors, nodes, rng)
                leaf = _nearest(results, points[picks])
                draws.append(truth.scores(tree[:, leaf], nodes, tree))
            scores |= _mean(draws, '_random', names)
        if 'kmeans' in self.baselines:
            points = _points(results)
            centers = kmeans(points, nodes[0], generator, restarts=self.repeats)
            sizes = squared_distances(points, centers).argmin(1).bincount(minlength=nodes[0])
            tree = ward_tree(centers, sizes, nodes).numpy()
            leaf = _nearest(results, centers)
            scores |= _mean([truth.scores(tree[:, leaf], nodes, tree)], '_kmeans', names)
        return {name: round(value, 4) for name, value in scores.items()}


class _Truth:
    """Parts of all pixels ``(P,)`` and wholes of the parts ``(K,)``, both numbered from 0."""

    def __init__(self, parts: np.ndarray, wholes: np.ndarray):
        self.parts, self.wholes = parts, wholes

    def scores(
        self, winners: np.ndarray, nodes: tuple[int, ...], ancestors: np.ndarray
    ) -> dict[str, float]:
        """Scores of nodes ``(L, P)`` of all pixels in the tree ``ancestors`` ``(L, N)``."""
        leaves = _count(winners[0], self.parts, nodes[0], len(self.wholes))
        top = _count(winners[-1], self.wholes[self.parts], nodes[-1], self.wholes.max() + 1)
        use = leaves.sum(1) / leaves.sum()
        part, whole = triplet_agreement(leaves, ancestors, self.wholes)
        scores = dict(
            leaf_purity=purity(leaves),
            leaf_purity_bal=purity(leaves, balanced=True),
            whole_purity=purity(top),
            triplet_part=part,
            triplet_whole=whole,
            leaves_used=float(np.exp(-(use * np.log(use.clip(1e-12))).sum())),
        )
        shares = []
        for level in range(len(nodes) - 1):
            parents = np.zeros(nodes[level], int)
            parents[ancestors[level]] = ancestors[level + 1]
            joint = _count(winners[level], winners[level + 1], nodes[level], nodes[level + 1])
            shares.append(containment(joint, parents))
        return scores | (dict(containment=float(np.mean(shares))) if shares else {})


def _wholes(taxonomy: str | Sequence[int]) -> np.ndarray | int:
    if isinstance(taxonomy, str):
        if taxonomy == 'part_scenes':
            from hyper_mm.datasets.part_scenes.taxonomy import PART_TO_WHOLE_IDS

            return PART_TO_WHOLE_IDS[1:].astype(int)
        if taxonomy == 'ade20k_parts':
            from hyper_mm.datasets.ade20k_parts import BASE

            return BASE
        if taxonomy.endswith('.json'):
            return _supercategories(taxonomy)
        raise ValueError(
            f"taxonomy must be 'part_scenes', 'ade20k_parts', a file of COCO's categories or the "
            f'wholes of the part labels, got {taxonomy!r}'
        )
    wholes = np.asarray(taxonomy)
    if wholes.ndim != 1 or not len(wholes) or not np.issubdtype(wholes.dtype, np.integer):
        raise ValueError(f'taxonomy must be a list of integers, one for each part, got {taxonomy}')
    return wholes


def _supercategories(file: str) -> np.ndarray:
    """Number of the super-category of each category of a file in COCO's format."""
    with open(file, encoding='utf-8') as stream:
        content = json.load(stream)
    try:
        names = [category['supercategory'] for category in content['categories']]
    except (KeyError, TypeError):
        raise ValueError(
            f"taxonomy {file} must hold 'categories', each with a 'supercategory'"
        ) from None
    return np.unique(names, return_inverse=True)[1]


def _binary_tree(nodes: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.arange(nodes[0]) // (nodes[0] // count) for count in nodes])


def _shuffle(ancestors: np.ndarray, nodes: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The same tree with its leaves, and the nodes of each upper level, in random places."""
    leaves = rng.permutation(nodes[0])
    upper = [rng.permutation(count)[row] for count, row in zip(nodes[1:], ancestors[1:])]
    places = np.argsort(leaves)
    return np.stack([np.arange(nodes[0]), *(row[places] for row in upper)])


def _count(rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> np.ndarray:
    index = rows.astype(np.int64) * width + columns
    return np.bincount(index, minlength=height * width).reshape(height, width)


def _mean(draws: list[dict], suffix: str, names: Sequence[str]) -> dict[str, float]:
    return {n + suffix: float(np.mean([d[n] for d in draws])) for n in names if n in draws[0]}


def _pixel_grid(shape: tuple[int, int], extent: tuple[float, float], stride: int) -> Tensor:
    """Coordinates ``(H, W, 2)`` of pixels in the padded feature map, as grid_sample wants them."""
    y, x = ((torch.arange(n)[::stride] + 0.5) / n * e * 2 - 1 for n, e in zip(shape, extent))
    return torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], -1)


def _interpolate(maps: Tensor, grid: Tensor) -> Tensor:
    """Bilinear values ``(N, H, W)`` of maps ``(N, h, w)`` at a grid ``(H, W, 2)``."""
    options = dict(mode='bilinear', padding_mode='border', align_corners=False)
    return F.grid_sample(maps[None].float(), grid[None], **options)[0]


def _points(results: list[dict]) -> Tensor:
    return torch.cat([result['features'].flatten(1).T for result in results])


def _nearest(results: list[dict], centers: Tensor) -> np.ndarray:
    """Nearest center of the interpolated features of every labeled pixel."""
    nearest = []
    for result in results:
        features = result['features']
        # 2 x.c - |c|^2 is linear in x, so it may be interpolated in the place of x
        scores = 2 * torch.einsum('kd,dhw->khw', centers, features)
        scores = scores - centers.square().sum(1)[:, None, None]
        nearest.append(_interpolate(scores, result['grid']).argmax(0)[result['known']])
    return torch.cat(nearest).numpy()
