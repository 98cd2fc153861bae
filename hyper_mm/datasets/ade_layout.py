"""Segmentation data in the layout of ADE20K."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import isdir, list_dir_or_file
from mmseg.datasets import BaseSegDataset


class AdeLayoutDataset(BaseSegDataset):
    """Base of data sets in ADE20K's layout: JPEG images, PNG label maps, 0 = no label.

    Use ``data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')``.

    Args:
        img_suffix: Suffix of the images.
        seg_map_suffix: Suffix of the label maps.
        reduce_zero_label: Whether 0 is ignored and classes start at 1, as they do on disk.
        **kwargs: Passed to ``mmseg.datasets.BaseSegDataset``.

    Raises:
        FileNotFoundError: If there is no folder of images; the message names the setting.
        ValueError: If there are no images of the suffix in it; the message names what there is.
    """

    SOURCE = ''
    """Where the data come from, for the message about a missing folder."""

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '.png',
        reduce_zero_label: bool = True,
        **kwargs,
    ):
        super().__init__(
            img_suffix=img_suffix,
            seg_map_suffix=seg_map_suffix,
            reduce_zero_label=reduce_zero_label,
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """Lists the images; see :class:`mmseg.datasets.BaseSegDataset`."""
        folder = self.data_prefix.get('img_path')
        if folder is None or not isdir(folder):
            where = os.path.abspath(folder or self.data_root or '')
            raise FileNotFoundError(
                f'{type(self).__name__}: no folder {where}. Put the data there or set data_root, '
                'for example --cfg-options train_dataloader.dataset.data_root=DIR '
                f'val_dataloader.dataset.data_root=DIR. {self.SOURCE}'
            )
        found = super().load_data_list()
        if not found:
            listed = f' ({self.ann_file} lists none)' if self.ann_file else ''
            raise ValueError(
                f'{type(self).__name__}: {without_images(folder, self.img_suffix)}{listed}'
            )
        return found


def without_images(folder: str, suffix: str) -> str:
    """What to say of a folder that has no images of a suffix: what it has.

    Args:
        folder: The folder.
        suffix: The suffix.
    """
    files = list_dir_or_file(folder, list_dir=False, recursive=True)
    held = sorted({Path(file).suffix for file in files})
    return f'{folder} has no images of img_suffix={suffix!r}, only files of {held}'
