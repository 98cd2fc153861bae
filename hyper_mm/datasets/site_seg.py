"""Segmentation data of several sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import exists, get, isdir
from mmseg.datasets import BaseSegDataset

from hyper_mm.registry import DATASETS

from .ade_layout import without_images
from .files import read_json
from .image_folders import is_hidden
from .transforms.load_image_window import check_depth

CHECKED = 8
"""Label maps of a site that are looked at when the data set is built."""


@DATASETS.register_module()
class SiteSegDataset(BaseSegDataset):
    """Data with one folder a site (scanner, stain, hospital), which differ in appearance.

    ``data_root/<site>/<img_path>`` and ``data_root/<site>/<seg_map_path>`` hold the images and the
    PNG label maps. Data infos have the site in ``domain``.

    When the data set is built, a few images and label maps of each site are checked. Images must be
    of 8 bits where ``LoadImageFromFile`` loads them (:class:`hyper_mm.LoadImageWindow` takes more).
    Labels must be classes or ``ignore_index``, and not 0 and 255 alone, as in binary masks, where
    255 means that a pixel has no label.

    Args:
        sites: Names of the folders.
        split: Part of each site, as listed in ``data_root/splits.json``
            (``{site: {split: [names without suffix]}}``); all images if None.
        img_suffix: Suffix of the images.
        **kwargs: Passed to ``mmseg.datasets.BaseSegDataset``; ``metainfo`` names the classes.

    Raises:
        ValueError: If there are no sites or no such split, a site has no images of the suffix, an
            image of the split is missing or there are several of its name (in subfolders), or
            labels are no classes; the message names the file.
        FileNotFoundError: If a folder, a label map or ``splits.json`` is missing.
    """

    def __init__(
        self, sites: Sequence[str], split: str | None = None, img_suffix: str = '.jpg', **kwargs
    ):
        if isinstance(sites, str) or not sites:
            raise ValueError(f'sites must be a list of folder names, got {sites!r}')
        self.sites, self.split = list(sites), split
        kwargs.setdefault('reduce_zero_label', False)
        super().__init__(img_suffix=img_suffix, **kwargs)

    def _join_prefix(self) -> None:
        """Leaves the prefixes as they are: they belong below the folder of each site."""

    def load_data_list(self) -> list[dict]:
        """Lists the images, site by site; see :class:`mmseg.datasets.BaseSegDataset`."""
        prefix, found, splits = dict(self.data_prefix), [], None
        path = Path(self.data_root or '') / 'splits.json'
        if self.split is not None:
            splits = read_json(path)
        for site in self.sites:
            folders = {k: str(Path(self.data_root or '') / site / v) for k, v in prefix.items()}
            if not isdir(folders['img_path']):
                raise FileNotFoundError(
                    f'{type(self).__name__}: no folder {folders["img_path"]}; set data_root'
                )
            self.data_prefix = folders
            top = Path(folders['img_path'])
            infos = super().load_data_list()
            infos = [
                info
                for info in infos
                if not any(map(is_hidden, Path(info['img_path']).relative_to(top).parts))
            ]
            if not infos:
                raise ValueError(without_images(folders['img_path'], self.img_suffix))
            if splits is not None:
                infos = self._of_split(infos, splits, site, path)
            self._check_maps(infos)
            if any(
                isinstance(t, LoadImageFromFile) and t.color_type != 'unchanged'
                for t in self.pipeline.transforms
            ):
                paths = [info['img_path'] for info in infos]
                check_depth(paths[:: max(1, len(paths) // CHECKED)], self.backend_args)
            found += [dict(info, domain=site) for info in infos]
        self.data_prefix = prefix
        return found

    def _of_split(self, infos: list[dict], splits: dict, site: str, path: Path) -> list[dict]:
        """Infos of the images that ``splits.json`` lists."""
        parts = splits.get(site)
        if not isinstance(parts, dict) or self.split not in parts:
            raise ValueError(f'split {self.split!r} of {site!r} is not in splits.json ({path})')
        names = parts[self.split]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f'{path}: {site}, {self.split} must be a list of names without suffix, got {names}'
            )
        twice = [name for name, count in Counter(names).items() if count > 1]
        stems = Counter(Path(info['img_path']).stem for info in infos)
        missing = [name for name in names if name not in stems]
        if not names or twice or missing:
            raise ValueError(
                f'{path}: {site}, {self.split} must list images of {self.img_suffix}, each once; '
                f'missing {missing[:5]}, twice {twice[:5]}, of {len(names)}'
            )
        several = [name for name in names if stems[name] > 1]
        if several:  # of which one may belong to the test
            raise ValueError(
                f'{path}: {site}, {self.split} must name one image each, and there are several '
                f'called {several[:5]} in subfolders: give them different names'
            )
        return [info for info in infos if Path(info['img_path']).stem in {*names}]

    def _check_maps(self, infos: list[dict]) -> None:
        """Refuses missing label maps, and labels that are no classes in some of them."""
        paths = [info['seg_map_path'] for info in infos if info.get('seg_map_path')]
        missing = [path for path in paths if not exists(path, backend_args=self.backend_args)]
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} of {len(paths)} label maps are missing, first {missing[0]} (of '
                f'seg_map_suffix={self.seg_map_suffix!r})'
            )
        classes = self._metainfo.get('classes')
        if not classes:
            return
        chosen = paths[:: max(1, len(paths) // CHECKED)]
        blank = [self._labels(path, len(classes)) == {0, 255} for path in chosen]
        if blank and all(blank) and all(self._labels(p, len(classes)) <= {0, 255} for p in paths):
            raise ValueError(
                f'the label maps of {Path(paths[0]).parent} hold 0 and 255 alone, and 255 means no '
                f'label: write the number of the class, 0 to {len(classes) - 1}, instead of 255'
            )

    def _labels(self, path: str, count: int) -> set[int]:
        """Labels of a file.

        Raises:
            ValueError: If one of them is no class.
        """
        content = get(path, backend_args=self.backend_args)
        labels = mmcv.imfrombytes(content, flag='unchanged', backend='pillow').squeeze()
        limit = count + 1 if self.reduce_zero_label else count
        found = {*np.unique(labels).tolist()}
        wrong = sorted(k for k in found if k >= limit and k not in (255, self.ignore_index))
        if labels.ndim != 2 or wrong:
            raise ValueError(
                f'{path} must hold one label a pixel, 0 to {limit - 1} or {self.ignore_index}, got '
                f'{wrong[:5]} in an array of {labels.shape}'
            )
        return found
