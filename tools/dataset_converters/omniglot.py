r"""Unpack Omniglot into ImageNet folders, which mmpretrain's CustomDataset reads.

Example:
    python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot

The classes are the alphabets (`--classes characters`: the characters). Every class is split by
itself: of each character, one image in five is for validation.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path, PurePosixPath

CLASSES = ('alphabets', 'characters')
MAX_IMAGE, MAX_TOTAL = 1 << 20, 1 << 30
"""Bytes of an image and of all of them (Omniglot: 413 and 14 million)."""
UNSUPPORTED = (NotImplementedError, RuntimeError, ValueError)
"""What zipfile raises for encrypted members and unknown methods."""
PNG = b'\x89PNG\r\n\x1a\n'


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
        ValueError: If an argument is out of range, or the zip holds no Omniglot, the same image
            twice, paths that leave the folder, damaged images, or more than 1 GiB. Nothing is
            written then.
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
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f'{source} is no whole zip file: {error}') from None
    with archive:
        found = characters(archive)
        read_all(archive, found)
        for (alphabet, character), members in found.items():
            name = alphabet if classes == 'alphabets' else f'{alphabet}_{character}'
            random.Random(f'{seed} {alphabet} {character}').shuffle(members)
            num_val = min(max(round(val_fraction * len(members)), 1), len(members) - 1)
            for i, member in enumerate(members):
                split = 'val' if i < num_val else 'train'
                folder = out_dir / split / name
                folder.mkdir(parents=True, exist_ok=True)
                target = folder / f'{character}_{PurePosixPath(member).name}'
                with target.open('xb') as file:
                    file.write(archive.read(member))
                counts[split] += 1
    return counts


def read_all(archive: zipfile.ZipFile, found: dict[tuple[str, str], list[str]]) -> None:
    """Reads all images once, before anything is written.

    An image that occurs twice would be in training and validation at once.

    Args:
        archive: The zip.
        found: What :func:`characters` finds in it.

    Raises:
        ValueError: If a member is damaged or no PNG, or two hold the same image.
    """
    seen: dict[bytes, str] = {}
    for member in (member for members in found.values() for member in members):
        try:
            content = archive.read(member)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, *UNSUPPORTED) as error:
            raise ValueError(f'{archive.filename}: {member} cannot be read: {error}') from None
        if not content.startswith(PNG):
            raise ValueError(f'{archive.filename}: {member} is no PNG image')
        same = seen.setdefault(hashlib.sha256(content).digest(), member)
        if same != member:
            raise ValueError(f'{archive.filename}: {same} and {member} hold the same image')


def characters(archive: zipfile.ZipFile) -> dict[tuple[str, str], list[str]]:
    """Finds the images of each character.

    Args:
        archive: The zip.

    Returns:
        Paths in the zip by alphabet and character, all sorted.

    Raises:
        ValueError: If there are none, a character has a single image, two members go to one file,
            a path leaves its folder, or the images are larger than Omniglot's can be.
    """
    from hyper_mm.datasets.files import relative
    from hyper_mm.datasets.image_folders import is_hidden

    found, targets, total = defaultdict(list), {}, 0
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        member = info.filename
        parts = PurePosixPath(member).parts
        if info.is_dir() or not member.endswith('.png') or any(map(is_hidden, parts)):
            continue
        where = f'{archive.filename}, {member}'
        relative(member, where)
        if len(parts) < 3:
            continue
        total += info.file_size
        if info.file_size > MAX_IMAGE or total > MAX_TOTAL:
            raise ValueError(
                f'{where}: an image may have {MAX_IMAGE} bytes and all together {MAX_TOTAL}, got '
                f'{info.file_size} and {total}'
            )
        alphabet, character, name = parts[-3:]
        target = f'{alphabet}/{character}_{name}'.casefold()
        if target in targets:
            raise ValueError(
                f'{archive.filename}: {targets[target]} and {member} are the same image by name'
            )
        targets[target] = member
        found[alphabet, character].append(member)
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
