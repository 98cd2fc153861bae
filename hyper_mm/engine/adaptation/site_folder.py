"""Folders of a site: ``images/NAME.*`` and, where they are labeled, ``masks/NAME.png``."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset

from hyper_mm.datasets.image_folders import EXTENSIONS, is_hidden
from hyper_mm.datasets.transforms.load_image_window import (
    VOLUMES,
    read_unchanged,
    suffix_of,
)
from hyper_mm.registry import DATASETS

from ..launch import innermost_datasets
from ..records import file_digest

IGNORED = 255
"""Label of pixels without a label."""
WINDOW = (0.5, 99.5)
"""Percentiles of all values that ``window='auto'`` makes black and white."""
FAINT = 0.1
"""Share of a window below which an image is faint."""
Window = tuple[float, float]


def images_of(folder: Path) -> list[Path]:
    """Images of a folder, sorted by name.

    Args:
        folder: With images of one suffix; hidden files do not count.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are none, or images of several suffixes.
    """
    if not folder.is_dir():
        above = folder.parent
        if folder.name != 'images' or not above.is_dir():
            raise FileNotFoundError(f'no folder {above if folder.name == "images" else folder}')
        held = sorted(path.name for path in above.iterdir() if not is_hidden(path.name))
        shown = ', '.join([*held[:5], '...'] if len(held) > 5 else held) or 'nothing'
        raise FileNotFoundError(
            f'{above} must hold the folders images and, for their labels, masks; it holds {shown}'
        )
    files = sorted(f for f in folder.glob('*') if f.is_file() and not is_hidden(f.name))
    suffixes = {suffix_of(f) for f in files}
    if len(suffixes) != 1:
        raise ValueError(
            f'{folder} must hold images of one suffix, got {sorted(suffixes) or "none"}'
        )
    (suffix,) = suffixes
    if not suffix:
        raise ValueError(
            f'{folder} must hold images with a suffix, got {files[0].name}: give DICOM files .dcm'
        )
    if suffix.lower() not in (*EXTENSIONS, *VOLUMES):
        raise ValueError(
            f'{folder} must hold images ({", ".join((*EXTENSIONS, *VOLUMES))}), got {suffix}'
        )
    return files


def find_window(images: Sequence[Path]) -> Window:
    """The window of ``window='auto'``: percentiles :data:`WINDOW` of the values of all images.

    Args:
        images: The support: values of other images play no part.

    Raises:
        ValueError: If all values are the same, or some are not finite.
    """
    values = np.concatenate([_some(_read_finite(path)) for path in images])
    low, high = (float(v) for v in np.percentile(values, WINDOW))
    if not low < high:
        raise ValueError(f'the images of {images[0].parent} have one value, {low}, almost all over')
    return low, high


def _read_finite(path: Path) -> np.ndarray:
    values = read_unchanged(path)
    if values.dtype.kind == 'f' and not np.isfinite(values).all():
        raise ValueError(
            f'{path} has {np.count_nonzero(~np.isfinite(values))} values that are not finite (NaN '
            'or infinite)'
        )
    return values


def _some(image: np.ndarray, count: int = 100_000) -> np.ndarray:
    """Values of an image, evenly chosen where there are many."""
    values = image.ravel()
    return values[:: max(1, len(values) // count)].astype(np.float64)


def pipelines(cfg: Config, window: Window | None) -> tuple[dict, list[dict]]:
    """The loader of images and the other transforms of a config's test data, but for labels.

    Args:
        cfg: The config.
        window: Values that become black and white; None for images of 8 bits.
    """
    _, dataset = next(innermost_datasets(cfg.test_dataloader.dataset, ''))
    load, *others = [dict(t) for t in dataset.pipeline if not t.type.endswith('LoadAnnotations')]
    if window is not None:
        load = dict(type='hyper_mm.LoadImageWindow', low=window[0], high=window[1])
    return load, others


def labeled(
    cfg: Config, folder: Path, info: dict, resize_labels: bool, window: Window | None = None
) -> dict:
    """Config of the data set of a labeled folder, with the test pipeline of a config.

    Args:
        cfg: The config.
        folder: With ``images`` and ``masks``.
        info: Metainfo.
        resize_labels: Load labels before the other transforms (to learn from them), or after (to
            compare predictions with them, which are of the original size).
        window: Values of the images that become black and white; None for images of 8 bits.

    Raises:
        ValueError: If the folder has no images, images of several suffixes or, without a window, of
            more than 8 bits, or masks that are not of 8 bits and one channel.
        FileNotFoundError: If a mask is missing.
    """
    images = images_of(folder / 'images')
    suffix = suffix_of(images[0])
    for image in images:
        mask = folder / 'masks' / f'{image.name.removesuffix(suffix)}.png'
        if not mask.is_file():
            others = sorted(f.name for f in mask.parent.glob(f'{glob.escape(mask.stem)}.*'))
            held = f', but {others[0]}: masks are PNG' if others else ''
            raise FileNotFoundError(f'{image} has no mask {mask}{held}')
        if read_unchanged(mask).dtype != np.uint8:
            raise ValueError(f'{mask} must be of 8 bits: the numbers of the classes')
    check_window(images, window)
    load, others = pipelines(cfg, window)
    others.insert(0 if resize_labels else len(others) - 1, dict(type='LoadAnnotations'))
    return dict(
        type='mmseg.BaseSegDataset',
        data_root=str(folder.resolve()),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix=suffix,
        metainfo=info,
        pipeline=[load, *others],
    )


def check_window(images: Sequence[Path], window: Window | None) -> None:
    """Refuses images of more than 8 bits where there is no window, and values that are not finite.

    Args:
        images: Their paths.
        window: Values that become black and white.

    Raises:
        ValueError: With the file and the remedy.
    """
    for image in images:
        values = _read_finite(image)
        if window is None:
            medical = suffix_of(image).lower() in VOLUMES
            if values.dtype != np.uint8 or medical:
                kind = 'of a medical device' if medical else 'of more than 8 bits'
                raise ValueError(
                    f'{image} is an image {kind}, with values from {values.min():g} to '
                    f'{values.max():g}: give --window LOW HIGH, the values that become black and '
                    f'white, or --window auto for the {WINDOW[0]} and {WINDOW[1]} % percentiles of '
                    'the support'
                )
        elif values.ndim == 3 and values.shape[-1] != 3:
            raise ValueError(f'{image} must have one or three channels, got {values.shape}')


def faint_images(images: Sequence[Path], window: Window) -> list[Path]:
    """Images whose values take less than a tenth of a window, as those of another unit do.

    Args:
        images: Their paths.
        window: Values that become black and white.
    """
    found = []
    for path in images:
        values = np.percentile(_some(_read_finite(path)).clip(*window), WINDOW)
        if values[1] - values[0] < FAINT * (window[1] - window[0]):
            found.append(path)
    return found


def check_labels(dataset: BaseSegDataset, num_classes: int) -> dict[int, int]:
    """Refuses masks that do not fit their images, and labels that are no class.

    Args:
        dataset: With labels of the original size.
        num_classes: Number of classes.

    Returns:
        In how many images each class occurs.

    Raises:
        ValueError: With the file and its size or labels, or if all labels are of one class.
    """
    seen = dict.fromkeys(range(num_classes), 0)
    for item in dataset:
        sample = item['data_samples']
        labels, size = sample.gt_sem_seg.data, tuple(sample.ori_shape[:2])
        if labels.shape != (1, *size):
            colors = labels.shape[:2] == size
            remedy = ': write the numbers of the classes in place of colors' if colors else ''
            raise ValueError(
                f'{sample.seg_map_path} must have one channel of {size}, the size of its image, '
                f'got {(*labels.shape,)}{remedy}'
            )
        found = set(labels.unique().tolist()) - {IGNORED}
        wrong = sorted(k for k in found if k >= num_classes)
        if wrong:
            raise ValueError(
                f'labels must be 0..{num_classes - 1} or {IGNORED}, {sample.seg_map_path} has '
                f'{wrong}'
            )
        for k in found:
            seen[int(k)] += 1
    present = [k for k, count in seen.items() if count]
    if len(present) < 2:
        raise ValueError(
            f'{dataset.data_root}/masks must have pixels of at least two classes, got '
            f'{present}; {IGNORED} means no label: where it was meant as the structure, write 1'
        )
    return seen


def copies(files: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of files that hold the same bytes, the earlier one first.

    Args:
        files: The files.
    """
    known: dict[str, Path] = {}
    pairs = [(known.setdefault(file_digest(f), f), f) for f in files]
    return [(first, second) for first, second in pairs if first is not second]


def metainfo(cfg: Config, num_classes: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Names and colors of the classes, those of the test data where it has as many.

    Args:
        cfg: The config.
        num_classes: Number of classes.
        names: Names in place of those of the test data.
    """
    _, dataset = next(innermost_datasets(cfg.test_dataloader.dataset, ''))
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as registry:
        kind = registry.get(dataset.type)
    known = dict(getattr(kind, 'METAINFO', {}), **(dataset.get('metainfo') or {}))
    classes, palette = names or known.get('classes', ()), known.get('palette', ())
    if len(classes) != num_classes:
        classes = ['background', *(f'class {k}' for k in range(1, num_classes))]
    if len(palette) != num_classes:
        import matplotlib

        colors = matplotlib.colormaps['tab10'](np.arange(num_classes - 1) % 10)[:, :3]
        palette = [[0, 0, 0], *(255 * colors).astype(int).tolist()]
    return dict(classes=tuple(classes), palette=[[int(c) for c in p] for p in palette])
