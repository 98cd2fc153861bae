"""Segmentation data of several sites."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.fileio import isdir
from mmseg.datasets import BaseSegDataset

from hyper_mm.registry import DATASETS


@DATASETS.register_module()
class SiteSegDataset(BaseSegDataset):
    """Data with one folder a site (scanner, stain, hospital), which differ in appearance.

    ``data_root/<site>/<img_path>`` and ``data_root/<site>/<seg_map_path>`` hold the images and the
    PNG label maps. Data infos have the site in ``domain``.

    Args:
        sites: Names of the folders.
        split: Part of each site, as listed in ``data_root/splits.json``
            (``{site: {split: [names without suffix]}}``); all images if None.
        img_suffix: Suffix of the images.
        **kwargs: Passed to ``mmseg.datasets.BaseSegDataset``; ``metainfo`` names the classes.

    Raises:
        ValueError: If there are no sites or no such split.
        FileNotFoundError: If a folder is missing.
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
        if self.split is not None:
            splits = json.loads((Path(self.data_root) / 'splits.json').read_text())
        for site in self.sites:
            folders = {k: str(Path(self.data_root or '') / site / v) for k, v in prefix.items()}
            if not isdir(folders['img_path']):
                raise FileNotFoundError(
                    f'{type(self).__name__}: no folder {folders["img_path"]}; set data_root'
                )
            self.data_prefix = folders
            infos = super().load_data_list()
            if splits is not None:
                if self.split not in splits.get(site, ()):
                    raise ValueError(f'split {self.split!r} of {site!r} is not in splits.json')
                names = set(splits[site][self.split])
                infos = [info for info in infos if Path(info['img_path']).stem in names]
            found += [dict(info, domain=site) for info in infos]
        self.data_prefix = prefix
        return found
