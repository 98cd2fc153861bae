"""Crops of a support for gradient steps, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from torch import Tensor

from hyper_mm.checks import check_count

IGNORED = 255
TRIES = 5
"""Crops that are tried for one that shows two classes."""
JITTER = 0.2
"""Greatest change of contrast, and of brightness as a share of the range."""


class Views:
    """Batches of a support, prepared for training: the same images in other crops in each step.

    Images are read when they are needed, so memory is that of one batch. With ``augment`` a crop is
    flipped, turned by right angles, and changed a little in contrast and brightness.

    Args:
        dataset: Packed items ``inputs`` and ``data_samples`` of mmseg, with labels.
        preprocessor: Data preprocessor of the model. A fixed ``size`` grows to that of the batch.
        crop: Greatest side of a crop in pixels; None for whole images, as they are, of any task.
        augment: Change the crops.
        pixels: Greatest number of pixels of a batch; a crop alone may have more.
        images: Images of a step; of a larger support, as many are drawn each time.
        seed: Seed of the draws.

    Raises:
        ValueError: If a number is below 1 or the data set is empty.
    """

    def __init__(
        self,
        dataset: Sequence[dict],
        preprocessor,
        crop: int | None = 512,
        augment: bool = True,
        pixels: int = 2**19,
        images: int = 32,
        seed: int = 0,
    ):
        check_count(1, crop=1 if crop is None else crop, pixels=pixels, images=images)
        if not len(dataset):
            raise ValueError('dataset must hold at least one image, got none')
        self.dataset, self.preprocessor, self.crop = dataset, preprocessor, crop
        self.augment, self.pixels, self.images, self.seed = augment, pixels, images, seed

    def step(self, number: int) -> Iterator[dict]:
        """Batches of a step.

        Args:
            number: Of the step; with the seed, it decides the draws.

        Yields:
            Batches of the model's preprocessor.
        """
        random, count = np.random.default_rng((self.seed, number)), len(self.dataset)
        chosen = np.arange(count)
        if count > self.images:
            chosen = random.choice(count, self.images, replace=False)
        batch: list[dict] = []
        for index in chosen.tolist():
            item = self.dataset[index]
            item = item if self.crop is None else self._view(item, random)
            sides = [item['inputs'].shape[-2:], *(other['inputs'].shape[-2:] for other in batch)]
            area = (len(batch) + 1) * max(h for h, _ in sides) * max(w for _, w in sides)
            if batch and area > self.pixels:
                yield self._prepared(batch)
                batch = []
            batch.append(item)
        yield self._prepared(batch)

    def _prepared(self, items: list[dict]) -> dict:
        """A batch; images of several sizes are padded."""
        fixed = getattr(self.preprocessor, 'size', None)
        if fixed is None:
            return self.preprocessor(pseudo_collate(items), True)
        sizes = [fixed, *(item['inputs'].shape[-2:] for item in items)]
        try:
            self.preprocessor.size = tuple(-(-max(size) // 32) * 32 for size in zip(*sizes))
            return self.preprocessor(pseudo_collate(items), True)
        finally:
            self.preprocessor.size = fixed

    def _view(self, item: dict, random: np.random.Generator) -> dict:
        """A crop of an item; the item stays as it is."""
        sample = item['data_samples'].clone()
        image, labels = item['inputs'], sample.gt_sem_seg.data
        assert self.crop is not None
        height, width = (min(self.crop, side) for side in image.shape[-2:])
        for _ in range(TRIES):
            top = int(random.integers(image.shape[-2] - height + 1))
            left = int(random.integers(image.shape[-1] - width + 1))
            part = labels[..., top : top + height, left : left + width]
            if len(set(part.unique().tolist()) - {IGNORED}) > 1:
                break
        pair = [image[..., top : top + height, left : left + width], part]
        if self.augment:
            turns, flip = int(random.integers(4)), bool(random.integers(2))
            pair = [x.rot90(turns, (-2, -1)) for x in pair]
            pair = [x.flip(-1) if flip else x for x in pair]
            pair[0] = jitter(pair[0], *random.uniform(-JITTER, JITTER, 2))
        del sample.gt_sem_seg
        sample.gt_sem_seg = PixelData(data=pair[1].contiguous())
        size = tuple(pair[0].shape[-2:])
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size))
        return dict(item, inputs=pair[0].contiguous(), data_samples=sample)


def jitter(image: Tensor, contrast: float, brightness: float) -> Tensor:
    """Changes contrast around the mean, and brightness.

    Args:
        image: Values of 0 to 255.
        contrast: Share by which differences from the mean grow.
        brightness: Share of the range that is added.

    Returns:
        Image of the same dtype.
    """
    values = image.float()
    mean = values.mean()
    values = (mean + (values - mean) * (1 + contrast) + 255 * brightness).clamp(0, 255)
    return values.to(image.dtype) if image.is_floating_point() else values.round().to(image.dtype)


class Part(Sequence):
    """Some items of a data set.

    Args:
        dataset: The data set.
        indices: Which of them.
    """

    def __init__(self, dataset: Sequence[dict], indices: Sequence[int]):
        self.dataset, self.indices = dataset, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):
        return self.dataset[self.indices[index]]


class Half(Sequence):
    """The left or the right half of the only image of a data set, to learn and to be judged on.

    Args:
        dataset: The data set.
        right: Which half.
    """

    def __init__(self, dataset: Sequence[dict], right: bool):
        self.dataset, self.right = dataset, right

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index):
        if index not in (0, -1):
            raise IndexError(index)
        item = self.dataset[0]
        sample = item['data_samples'].clone()
        image, labels = item['inputs'], sample.gt_sem_seg.data
        middle = image.shape[-1] // 2
        part = slice(middle, None) if self.right else slice(0, middle)
        del sample.gt_sem_seg
        sample.gt_sem_seg = PixelData(data=labels[..., part].contiguous())
        image = image[..., part].contiguous()
        size = tuple(image.shape[-2:])
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size))
        return dict(item, inputs=image, data_samples=sample)


def folds(count: int, limit: int) -> list[tuple[list[int], list[int]]]:
    """Indices to learn from and to be judged on; each image is judged on once.

    Args:
        count: Number of images, at least 2.
        limit: Greatest number of folds; with as many images, each is left out by itself.

    Raises:
        ValueError: If there are fewer than two images or folds.
    """
    check_count(2, count=count, limit=limit)
    parts = np.array_split(np.arange(count), min(count, limit))
    everything = torch.arange(count).tolist()
    return [([i for i in everything if i not in part], part.tolist()) for part in parts]
