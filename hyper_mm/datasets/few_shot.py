"""Few-shot classification: the eleven sets of CoOp and four variants of ImageNet."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mmengine.logging import MMLogger
from mmpretrain.datasets import BaseDataset

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.datasets.files import is_integer, read_json, read_text, relative
from hyper_mm.datasets.image_folders import (
    SPLIT_NAMES,
    class_folders,
    images_below,
    read_classnames,
    read_names,
    wordnet_ids,
)
from hyper_mm.datasets.shots import Item, by_label, draw_shots, half
from hyper_mm.registry import DATASETS

SPLITS = ('train', 'val', 'test')
SUBSAMPLES = ('all', 'base', 'new')

Parts = dict
"""Splits (``'train'``, ``'val'``, ``'test'``): lists of path, label and name of the class."""


class FewShotSet(NamedTuple):
    """Where a set of CoOp lies, and how its classes are prompted.

    Attributes:
        images: Folder of the images below ``data_root``.
        template: CoOp's prompt of zero-shot CLIP.
        split_json: File of the split; '' for sets that have none.
    """

    images: str
    template: str = 'a photo of a {}.'
    split_json: str = ''


_VARIANTS = {
    'imagenetv2': 'imagenetv2/imagenetv2-matched-frequency-format-val',
    'imagenet_sketch': 'imagenet-sketch/images',
    'imagenet_a': 'imagenet-adversarial/imagenet-a',
    'imagenet_r': 'imagenet-rendition/imagenet-r',
}

SETS = {
    'imagenet': FewShotSet('imagenet/images'),
    'caltech101': FewShotSet(
        'caltech-101/101_ObjectCategories', split_json='split_zhou_Caltech101.json'
    ),
    'oxford_pets': FewShotSet(
        'oxford_pets/images', 'a photo of a {}, a type of pet.', 'split_zhou_OxfordPets.json'
    ),
    'stanford_cars': FewShotSet('stanford_cars', split_json='split_zhou_StanfordCars.json'),
    'oxford_flowers': FewShotSet(
        'oxford_flowers/jpg',
        'a photo of a {}, a type of flower.',
        'split_zhou_OxfordFlowers.json',
    ),
    'food101': FewShotSet(
        'food-101/images', 'a photo of {}, a type of food.', 'split_zhou_Food101.json'
    ),
    'fgvc_aircraft': FewShotSet('fgvc_aircraft/images', 'a photo of a {}, a type of aircraft.'),
    'sun397': FewShotSet('sun397/SUN397', split_json='split_zhou_SUN397.json'),
    'dtd': FewShotSet('dtd/images', '{} texture.', 'split_zhou_DescribableTextures.json'),
    'eurosat': FewShotSet(
        'eurosat/2750', 'a centered satellite photo of {}.', 'split_zhou_EuroSAT.json'
    ),
    'ucf101': FewShotSet(
        'ucf101/UCF-101-midframes', 'a photo of a person doing {}.', 'split_zhou_UCF101.json'
    ),
    **{name: FewShotSet(images) for name, images in _VARIANTS.items()},
}
"""The sets by CoOp's names, in the folders of CoOp's instructions."""


@DATASETS.register_module()
class CoOpFewShotDataset(BaseDataset):
    """A set of CoOp's protocol with its splits, its draw of the shots, and its halves of classes.

    Shots are drawn by Python's ``random.sample`` from a generator of the seed, class by class in
    the order of the split: first K of each training class, then ``min(K, 4)`` of each validation
    class. So they are those of CoOp where nothing else has drawn before. ImageNet is validated on
    its test images, all of them. CoOp lists the folders of ImageNet and of sets without a split
    file in the order of the file system, here they are sorted.

    The metainfo has ``classes``, ``template`` (CoOp's prompt of zero-shot CLIP) and ``subsample``.

    Args:
        name: One of :data:`SETS`, or ``'folders'``: any folder with one folder of images a class,
            split 50 : 20 : 30 for each class as CoOp splits DTD. Classes are called by their
            folders, or as ``classes.json`` or ``classnames.txt`` in ``data_root`` or above it say.
        data_root: Folder of the sets, each in the folder of CoOp's instructions; for ``'folders'``
            the folder itself.
        split: ``'train'``, ``'val'`` or ``'test'``; the variants of ImageNet have the last alone.
        shots: Images of each class for training; None: all.
        seed: Seed of the draw (the protocol: 1, 2, 3).
        subsample: ``'base'`` for the first half of the labels (the larger one of an odd number),
            ``'new'`` for the second, counted from 0 again, or ``'all'``.
        split_json: Path of another split file; for ``'folders'`` an alternative to its rule.
        allow_fewer: Take all images of a class that has fewer than ``shots``, with a warning, as
            CoOp does (Caltech101 has such classes at 16 shots); an error if False.
        **kwargs: Arguments of mmpretrain's ``BaseDataset`` (``pipeline``, ``test_mode``, ...).

    Raises:
        ValueError: For an unknown set or split, numbers outside their range, a split file that is
            none, a folder without images, a half without classes, or too few images with
            ``allow_fewer=False``.
        FileNotFoundError: If a file or folder is missing; the message names its source.

    Source: Zhou et al., Learning to Prompt for Vision-Language Models (IJCV 2022).
    """

    def __init__(
        self,
        name: str,
        data_root: str = '',
        split: str = 'train',
        shots: int | None = None,
        seed: int = 1,
        subsample: str = 'all',
        split_json: str | None = None,
        allow_fewer: bool = True,
        **kwargs,
    ):
        if name != 'folders' and name not in SETS:
            raise ValueError(f"name must be 'folders' or one of {sorted(SETS)}, got {name!r}")
        if split not in SPLITS or (split != 'test' and name in _VARIANTS):
            allowed = ('test',) if name in _VARIANTS else SPLITS
            raise ValueError(f'split must be one of {allowed} for {name}, got {split!r}')
        check_choice(SUBSAMPLES, subsample=subsample)
        if shots is not None:
            check_at_least(1, shots=shots)
        self.name, self.split, self.shots, self.seed = name, split, shots, seed
        self.subsample, self.split_json, self.allow_fewer = subsample, split_json, allow_fewer
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Reads the split and draws the shots.

        Returns:
            ``img_path`` and ``gt_label`` of every image.
        """
        folder = Path(self.data_root or '') / (SETS[self.name].images if self.name in SETS else '')
        if not folder.is_dir():
            raise FileNotFoundError(
                f'no images of {self.name} at {folder}; see docs/lathadapter.md'
            )
        parts = self._read(folder)
        names = _class_names(parts)
        labels = half(sorted(names), self.subsample)
        if not labels:
            raise ValueError(f'subsample={self.subsample!r} of {self.name} has no classes')
        if self.shots is not None and self.name not in _VARIANTS:
            generator = random.Random(self.seed)
            parts['train'] = self._draw(parts['train'], self.shots, generator)
            if self.name != 'imagenet':
                # validation is not trained on: classes with fewer images are no concern there
                parts['val'] = draw_shots(parts['val'], min(self.shots, 4), generator)
        new = {label: index for index, label in enumerate(labels)}
        template = SETS[self.name].template if self.name in SETS else FewShotSet('').template
        classes = tuple(names[label] for label in labels)
        self._metainfo.update(classes=classes, subsample=self.subsample, template=template)
        items = [item for item in parts[self.split] if item[1] in new]
        if not items:
            raise ValueError(f'split={self.split!r} of {self.name} has no images')
        return [dict(img_path=str(folder / path), gt_label=new[y]) for path, y, _ in items]

    def _draw(self, items: list[Item], shots: int, generator: random.Random) -> list[Item]:
        few = sorted(m[0][2] for m in by_label(items).values() if len(m) < shots)
        if few:
            message = f'{len(few)} classes of {self.name} have fewer than {shots} images: {few}'
            if not self.allow_fewer:
                raise ValueError(message)
            MMLogger.get_current_instance().warning(f'{message}; all of them are taken')
        return draw_shots(items, shots, generator)

    def _read(self, folder: Path) -> Parts:
        known = SETS.get(self.name)
        root = folder.parent if known and '/' in known.images else folder
        if self.split_json is not None:
            return read_split(Path(self.split_json))
        if self.name == 'folders':
            return split_folders(folder)
        if known.split_json:
            return read_split(root / known.split_json)
        if self.name == 'fgvc_aircraft':
            return _read_aircraft(root)
        names = read_classnames(_existing(root / 'classnames.txt'))
        if self.name != 'imagenet':
            numbered = list(names) if self.name == 'imagenetv2' else None
            return dict(test=_read_folders(folder, '', names, numbered))
        train, val = (_read_folders(folder, part, names) for part in ('train', 'val'))
        return dict(train=train, val=val, test=list(val))


def read_split(path: Path) -> Parts:
    """Reads a split file: ``{"train": [[path, label, name], ...], "val": ..., "test": ...}``.

    Args:
        path: The file.

    Returns:
        Items of each split.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no split file; the message names the place. Images that are in two
            splits are warned of.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'no split file {path}: the CoOp project offers it, see docs/lathadapter.md'
        )
    content = read_json(path)
    if not content.keys() >= set(SPLITS):
        raise ValueError(f'{path} must hold an object with {SPLITS}, got {sorted(content)}')
    parts: Parts = {}
    for split in SPLITS:
        if not isinstance(content[split], list):
            raise ValueError(f'{path}: {split} must be a list, got {content[split]!r}')
        for number, item in enumerate(content[split]):
            where = f'{path}, {split}[{number}]'
            if not (isinstance(item, list) and len(item) == 3 and is_integer(item[1])):
                raise ValueError(
                    f'{where} must hold [path, label, name], labels from 0, got {item!r}'
                )
            if not isinstance(item[2], str) or not item[2].strip():
                raise ValueError(f'{where} must have the name of its class, got {item!r}')
            relative(item[0], where)
        parts[split] = [tuple(item) for item in content[split]]
    files = {split: {item[0] for item in items} for split, items in parts.items()}
    for a, b in (('train', 'val'), ('train', 'test'), ('val', 'test')):
        if shared := sorted(files[a] & files[b]):
            MMLogger.get_current_instance().warning(
                f'{path}: {len(shared)} images are both in {a} and in {b}, first {shared[0]!r}'
            )
    return parts


def split_folders(folder: Path) -> Parts:
    """Splits folders of images by :func:`split_items`.

    Args:
        folder: Folder of one folder a class, called by its name.

    Returns:
        Items of each split.

    Raises:
        ValueError: If a class has no images or too few for a training and a test image, or no name
            in a file that names the others; or the folders are splits.
    """
    names = read_names(folder)
    found = [sub.name for sub in class_folders(folder)]
    if found and all(name.lower() in SPLIT_NAMES for name in found):
        raise ValueError(f'{folder} holds splits, {found}: data_root must be one of them')
    if not found:
        raise ValueError(f'no folders of images in {folder}')
    if names is None and (ids := wordnet_ids(found)):
        MMLogger.get_current_instance().warning(
            f'{len(ids)} classes of {folder} are called by WordNet ids, which say nothing to a '
            f'text encoder: {ids[:5]} ...; name them in {folder / "classes.json"}'
        )
    return split_items(_read_folders(folder, '', names))


def split_items(items: Iterable[Item]) -> Parts:
    """Splits images by the rule of CoOp's DTD and EuroSAT, always in the same way.

    Half of the images of a class are for training, a fifth for validation, the rest for tests.

    Args:
        items: Path, label and name of the class of each image.

    Returns:
        Items of each split.

    Raises:
        ValueError: If a class has too few images for a training and a test image.
    """
    generator, parts = random.Random(0), {split: [] for split in SPLITS}
    for label, members in by_label(items).items():
        generator.shuffle(members)
        first = round(0.5 * len(members))
        second = first + round(0.2 * len(members))
        if not 0 < first <= second < len(members):
            raise ValueError(
                f'class {members[0][2]!r} (label {label}) has {len(members)} images, too few to '
                'split'
            )
        parts['train'] += members[:first]
        parts['val'] += members[first:second]
        parts['test'] += members[second:]
    return parts


def _read_folders(
    folder: Path, part: str, names: dict | None = None, numbered: list | None = None
) -> list[Item]:
    """Images of the folders of classes in ``folder/part``.

    ``names`` are those of the folders, or of ``numbered`` where folders are called 0, 1, ...
    """
    subs = class_folders(folder / part)
    if numbered is not None:
        wrong = [sub.name for sub in subs if sub.name not in {*map(str, range(len(numbered)))}]
        if wrong:
            raise ValueError(
                f'folders in {folder / part} must be 0 to {len(numbered) - 1}, got {wrong[:5]}'
            )
        subs = sorted(subs, key=lambda sub: int(sub.name))
    items, others = [], Counter()
    for index, sub in enumerate(subs):
        label = index if numbered is None else int(sub.name)
        key = sub.name if numbered is None else numbered[label]
        if names is not None and key not in names:
            raise ValueError(f'the file of class names has none for the folder {sub}')
        name = key if names is None else names[key]
        images = images_below(sub, others)
        items += [(image.relative_to(folder).as_posix(), label, name) for image in images]
    if others:
        MMLogger.get_current_instance().warning(f'{folder}: no images, not read: {dict(others)}')
    return items


def _read_aircraft(root: Path) -> Parts:
    labels = {name: index for index, name in enumerate(_lines(root / 'variants.txt'))}
    parts = {}
    for split in SPLITS:
        path = root / f'images_variant_{split}.txt'
        parts[split] = []
        for number, line in enumerate(_lines(path), 1):
            image, _, name = line.partition(' ')
            if name not in labels:
                raise ValueError(f'{path}, image {number}: no variant of variants.txt: {line!r}')
            relative(image, f'{path}, image {number}')
            parts[split].append((f'{image}.jpg', labels[name], name))
    return parts


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f'no file {path}; see docs/lathadapter.md')
    return path


def _lines(path: Path) -> list[str]:
    lines = read_text(_existing(path)).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _class_names(parts: Parts) -> dict[int, str]:
    names = {}
    for items in parts.values():
        for _, label, name in items:
            if names.setdefault(label, name) != name:
                raise ValueError(f'label {label} has two names: {names[label]!r} and {name!r}')
    return names
