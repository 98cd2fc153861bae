"""Episodes of few-shot learning over any data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import BaseDataset
from torch.utils.data import Dataset

from hyper_mm.checks import check_choice, check_count
from hyper_mm.registry import DATASETS, TRANSFORMS

from .styles import StyleSampler, with_style

KINDS = ('class', 'domain')


def check_seed(seed: int) -> None:
    """Refuses a seed that is no integer of at least 0."""
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f'seed must be an integer of at least 0, got {seed!r}')


@DATASETS.register_module()
class EpisodeDataset(Dataset):
    """Draws n-way k-shot episodes from a data set of mmseg, mmpretrain or mmdet.

    An item is ``dict(support=[...], query=[...])`` of packed items of the data set. In episodes of
    classes, no image occurs twice, and labels are those of the episode: in segmentation 0 for
    everything else and 1 ... n for the ways, in classification and detection 0 ... n - 1 (boxes of
    other classes are left out). Data samples have the numbers of the classes in the metainfo
    ``episode_classes``. In episodes of domains, all images are of one domain and labels stay.

    Which classes an image shows is read by the loader of labels in the data set's own pipeline, so
    that both agree on ``reduce_zero_label``, on subsets of classes and on 16-bit label maps.

    Item i is a function of ``seed`` and i, except for random transforms of the data set.

    Args:
        dataset: Data set or its config.
        n_way: Number of classes of an episode.
        k_shot: Support images of each class.
        n_query: Query images of each class.
        num_episodes: Length of the data set.
        by: ``'class'``, or ``'domain'`` (field ``domain`` of the data infos).
        classes: Numbers of the classes to draw from, as the data set counts them; all if None.
        fold: Number of a fold of the classes, contiguous; None for no folds.
        num_folds: Number of folds.
        novel: Draw the classes of the fold (test), or all others (training).
        background: Class that is never drawn (segmentation), None for none.
        min_pixels: Area from which on a class counts as present (segmentation).
        ignore_index: Label of pixels without a class; that of the data set if None, 255 where it
            has none.
        seed: Seed of the draws.
        pipeline: Pipeline of the data set in place of that in its config. mmseg's inferencers look
            for it here, in ``test_dataloader.dataset``.
        style: Options of :class:`hyper_mm.datasets.styles.StyleSampler`: each episode then has an
            appearance of its own, the same for support and query, drawn by ``seed`` and number.
        allow_single_domain: With ``by='domain'``, accept data of one domain. To learn to adapt
            takes several: with one, there is nothing that a support could tell. To test on one
            domain, set it.

    Raises:
        ValueError: For counts below 1, an unknown ``by``, fold or class, options of classes with
            ``by='domain'``, a class or domain with too few images, or a single domain.
    """

    def __init__(
        self,
        dataset: dict | BaseDataset,
        n_way: int = 1,
        k_shot: int = 1,
        n_query: int = 1,
        num_episodes: int = 1000,
        by: str = 'class',
        classes: Sequence[int] | None = None,
        fold: int | None = None,
        num_folds: int = 4,
        novel: bool = False,
        background: int | None = None,
        min_pixels: int = 1,
        ignore_index: int | None = None,
        seed: int = 0,
        pipeline: Sequence[dict] | None = None,
        style: dict | None = None,
        allow_single_domain: bool = False,
    ):
        check_choice(KINDS, by=by)
        sizes = dict(n_way=n_way, k_shot=k_shot, n_query=n_query, num_episodes=num_episodes)
        check_count(1, **sizes, min_pixels=min_pixels)
        if by == 'domain' and (n_way != 1 or fold is not None or classes is not None):
            raise ValueError(
                f"by='domain' takes no classes, got n_way={n_way}, classes={classes}, fold={fold}"
            )
        if novel and fold is None:
            raise ValueError('novel=True needs a fold, got fold=None')
        check_seed(seed)
        if fold is not None and not 0 <= fold < num_folds:
            raise ValueError(f'fold must be in 0..{num_folds - 1}, got {fold}')
        if pipeline is not None:
            if not isinstance(dataset, dict):
                raise ValueError('pipeline needs the config of a data set, got a data set')
            dataset = type(dataset)(dataset, pipeline=list(pipeline))
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        self.n_way, self.k_shot, self.n_query = n_way, k_shot, n_query
        self.num_episodes, self.by, self.seed = num_episodes, by, seed
        self.background, self.min_pixels = background, min_pixels
        first = _innermost(self.dataset)
        if ignore_index is None:
            ignore_index = getattr(first, 'ignore_index', 255)
        self.ignore_index = ignore_index
        self._loader = _label_loader(first)
        self.sampler = None if style is None else StyleSampler(**style)
        self.groups = self._index(classes, fold, num_folds, novel)
        if by == 'domain' and len(self.groups) < 2 and not allow_single_domain:
            raise ValueError(
                f"by='domain' needs several domains, got {[*self.groups]}: with one, all tasks are "
                'the same and meta-learning is plain training on fewer images. To test on one '
                'domain set allow_single_domain=True'
            )
        if len(self.groups) < n_way:
            raise ValueError(f'n_way={n_way} needs as many classes, got {sorted(self.groups)}')
        for name, images in self.groups.items():
            if len(images) < k_shot + n_query:
                raise ValueError(
                    f'{by} {name!r} has {len(images)} images, an episode needs k_shot + n_query = '
                    f'{k_shot + n_query}'
                )

    def _index(self, classes, fold, num_folds, novel) -> dict:
        """Images of each class or domain."""
        found = defaultdict(list)
        for i in range(len(self.dataset)):
            info = self.dataset.get_data_info(i)
            if self.by == 'domain' and 'domain' not in info:
                raise ValueError(f"by='domain' needs 'domain' in the data infos, got {[*info]}")
            for group in [info['domain']] if self.by == 'domain' else self._classes(info):
                found[group].append(i)
        if self.by == 'domain':
            return dict(found)
        allowed = range(len(self.metainfo['classes'])) if classes is None else classes
        allowed = [k for k in allowed if k != self.background]
        if fold is not None:
            inside = np.array_split(allowed, num_folds)[fold]
            allowed = [k for k in allowed if (k in inside) == novel]
        if classes is not None and not all(k in found for k in allowed):
            raise ValueError(f'classes must occur in the data, got {list(classes)}')
        return {k: found[k] for k in allowed if k in found}

    def _classes(self, info: dict) -> Iterable[int]:
        """Classes of an image."""
        if 'instances' in info:  # mmdet has a seg_map_path beside it, mostly None
            return sorted({x['bbox_label'] for x in info['instances'] if not x['ignore_flag']})
        if info.get('seg_map_path') is not None:
            labels = self._loader(dict(info, seg_fields=[]))['gt_seg_map']
            values, counts = np.unique(labels, return_counts=True)
            kept = (counts >= self.min_pixels) & (values != self.ignore_index)
            return values[kept].tolist()
        if 'gt_label' in info:
            return np.atleast_1d(info['gt_label']).tolist()
        raise ValueError(f'data infos must have seg_map_path, gt_label or instances: {[*info]}')

    @property
    def metainfo(self) -> dict:
        """That of the data set."""
        return self.dataset.metainfo

    @property
    def queries(self) -> int:
        """Number of query images of an episode."""
        return self.n_way * self.n_query

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> dict:
        if not 0 <= index < len(self):
            raise IndexError(f'index must be 0 to {len(self) - 1}, got {index}')
        return self.episode(index)

    def episode(self, index: int) -> dict:
        """An episode by its number, which ``num_episodes`` does not limit.

        Args:
            index: At least 0; with the seed, it decides the draw.

        Raises:
            ValueError: If a class has too few images beside those of the others.
        """
        draw = np.random.default_rng((self.seed, index))
        names = list(self.groups)
        chosen = [names[i] for i in draw.choice(len(names), self.n_way, replace=False)]
        support, query, used = [], [], set()
        # the class with the fewest images first, so that none is left without
        for name in sorted(chosen, key=lambda n: len(self.groups[n])):
            free = [i for i in self.groups[name] if i not in used]
            need = self.k_shot + self.n_query
            if len(free) < need:
                raise ValueError(f'class {name!r} has too few images beside those of {chosen}')
            images = draw.choice(free, need, replace=False).tolist()
            used.update(images)
            support += images[: self.k_shot]
            query += images[self.k_shot :]
        episode = dict(
            support=[self._item(i, chosen) for i in support],
            query=[self._item(i, chosen) for i in query],
        )
        if self.sampler is not None:
            items = [*episode['support'], *episode['query']]
            style = self.sampler.draw(draw, len(items[0]['inputs']))
            for number, item in enumerate(items):
                seed = (self.seed, index, number)
                item['inputs'] = with_style(item['inputs'], style, seed)
        return episode

    def _item(self, index: int, chosen: list) -> dict:
        item = self.dataset[index]
        sample = item['data_samples']
        if self.by == 'domain':
            sample.set_metainfo(dict(domain=chosen[0]))
            return item
        sample.set_metainfo(dict(episode_classes=tuple(chosen)))
        if 'gt_sem_seg' in sample:
            old = sample.gt_sem_seg.data
            new = old.new_zeros(old.shape)
            new[old == self.ignore_index] = self.ignore_index
            for way, k in enumerate(chosen, 1):
                new[old == k] = way
            sample.gt_sem_seg.data = new
        elif 'gt_instances' in sample:
            labels = sample.gt_instances.labels
            ways = labels.new_tensor([chosen.index(k) if k in chosen else -1 for k in labels])
            sample.gt_instances.labels = ways
            sample.gt_instances = sample.gt_instances[ways >= 0]
        else:
            sample.set_gt_label([chosen.index(k) for k in sample.gt_label.tolist() if k in chosen])
        return item


def _innermost(dataset):
    """The data set within wrappers, the first of several."""
    while True:
        inside = getattr(dataset, 'dataset', None), *getattr(dataset, 'datasets', ())
        inside = [x for x in inside if x is not None]
        if not inside:
            return dataset
        dataset = inside[0]


def _label_loader(dataset):
    """The loader of label maps in the pipeline of a data set, mmseg's own where it has none."""
    for transform in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        if isinstance(transform, LoadAnnotations) or getattr(transform, 'loads_labels', False):
            return transform
    return lambda info: TRANSFORMS.build(dict(type='mmseg.LoadAnnotations'))(info)
