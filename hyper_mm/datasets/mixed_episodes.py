"""Episodes of several kinds of task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from mmengine.dataset import pseudo_collate
from torch.utils.data import Dataset

from hyper_mm.checks import check_count
from hyper_mm.registry import DATASETS

from .episodes import EpisodeDataset, check_seed


@dataclass(frozen=True)
class Episode:
    """An episode of one task, which stays whole when items are collated."""

    support: dict
    """Batch to learn from: ``inputs``, ``data_samples`` and ``task``."""
    query: dict
    """Batch to be judged by, likewise."""


@DATASETS.register_module()
class MixedEpisodeDataset(Dataset):
    """One stream of episodes that draws classification, segmentation and detection tasks.

    An item is an :class:`Episode`, a batch of them is a list, of which each may have its own kind
    and numbers of images: for :class:`hyper_mm.MultiTaskModel` within ``hyper_mm.MetaLearner``.
    Data samples have the name of the task in the metainfo ``task``. Item i is a function of
    ``seed`` and i, except for random transforms.

    Args:
        datasets: Name of the task -> :class:`hyper_mm.EpisodeDataset` or its config; ``seed`` and
            ``num_episodes`` of these are not used.
        weights: How often each task is drawn, relative to the others; equally often if None.
        num_episodes: Length of the data set.
        seed: Seed of the draws.

    Raises:
        ValueError: If there is no data set, or the weights are not those of the data sets.
        TypeError: If a data set is no :class:`hyper_mm.EpisodeDataset`.
    """

    def __init__(
        self,
        datasets: Mapping[str, dict | EpisodeDataset],
        weights: Mapping[str, float] | None = None,
        num_episodes: int = 1000,
        seed: int = 0,
    ):
        if not datasets:
            raise ValueError('datasets must be at least one, got none')
        weights = dict.fromkeys(datasets, 1.0) if weights is None else dict(weights)
        if weights.keys() != set(datasets) or not all(w > 0 for w in weights.values()):
            raise ValueError(
                f'weights must be positive, one for each of {[*datasets]}, got {weights}'
            )
        check_count(1, num_episodes=num_episodes)
        check_seed(seed)
        self.datasets = {
            name: DATASETS.build(x) if isinstance(x, dict) else x for name, x in datasets.items()
        }
        for name, dataset in self.datasets.items():
            if not isinstance(dataset, EpisodeDataset):
                kind = type(dataset).__name__
                raise TypeError(f'datasets[{name!r}] must be a hyper_mm.EpisodeDataset, got {kind}')
        total = sum(weights.values())
        self.shares = [weights[name] / total for name in self.datasets]
        self.num_episodes, self.seed = num_episodes, seed

    @property
    def metainfo(self) -> dict:
        """``tasks``: the metainfo of each task."""
        return dict(tasks={name: dataset.metainfo for name, dataset in self.datasets.items()})

    @property
    def queries(self) -> int:
        """The greatest number of query images of an episode."""
        return max(dataset.queries for dataset in self.datasets.values())

    def __len__(self) -> int:
        return self.num_episodes

    def __getitem__(self, index: int) -> Episode:
        if not 0 <= index < len(self):
            raise IndexError(f'index must be 0 to {len(self) - 1}, got {index}')
        draw = np.random.default_rng((self.seed, index))
        task = [*self.datasets][draw.choice(len(self.datasets), p=self.shares)]
        dataset = self.datasets[task]
        dataset.seed = self.seed
        batches = {}
        for part, items in dataset.episode(index).items():
            for item in items:
                item['data_samples'].set_metainfo(dict(task=task))
            batches[part] = dict(pseudo_collate(items), task=task)
        return Episode(**batches)
