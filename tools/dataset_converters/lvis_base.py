"""Writes what open-vocabulary detection needs of LVIS v1: training without the rare classes, names.

    python tools/dataset_converters/lvis_base.py data/lvis_v1/annotations/lvis_v1_train.json

writes beside the file (or to `--out-dir`)

- `lvis_v1_train_norare.json`: the same images, with the frequent and common classes and their
  annotations alone, so that label i is the class of line i of
- `lvis_v1_base_names.txt`, the names of these classes (`train_vocabulary`), and
- `lvis_v1_names.txt`, the names of all 1203 (`vocabulary`).

To test without the training set: the file of the validation set and `--names-only`.

A line has the name of a class and its synonyms, as LVIS spells them but for `_`, which becomes a
space: `arctic (type of shoe), galosh, ...`. A synonym that is a name of another class, too, is left
out, because a class counts as seen in training if one of its names was a name there.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from open_vocab import check_entries

FREQUENCIES = 'fcr'
"""Frequent, common, rare: classes of more than 100, more than 10, and fewer training images."""
CATEGORY = dict(id=int, name=str, frequency=str, synonyms=list)
IMAGE = dict(id=int)
ANNOTATION = dict(image_id=int, category_id=int)


def words(name: str) -> str:
    """A name of LVIS in words: neither underscores nor commas, which would separate synonyms."""
    return ' '.join(name.replace('_', ' ').replace(',', ' ').split())


def check_categories(categories: object, names: tuple[str, ...], where: object) -> None:
    """Refuses categories that are not those of mmdet's ``LVISV1Dataset``, in its order.

    Args:
        categories: List of the annotation file.
        names: The classes of mmdet's data set, whose numbers are the labels.
        where: What messages call the place.

    Raises:
        ValueError: It says which entry is wrong.
    """
    check_entries(categories, CATEGORY, where)
    if len(categories) != len(names):
        raise ValueError(f'{where} must be the {len(names)} of LVIS v1, got {len(categories)}')
    for place, (category, name) in enumerate(zip(categories, names)):
        if category['name'] != name:
            raise ValueError(
                f'{where}[{place}] must be {name!r}, as in LVISV1Dataset of mmdet, got '
                f'{category["name"]!r}'
            )
        if category['frequency'] not in {*FREQUENCIES}:
            raise ValueError(
                f'{where}[{place}], frequency must be one of {[*FREQUENCIES]}, got '
                f'{category["frequency"]!r}'
            )
        if wrong := [x for x in category['synonyms'] if not isinstance(x, str)]:
            raise ValueError(f'{where}[{place}], synonyms must be texts, got {wrong[0]!r}')
    twice = [k for k, n in Counter(c['id'] for c in categories).items() if n > 1]
    if twice:
        raise ValueError(f'{where} must have ids that differ, got {twice[0]} more than once')
    if len({c['frequency'] == 'r' for c in categories}) < 2:
        raise ValueError(f'{where} must have rare and other classes, got those of one kind')


def vocabulary_lines(categories: list[dict]) -> list[str]:
    """A line of a vocabulary for each class: its name, and the synonyms that are its alone.

    Args:
        categories: See :func:`check_categories`.

    Returns:
        The lines, in the same order.
    """
    names = [words(category['name']) for category in categories]
    synonyms = [
        {words(x).lower(): words(x) for x in category['synonyms'] if words(x)}
        for category in categories
    ]
    owners = Counter(key for own in synonyms for key in own)
    taken = {name.lower() for name in names}
    return [
        ', '.join([name, *(x for k, x in own.items() if k not in taken and owners[k] == 1)])
        for name, own in zip(names, synonyms)
    ]


def without_rare(data: dict, where: object) -> dict:
    """An annotation file without the rare classes.

    Args:
        data: Content of the file, whose categories were checked.
        where: What messages call it.

    Returns:
        The same with fewer categories and annotations, and all images: an image without annotations
        is left to the data set's ``filter_cfg``.

    Raises:
        ValueError: If an image or an annotation is no object with the right entries, or names a
            category or an image that is not there.
    """
    known = {category['id'] for category in data['categories']}
    base = {c['id'] for c in data['categories'] if c['frequency'] != 'r'}
    check_entries(data.get('images'), IMAGE, f'{where}, images')
    check_entries(data.get('annotations'), ANNOTATION, f'{where}, annotations')
    images = {image['id'] for image in data['images']}
    for number, part in enumerate(data['annotations']):
        for key, ids in (('category_id', known), ('image_id', images)):
            if part[key] not in ids:
                raise ValueError(
                    f'{where}, annotations[{number}], {key} must be an id of the file, got '
                    f'{part[key]}'
                )
    lists = ('neg_category_ids', 'not_exhaustive_category_ids')
    return dict(
        data,
        categories=[c for c in data['categories'] if c['id'] in base],
        annotations=[part for part in data['annotations'] if part['category_id'] in base],
        images=[
            dict(image, **{k: [i for i in image[k] if i in base] for k in lists if k in image})
            for image in data['images']
        ],
    )


def check_split(lines: list[str], seen: list[bool]) -> None:
    """Checks that names alone tell which classes were trained, as the detectors do it.

    Args:
        lines: Lines of all classes.
        seen: Whether each is in training.

    Raises:
        ValueError: It names the classes that would be taken for others.
    """
    from hyper_mm.datasets.vocabulary import Vocabulary

    base = Vocabulary([line for line, own in zip(lines, seen) if own])
    found = Vocabulary(lines).shared_with(base)
    wrong = [line for line, own, other in zip(lines, seen, found) if own != other]
    if wrong:
        raise ValueError(f'rare classes share a name with a trained one: {wrong[:5]}')


def convert(annotations: Path, out_dir: Path, names_only: bool = False) -> list[Path]:
    """Writes the files.

    Args:
        annotations: An annotation file of LVIS v1.
        out_dir: Folder to write to.
        names_only: Whether to write the names alone.

    Returns:
        The files.

    Raises:
        FileNotFoundError: If there is no annotation file.
        ValueError: If it is not one of LVIS v1.
    """
    from mmdet.datasets import LVISV1Dataset

    from hyper_mm.datasets.files import read_json

    data = read_json(annotations)
    categories = data.get('categories')
    check_categories(categories, LVISV1Dataset.METAINFO['classes'], f'{annotations}, categories')
    lines, seen = vocabulary_lines(categories), [c['frequency'] != 'r' for c in categories]
    check_split(lines, seen)
    base = [line for line, own in zip(lines, seen) if own]
    texts = {f'lvis_v1{k}_names.txt': '\n'.join(v) for k, v in (('', lines), ('_base', base))}
    if not names_only:
        texts[f'{annotations.stem}_norare.json'] = json.dumps(without_rare(data, annotations))
    out_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in texts.items():
        part = out_dir / f'part-{name}'
        part.write_text(f'{text}\n', encoding='utf-8')
        written.append(part.replace(out_dir / name))
    return written


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('annotations', type=Path, help='annotation file of LVIS v1')
    add('--out-dir', type=Path, help='folder to write to (that of the annotation file)')
    add('--names-only', action='store_true', help='write the vocabularies alone')
    args = parser.parse_args(argv)
    try:
        out_dir = args.out_dir or args.annotations.parent
        written = convert(args.annotations, out_dir, args.names_only)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for path in written:
        print(path)


if __name__ == '__main__':
    main()
