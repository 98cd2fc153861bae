"""Writes the label maps of the open-vocabulary benchmarks from the data sets as they are released.

    python tools/dataset_converters/open_vocab.py ade847 ADE20K_2021_17_01 data/ade847
    python tools/dataset_converters/open_vocab.py pc459 VOC2010_DIR data/pc459 --labels CONTEXT_DIR
    python tools/dataset_converters/open_vocab.py pc59 VOC2010_DIR data/pc59 --labels CONTEXT_DIR
    python tools/dataset_converters/open_vocab.py voc20 VOCdevkit/VOC2012 data/voc20
    python tools/dataset_converters/open_vocab.py voc20b VOCdevkit/VOC2012 data/voc20b

Pascal Context is read from its files `CONTEXT_DIR/*.mat` (459 classes, named by `labels.txt`) of
the images that `CONTEXT_DIR/pascalcontext_val.txt` lists, or for pc59 from `trainval_merged.json`,
if `--labels` names that. All write `images/<split>` and
`annotations/<split>`: classes from 0, 16 bits where there are more than 255. What is written
stays: the command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

SHORT_SIDE = 512
"""Images of A-847 that are larger than this are made smaller."""


class Item(NamedTuple):
    """An image and its label map.

    Attributes:
        image: Path of the image.
        labels: Function that gives the label map ``(H, W)``; None where the image has no class.
    """

    image: Path
    labels: Callable[[], np.ndarray | None]


def ids_by_name(vocabulary: str) -> dict[tuple[str, ...], int]:
    """Number of each class of a built-in vocabulary by its synonyms."""
    from hyper_mm.datasets.vocabulary import Vocabulary

    return {entry: i for i, entry in enumerate(Vocabulary.load(vocabulary).entries)}


def synonyms(name: str) -> tuple[str, ...]:
    """The synonyms of a name, as a vocabulary splits them."""
    return tuple(part.strip() for part in name.split(','))


def look_up(
    values: np.ndarray,
    classes: dict[int, int],
    other: int,
    dtype: type,
    allowed: Container[int] | None = None,
) -> np.ndarray:
    """Renumbers a label map; what has no class becomes ``other``.

    Raises:
        ValueError: If there is a label that is not ``allowed``; None allows all.
    """
    if allowed is not None:
        wrong = [int(value) for value in np.unique(values) if value not in allowed]
        if wrong:
            raise ValueError(f'labels {wrong[:5]} are not of this data set')
    table = np.full(int(values.max()) + 1, other, dtype)
    for value, number in classes.items():
        if value < len(table):
            table[value] = number
    return table[values]


def ade847(source: Path, split: str) -> Iterator[Item]:
    """A-847: the red and green channels of ``*_seg.png`` number the object, its json names it."""
    from hyper_mm.datasets.files import parse_json

    classes = ids_by_name('ade847')
    images = sorted((source / 'images' / 'ADE' / split).rglob('*.jpg'))
    for image in images:

        def read(image: Path = image) -> np.ndarray:
            path = image.with_suffix('.json')
            content = parse_json(path.read_text(encoding='latin-1'), path).get('annotation')
            objects = content.get('object') if isinstance(content, dict) else None
            check_entries(objects, dict(name_ndx=int, name=str), f'{path}, annotation.object')
            known = {
                entry['name_ndx']: classes[synonyms(entry['name'])]
                for entry in objects
                if synonyms(entry['name']) in classes
            }
            coded = read_image(image.with_name(f'{image.stem}_seg.png')).astype(np.int64)
            return look_up(coded[..., 2] // 10 * 256 + coded[..., 1], known, 65535, np.uint16)

        yield Item(image, read)


def check_entries(entries: object, fields: dict[str, type | tuple], where: object) -> None:
    """Refuses what is no list of objects with fields of these types.

    Raises:
        ValueError: It says which entry is wrong.
    """
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(name), kind) for name, kind in fields.items()
        ):
            raise ValueError(
                f'{where}[{number}] must be an object with {[*fields]}, got {str(entry)[:80]}'
            )


def pascal_context(
    source: Path, labels: Path | None, vocabulary: str, split: str
) -> Iterator[Item]:
    """Pascal Context from its files, one a picture, of 459 classes that ``labels.txt`` names."""
    from hyper_mm.datasets.files import read_text

    if labels is None:
        raise ValueError('--labels must name the folder of Pascal Context, got None')
    classes = ids_by_name(vocabulary)
    if ('diningtable',) in classes:
        classes['table',] = classes['diningtable',]  # the same class under two names
    if labels.suffix == '.json':
        yield from pascal_context_json(source, labels, classes, split)
        return
    from scipy.io import loadmat

    names = labels / 'labels.txt'
    if not names.is_file():
        raise ValueError(f'{names} must name the classes, a line each ("1: accordion")')
    lines = [line.split(':', 1) for line in read_text(names).splitlines() if ':' in line]
    if wrong := [n for n, _ in lines if not n.strip().isdigit()]:
        raise ValueError(f'{names} must hold lines like "1: accordion", got {wrong[0]!r}')
    known = {int(n): classes[synonyms(x)] for n, x in lines if synonyms(x) in classes}
    check_complete(known.values(), classes, names)
    allowed = {0, *(int(n) for n, _ in lines)}
    dtype, other = (np.uint16, 459) if vocabulary == 'pc459' else (np.uint8, 255)
    chosen = labels / f'pascalcontext_{SPLITS[split]}.txt'
    if not chosen.is_file():
        raise ValueError(f'{chosen} must list the pictures of the split')
    files = {file.stem: file for file in labels.rglob('*.mat')}
    for name in (line.split()[0] for line in read_text(chosen).splitlines() if line.strip()):
        if name not in files:
            raise ValueError(f'{chosen} lists {name}, of which there is no {name}.mat in {labels}')

        def read(file: Path = files[name]) -> np.ndarray:
            content = loadmat(file)
            if 'LabelMap' not in content:
                raise ValueError(f'{file} must hold a LabelMap, got {sorted(content)}')
            values = content['LabelMap'].astype(np.int64)
            return look_up(values, known, other, dtype, allowed)

        yield Item(source / 'JPEGImages' / f'{name}.jpg', read)


def check_complete(found: Iterable[int], classes: dict[tuple[str, ...], int], where: Path) -> None:
    """Refuses a list of names that lacks classes of the benchmark.

    Raises:
        ValueError: It names them.
    """
    found = {*found}
    missing = [', '.join(name) for name, number in classes.items() if number not in found]
    if missing:
        raise ValueError(f'{where} lacks {len(missing)} classes, first {missing[:5]}')


def pascal_context_json(source: Path, labels: Path, classes: dict, split: str) -> Iterator[Item]:
    """Pascal Context from ``trainval_merged.json``: masks by run lengths."""
    from pycocotools import mask as run_lengths

    from hyper_mm.datasets.files import read_json, relative

    data = read_json(labels)
    for key, fields in (
        ('categories', dict(category_id=int, name=str)),
        ('annos_segmentation', dict(category_id=int, image_id=(int, str), segmentation=dict)),
        ('images', dict(image_id=(int, str), file_name=str, height=int, width=int)),
    ):
        check_entries(data.get(key), fields, f'{labels}, {key}')
    numbers = {c['category_id']: classes.get(synonyms(c['name'])) for c in data['categories']}
    check_complete((n for n in numbers.values() if n is not None), classes, labels)
    masks: dict[int, list] = {}
    for part in data['annos_segmentation']:
        if numbers.get(part['category_id']) is not None:
            masks.setdefault(part['image_id'], []).append(part)
    for image in data['images']:
        if image.get('phase') != SPLITS[split]:
            continue

        def read(image: dict = image) -> np.ndarray:
            found = np.full((image['height'], image['width']), 255, np.uint8)
            for part in masks.get(image['image_id'], ()):
                code = part['segmentation']
                if isinstance(code['counts'], list):
                    code = run_lengths.frPyObjects(code, *code['size'])
                found[run_lengths.decode(code).astype(bool)] = numbers[part['category_id']]
            return found

        name = relative(image['file_name'], f'{labels}, image {image["image_id"]}')
        yield Item(source / 'JPEGImages' / name, read)


def pascal_voc(source: Path, background: int, split: str) -> Iterator[Item]:
    """Pascal VOC 2012: 0 is background, 255 is ignored, classes start at 1."""
    from hyper_mm.datasets.files import read_text, relative

    folder = source / 'SegmentationClassAug'
    folder = folder if folder.is_dir() else source / 'SegmentationClass'
    names = source / 'ImageSets' / 'Segmentation' / f'{SPLITS[split]}.txt'
    if not names.is_file():
        raise ValueError(f'{names} must list the pictures of the split')
    for name in read_text(names).split():
        relative(name, names)

        def read(name: str = name) -> np.ndarray | None:
            from PIL import Image

            with Image.open(folder / f'{name}.png') as file:  # by its palette's numbers
                values = np.array(file)
            known = {0: background, **{i: i - 1 for i in range(1, 21)}}
            found = look_up(values, known, 255, np.uint8, {*known, 255})
            return None if background == 255 and (found == 255).all() else found

        yield Item(source / 'JPEGImages' / f'{name}.jpg', read)


SETS: dict[str, Callable[[Path, Path | None, str], Iterator[Item]]] = {
    'ade847': lambda source, labels, split: ade847(source, split),
    'pc459': lambda source, labels, split: pascal_context(source, labels, 'pc459', split),
    'pc59': lambda source, labels, split: pascal_context(source, labels, 'pc59', split),
    'voc20': lambda source, labels, split: pascal_voc(source, 255, split),
    'voc20b': lambda source, labels, split: pascal_voc(source, 20, split),
}
"""Readers of the sets: source, folder of labels and split to items."""
SPLITS = {'training': 'train', 'validation': 'val'}
"""Splits, and what Pascal calls them."""


def read_image(path: Path) -> np.ndarray:
    """Reads an image as BGR.

    Raises:
        ValueError: If there is no such image.
    """
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f'{path} is not there, or no image')
    return image


def write(item: Item, folders: tuple[Path, Path], suffix: str, shrink: bool) -> bool:
    """Writes an image and its label map, if they are not there yet.

    Returns:
        Whether the image has a class.

    Raises:
        ValueError: If sizes differ, a file is missing, or labels are not of the data set.
        OSError: If a file cannot be written, as on a full disk.
    """
    import cv2

    target, label_target = (
        folder / f'{item.image.stem}{s}' for folder, s in zip(folders, ('.jpg', suffix))
    )
    if target.is_file() and label_target.is_file():
        return True
    try:
        labels = item.labels()
    except (OSError, ValueError) as error:
        raise ValueError(f'{item.image.stem}: {error}') from error
    if labels is None:
        return False
    image = read_image(item.image)
    if image.shape[:2] != labels.shape:
        raise ValueError(f'{item.image} is {image.shape[:2]}, its label map {labels.shape}')
    if shrink and min(labels.shape) > SHORT_SIDE:
        factor = SHORT_SIDE / min(labels.shape)
        size = tuple(round(factor * side) for side in labels.shape[::-1])
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        if not cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f'could not write {target}')
    else:
        shutil.copyfile(item.image, target)
    part = label_target.with_name(f'part-{label_target.name}')
    if not cv2.imwrite(str(part), labels):
        raise OSError(f'could not write {part}')
    part.replace(label_target)
    return True


def convert(
    name: str,
    source: Path,
    out_dir: Path,
    labels: Path | None = None,
    split: str = 'validation',
) -> int:
    """Writes a benchmark.

    Args:
        name: Key of :data:`SETS`.
        source: Folder of the data set.
        out_dir: Folder to write to.
        labels: Folder or file of the labels, for Pascal Context.
        split: Part of ADE20K or Pascal VOC.

    Returns:
        Number of images.

    Raises:
        ValueError: If something is missing or does not fit.
    """
    items = list(SETS[name](source, labels, split))
    if not items:
        raise ValueError(f'no images of {name} in {source}')
    folders = out_dir / 'images' / split, out_dir / 'annotations' / split
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    suffix = '.tif' if name in ('ade847', 'pc459') else '.png'
    shrink = name == 'ade847'
    return sum(write(item, folders, suffix, shrink) for item in track(items, f'writing {name}'))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=list(SETS), help='benchmark')
    parser.add_argument('source', type=Path, help='folder of the data set')
    parser.add_argument('out_dir', type=Path, help='folder to write to')
    parser.add_argument('--labels', type=Path, help='labels of Pascal Context')
    parser.add_argument('--split', choices=list(SPLITS), default='validation')
    args = parser.parse_args()
    try:
        count = convert(args.name, args.source, args.out_dir, args.labels, args.split)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f'{count} images in {args.out_dir}')


if __name__ == '__main__':
    main()
