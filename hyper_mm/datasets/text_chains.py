"""Texts from general to specific: HierarCaps' caption chains and HyperLex's word pairs.

What a pipeline gets are dicts with ``task``, ``texts`` (for training also ``negatives``) and, where
there is an image, ``img_path``; :class:`PackTexts` ends it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from mmengine.structures import BaseDataElement

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.datasets.files import csv_rows, read_text, relative
from hyper_mm.registry import DATASETS, TRANSFORMS

MODES = ('train', 'test')
SEPARATOR = ' => '
HYPERLEX_COLUMNS = ('WORD1', 'WORD2', 'POS', 'TYPE', 'AVG_SCORE')


class TextDataset(BaseDataset):
    """A list of texts, never filtered or sampled anew when an item fails."""

    METAINFO: dict = {}

    def __init__(self, ann_file: str, **kwargs):
        # a failing pipeline raises instead of another item being returned
        super().__init__(ann_file=ann_file, **{'max_refetch': 0, 'test_mode': True, **kwargs})

    def _file(self) -> Path:
        path = Path(self.ann_file)
        if not path.is_file():
            raise FileNotFoundError(f'ann_file {path} does not exist')
        return path


@DATASETS.register_module()
class HierarCapsDataset(TextDataset):
    """Captions of images in four tiers, general to specific.

    The files are csv, gzipped or not, with the tiers of a row joined by ``' => '``. In training
    they have columns ``positive`` and ``negative``, a chain and one that contradicts it tier by
    tier (the training set and the uncurated, expanded test set); in testing ``captions`` and
    ``image_url``, of which the last part is the name of the image in ``data_prefix['img_path']``.

    Args:
        ann_file: The csv file, below ``data_root``.
        mode: ``'train'`` for chains without images, ``'test'`` for captions with images.
        tiers: Captions of a chain.
        exclude_images_of: Another such file, below ``data_root``: rows with an image of its
            ``image_url`` column are left out and counted in a message. The expanded set needs
            it: the images of the test set are among its own, with the same captions.
        **kwargs: Arguments of ``mmengine.dataset.BaseDataset``: ``data_root``, ``data_prefix``
            (default ``dict(img_path='images')`` for ``'test'``), ``pipeline``, ...

    Raises:
        ValueError: For an unknown mode; for a file that is not UTF-8, torn, without rows or the
            columns of the mode, or with quotes that do not match; or a row with another number of
            cells or tiers, an empty caption, no negatives, or no image. The message names file and
            row.
        FileNotFoundError: If the file, or the image of a row, is missing.

    Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024).
    """

    def __init__(
        self,
        ann_file: str,
        mode: str = 'train',
        tiers: int = 4,
        exclude_images_of: str | None = None,
        **kwargs,
    ):
        check_choice(MODES, mode=mode)
        check_at_least(2, tiers=tiers)
        self.mode = mode
        self.tiers = tiers
        self.exclude_images_of = exclude_images_of
        if mode == 'test':
            kwargs.setdefault('data_prefix', dict(img_path='images'))
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Reads and checks all rows.

        Returns:
            ``task``, ``texts``, ``image_id`` and ``where`` (file and row) of every row; in training
            ``negatives``, in testing ``img_path``.
        """
        path = self._file()
        needed = ('positive', 'negative') if self.mode == 'train' else ('captions', 'image_url')
        if self.exclude_images_of is None:
            return list(self._items(path, needed))
        other = Path(self.data_root or '') / self.exclude_images_of
        excluded = {_image_name(row, where) for where, row in _rows(other, ('image_url',))}
        items = list(self._items(path, (*needed, 'image_url')))
        kept = [item for item in items if item['image_id'] not in excluded]
        MMLogger.get_current_instance().info(
            f'HierarCapsDataset: {len(items) - len(kept)} of {len(items)} rows of {path} have '
            f'images of {other} and are left out'
        )
        return kept

    def _items(self, path: Path, needed: tuple[str, ...]) -> Iterator[dict]:
        for where, row in _rows(path, needed):
            texts = self._chain(row[needed[0]], needed[0], where)
            named = self.mode == 'test' or 'image_url' in needed
            name = _image_name(row, where) if named else row.get('image_url', '').split('/')[-1]
            if self.mode == 'train':
                negatives = self._chain(row['negative'], 'negative', where)
                yield dict(
                    task='chains', texts=texts, negatives=negatives, image_id=name, where=where
                )
                continue
            image = Path(self.data_prefix['img_path']) / name
            if not image.is_file():
                raise FileNotFoundError(f'{where}: image {image} does not exist')
            yield dict(
                task='hierarcaps', texts=texts, img_path=str(image), image_id=name, where=where
            )

    def _chain(self, cell: str, column: str, where: str) -> list[str]:
        if not cell.strip():
            raise ValueError(f'{where}: {column} is empty')
        texts = [text.strip() for text in cell.split(SEPARATOR.strip())]
        if len(texts) != self.tiers:
            raise ValueError(
                f'{where}: {column} must have {self.tiers} tiers joined by {SEPARATOR!r}, '
                f'got {len(texts)}: {cell!r}'
            )
        if not all(texts):
            raise ValueError(f'{where}: {column} has an empty caption: {cell!r}')
        return texts


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
    """Rows of a csv file, each with where it is."""
    found = False
    for number, (_, row) in enumerate(csv_rows(read_text(path), path), 1):
        missing = [name for name in needed if name not in row]
        if missing:
            raise ValueError(f'{path} has no column {missing}, only {[*row]}')
        found = True
        yield f'{path}, row {number}', row
    if not found:
        raise ValueError(f'{path} has no rows')


def _image_name(row: dict, where: str) -> str:
    name = row['image_url'].rsplit('/', 1)[-1].strip()
    if not name:
        raise ValueError(f'{where}: image_url is empty')
    return relative(name, where)


@DATASETS.register_module()
class HyperLexDataset(TextDataset):
    """Pairs of words with the degree, 0 to 6, to which the first is a type of the second.

    Args:
        ann_file: A file of HyperLex, such as ``hyperlex-all.txt``, below ``data_root``.
        template: Text made of a word ``{}``; the bare word by default.
        **kwargs: Arguments of ``mmengine.dataset.BaseDataset``.

    Raises:
        ValueError: For a template without ``{}``, or a file or row of another format; the message
            names it.
        FileNotFoundError: If the file is missing.

    Source: Vulic et al., HyperLex (Computational Linguistics 2017).
    """

    def __init__(self, ann_file: str, template: str = '{}', **kwargs):
        if '{}' not in template:
            raise ValueError(f'template must have a place {{}} for the word, got {template!r}')
        self.template = template
        super().__init__(ann_file, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Reads and checks all pairs.

        Returns:
            ``task``, ``texts`` (specific, general), ``pos``, ``score`` and ``where`` of every pair.
        """
        path = self._file()
        header, *lines = read_text(path).rstrip().split('\n')
        if tuple(header.split()[: len(HYPERLEX_COLUMNS)]) != HYPERLEX_COLUMNS:
            raise ValueError(f'{path} must begin with columns {HYPERLEX_COLUMNS}, got {header!r}')
        pairs = []
        for number, line in enumerate(lines, 1):
            where = f'{path}, row {number}'
            fields = line.split()
            try:
                specific, general, pos, _, score = fields[: len(HYPERLEX_COLUMNS)]
                score = float(score)
            except ValueError:
                raise ValueError(f'{where}: no word pair: {line!r}') from None
            if pos not in ('N', 'V') or not 0 <= score <= 6:
                raise ValueError(f'{where}: POS must be N or V and AVG_SCORE in [0, 6]: {line!r}')
            texts = [self.template.format(word) for word in (specific, general)]
            pairs.append(dict(task='hyperlex', texts=texts, pos=pos, score=score, where=where))
        if not pairs:
            raise ValueError(f'{path} has no pairs')
        return pairs


@TRANSFORMS.register_module()
class PackTexts(BaseTransform):
    """Ends the pipeline of a text data set: ``inputs`` and ``data_samples`` for a model.

    Required keys: ``task``, ``texts``; optional ``negatives``, ``img`` (RGB after the model's own
    preprocessing is the model's matter: it stays BGR here, as mmcv loads it).
    """

    KEYS = ('task', 'texts', 'negatives', 'img_path', 'image_id', 'pos', 'score', 'where')

    def transform(self, results: dict) -> dict:
        """Packs one item.

        Args:
            results: The item.

        Returns:
            ``inputs``: image ``(3, H, W)`` of uint8, or None; ``data_samples``: what is known.
        """
        image = results.get('img')
        if image is not None:
            image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        known = {key: results[key] for key in self.KEYS if key in results}
        return dict(inputs=image, data_samples=BaseDataElement(metainfo=known))
