r"""Unpack Omniglot into ImageNet folders, which mmpretrain's CustomDataset reads.

Example:
    python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot

The classes are the alphabets (`--classes characters`: the characters). Every class is split by
itself: of each character, one image in five is for validation.
"""

from __future__ import annotations

import argparse
import random
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

CLASSES = ('alphabets', 'characters')


def convert(
    source: str | Path,
    out_dir: str | Path,
    classes: str = 'alphabets',
    val_fraction: float = 0.2,
    seed: int = 0,
) -> dict[str, int]:
    """Writes `out_dir/{train,val}/<class>/<image>.png`.

    Args:
        source: A zip of Omniglot's, with paths `.../<alphabet>/<character>/<image>.png`.
        out_dir: Folder to write to; it must not hold a set yet.
        classes: `'alphabets'` or `'characters'`.
        val_fraction: Part of the images of each character that are for validation, in (0, 1).
        seed: Seed of the split.

    Returns:
        Number of images of each split.

    Raises:
        ValueError: If an argument is out of range, or the zip holds no Omniglot.
        FileExistsError: If there is something in the folders to write to.
    """
    if classes not in CLASSES:
        raise ValueError(f'classes must be one of {CLASSES}, got {classes!r}')
    if not 0 < val_fraction < 1:
        raise ValueError(f'val_fraction must be in (0, 1), got {val_fraction}')
    out_dir = Path(out_dir)
    for split in ('train', 'val'):
        if (out_dir / split).exists() and any((out_dir / split).iterdir()):
            raise FileExistsError(f'{out_dir / split} is not empty')
    if not zipfile.is_zipfile(source):
        raise ValueError(f'source must be a zip file, got {source}')
    counts = dict(train=0, val=0)
    with zipfile.ZipFile(source) as archive:
        for (alphabet, character), members in characters(archive).items():
            name = alphabet if classes == 'alphabets' else f'{alphabet}_{character}'
            random.Random(f'{seed} {alphabet} {character}').shuffle(members)
            num_val = min(max(round(val_fraction * len(members)), 1), len(members) - 1)
            for i, member in enumerate(members):
                split = 'val' if i < num_val else 'train'
                folder = out_dir / split / name
                folder.mkdir(parents=True, exist_ok=True)
                target = folder / f'{character}_{PurePosixPath(member).name}'
                with archive.open(member) as image, target.open('wb') as file:
                    shutil.copyfileobj(image, file)
                counts[split] += 1
    return counts


def characters(archive: zipfile.ZipFile) -> dict[tuple[str, str], list[str]]:
    """Finds the images of each character.

    Args:
        archive: The zip.

    Returns:
        Paths in the zip by alphabet and character, all sorted.

    Raises:
        ValueError: If there are none, or a character has a single image.
    """
    found = defaultdict(list)
    for member in sorted(archive.namelist()):
        parts = PurePosixPath(member).parts
        if member.endswith('.png') and len(parts) >= 3 and '..' not in parts:
            found[parts[-3], parts[-2]].append(member)
    if not found:
        raise ValueError(
            f'source must hold paths <alphabet>/<character>/<image>.png, got {archive.filename}'
        )
    for (alphabet, character), members in found.items():
        if len(members) < 2:
            raise ValueError(f'a split takes two images, got one of {alphabet}/{character}')
    return dict(sorted(found.items()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', type=Path, help="a zip of Omniglot's images")
    parser.add_argument('out_dir', type=Path, help='folder to write to')
    parser.add_argument('--classes', choices=CLASSES, default='alphabets')
    parser.add_argument('--val-fraction', type=float, default=0.2)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        counts = convert(args.source, args.out_dir, args.classes, args.val_fraction, args.seed)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    print(f'{counts["train"]} training and {counts["val"]} validation images in {args.out_dir}')


if __name__ == '__main__':
    main()
