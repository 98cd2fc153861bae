"""Folders of images, one a class, in any of the usual layouts. Needs no framework.

What systems leave there by themselves (hidden files and folders such as ``.ipynb_checkpoints`` and
``._x.png``, ``__MACOSX``) is no data; images may lie in folders below that of their class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from .files import read_json, read_text

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm')
"""Suffixes of images, all of which mmcv reads."""
NAMES_FILES = ('classes.json', 'classnames.txt')
"""Files that name the classes of folders, looked for in the folder and in the one above."""
SPLIT_NAMES = {'train', 'training', 'val', 'valid', 'validation', 'test', 'testing'}
_WORDNET = re.compile(r'n\d{8}')
_LITTER = {'__macosx', 'thumbs.db', 'desktop.ini', '@eadir'}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is made by systems and is no data."""
    return (name.startswith('.') and name not in ('.', '..')) or name.lower() in _LITTER


def class_folders(folder: Path) -> list[Path]:
    """The folders of classes, sorted by name.

    Args:
        folder: The folder above them.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder of images at {folder}')
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not is_hidden(sub.name))


def images_below(folder: Path, others: Counter | None = None) -> list[Path]:
    """All images in a folder and in those below it, sorted.

    Args:
        folder: The folder.
        others: Counts the suffixes of the files that are no images.

    Raises:
        ValueError: If there is no image; the message names what there is.
    """
    files = [
        file
        for file in sorted(folder.rglob('*'))
        if file.is_file() and not any(map(is_hidden, file.relative_to(folder).parts))
    ]
    images = [file for file in files if file.suffix.lower() in EXTENSIONS]
    left = Counter(file.suffix.lower() for file in files)
    for suffix in EXTENSIONS:
        del left[suffix]
    if not images:
        raise ValueError(
            f'{folder} has no images of {EXTENSIONS}, only files of suffix {[*left] or "none"}'
        )
    if others is not None:
        others.update(left)
    return images


def read_names(folder: Path) -> dict[str, str] | None:
    """Reads the names of classes by folder, from the first of :data:`NAMES_FILES` that there is.

    A json file holds ``{"folder": "name, synonyms"}``, a text file lines ``folder name``; the first
    synonym is taken where two classes do not share it.

    Args:
        folder: Folder of the classes; the one above it is searched too.

    Returns:
        The names, or None where there is no such file.

    Raises:
        ValueError: If a file is of another format.
    """
    for path in (place / name for place in (folder, folder.parent) for name in NAMES_FILES):
        if not path.is_file():
            continue
        if path.suffix == '.json':
            names = read_json(path)
            for key, name in names.items():
                if not isinstance(name, str) or not name.strip():
                    raise ValueError(f'{path}: {key!r} must have a name, got {name!r}')
        else:
            names = read_classnames(path)
        return _first_synonyms(names)
    return None


def read_classnames(path: Path) -> dict[str, str]:
    """Reads lines ``folder name``.

    Raises:
        ValueError: If a line has no name, or a folder is named twice.
    """
    names: dict[str, str] = {}
    for number, line in enumerate(read_text(path).split('\n'), 1):
        folder, _, name = line.strip().partition(' ')
        if not folder:
            continue
        if not name.strip() or folder in names:
            raise ValueError(
                f'{path}, line {number} must name a folder, once ("folder name"), got {line!r}'
            )
        names[folder] = name.strip()
    return names


def _first_synonyms(names: Mapping[str, str]) -> dict[str, str]:
    first = {key: name.split(',')[0].strip() or name for key, name in names.items()}
    counts = Counter(first.values())
    return {key: name if counts[name] == 1 else names[key] for key, name in first.items()}


def wordnet_ids(names: Iterable[str]) -> list[str]:
    """Names that are WordNet ids, such as ``n01440764``."""
    return [name for name in names if _WORDNET.fullmatch(name)]
