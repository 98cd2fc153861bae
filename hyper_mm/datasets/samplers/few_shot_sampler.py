"""Shots of any data set with labels, and batches that hold pairs of a class."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Dataset, Sampler

from hyper_mm.checks import check_at_least
from hyper_mm.datasets.shots import by_label, draw_shots
from hyper_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class FewShotSampler(Sampler):
    """An epoch is K images of each class, always the same ones, in runs of one class.

    :class:`hyper_mm.CoOpFewShotDataset` draws shots by itself; this is for what it does not do:

    * shots of any other data set whose items have a ``gt_label`` (mmpretrain's, concatenated ones),
      drawn by the same rule: ``random.sample`` class by class from a generator of ``shots_seed``;
    * with ``run`` > 1 (and ``shots=None`` to keep all images, those of
      :class:`hyper_mm.CoOpFewShotDataset` for one), images of one class come next to each other.
      Four images drawn from 50 classes hold a pair of one class in one batch of nine, and
      LatHAdapter's image triplets live from such pairs.

    The order of the runs, and of the images of a class, is new in each epoch; what is left of a
    class comes last, so that runs begin where batches begin. With several ranks the first images
    come twice where they do not divide.

    Args:
        dataset: Data set with ``get_data_info(i)['gt_label']``.
        shots: Images K of each class, exactly; None: all images.
        run: Images of one class that come one after the other.
        shots_seed: Seed of the draw (the protocol of CoOp: 1, 2, 3).
        seed: Seed of the order; None: one for all ranks, drawn at random. mmengine passes its own.

    Raises:
        ValueError: For numbers less than 1, or classes of fewer images than ``shots``.
    """

    def __init__(
        self,
        dataset: Dataset,
        shots: int | None = None,
        run: int = 1,
        shots_seed: int = 1,
        seed: int | None = None,
    ):
        if shots is not None and shots < 1:
            raise ValueError(f'shots must be at least 1 or None, got {shots}')
        check_at_least(1, run=run)
        labels = (int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset)))
        items = list(enumerate(labels))
        if shots is not None:
            few = sorted(label for label, found in by_label(items).items() if len(found) < shots)
            if few:
                raise ValueError(f'classes {few} have fewer than shots={shots} images')
            items = draw_shots(items, shots, random.Random(shots_seed))
        self.classes = [[index for index, _ in found] for found in by_label(items).values()]
        self.run, self.epoch = run, 0
        self.seed = sync_random_seed() if seed is None else seed
        self.rank, self.world_size = get_dist_info()

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank in this epoch."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        runs = []
        for members in self.classes:
            order = _shuffled(members, generator)
            runs += [order[i : i + self.run] for i in range(0, len(order), self.run)]
        runs = sorted(_shuffled(runs, generator), key=lambda part: len(part) < self.run)
        indices = [index for part in runs for index in part]
        total = len(self) * self.world_size
        indices = (indices * math.ceil(total / len(indices)))[:total]
        return iter(indices[self.rank * len(self) : (self.rank + 1) * len(self)])

    def __len__(self) -> int:
        """Number of indices of a rank."""
        total = sum(map(len, self.classes))
        if self.world_size == 1:
            return total
        return self.run * math.ceil(total / (self.run * self.world_size))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order; mmengine calls it before each epoch."""
        self.epoch = epoch


def _shuffled(values: list, generator: torch.Generator) -> list:
    return [values[i] for i in torch.randperm(len(values), generator=generator).tolist()]
