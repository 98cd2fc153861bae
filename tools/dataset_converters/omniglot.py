r"""Unpack Omniglot into ImageNet folders, which mmpretrain's CustomDataset reads.

Example:
    python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot

The classes are the alphabets (`--classes characters`: the characters). Every class is split by
itself: of each character, one image in five is for validation. For few-shot learning, whole
alphabets are left out:

    python tools/dataset_converters/omniglot.py images_background_small1.zip data/omniglot_few_shot
        --held-out val=Greek test=Korean --rotations --size 28

writes the characters of Greek to `val`, of Korean to `test` and of all others to `train`, and with
`--rotations` each of these turned by 90, 180 and 270 degrees as three more classes (Vinyals et al.,
2016).
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
    counts = dict(train=0, val=0)
    with open_archive(source, out_dir, ('train', 'val')) as archive:
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


def convert_held_out(
    source: str | Path,
    out_dir: str | Path,
    held_out: dict[str, str],
    size: int | None = None,
    rotations: bool = False,
) -> dict[str, int]:
    """Writes `out_dir/<split>/<alphabet>_<character>/<image>.png`, split by alphabets.

    Args:
        source: A zip of Omniglot's, with paths `.../<alphabet>/<character>/<image>.png`.
        out_dir: Folder to write to; it must not hold a set yet.
        held_out: Split -> its alphabets, with commas between them; the others are for `train`.
        size: Images are resized to so many pixels a side, with their mean over each pixel.
        rotations: Add the turned characters of `train` as classes.

    Returns:
        Number of images of each split.

    Raises:
        ValueError: If an alphabet is unknown or in two splits, none is left for `train`, a split is
            called `train`, or as in :func:`convert`.
        FileExistsError: If there is something in the folders to write to.
    """
    import io

    from PIL import Image

    out_dir = Path(out_dir)
    splits = {name.strip(): split for split, names in held_out.items() for name in names.split(',')}
    if (
        not held_out
        or 'train' in held_out
        or sum(len(names.split(',')) for names in held_out.values()) != len(splits)
    ):
        raise ValueError(
            'held_out must be a dict of splits other than train to alphabets, each named once, got '
            f'{held_out}'
        )
    if size is not None and size < 1:
        raise ValueError(f'size must be at least 1, got {size}')
    with open_archive(source, out_dir, ('train', *held_out)) as archive:
        found = characters(archive)
        known = sorted({alphabet for alphabet, _ in found})
        if not set(splits) < set(known):
            raise ValueError(
                f'held-out alphabets must be some, not all, of {known}, got {sorted(splits)}'
            )
        read_all(archive, found)
        counts = dict.fromkeys(('train', *held_out), 0)
        for (alphabet, character), members in found.items():
            split = splits.get(alphabet, 'train')
            for angle in (0, 90, 180, 270) if rotations and split == 'train' else (0,):
                name = f'{alphabet}_{character}' + (f'_rot{angle}' if angle else '')
                folder = out_dir / split / name
                folder.mkdir(parents=True, exist_ok=True)
                for member in members:
                    image = Image.open(io.BytesIO(archive.read(member))).convert('L')
                    if size is not None:
                        image = image.resize((size, size), Image.Resampling.BOX)
                    with (folder / PurePosixPath(member).name).open('xb') as file:
                        image.rotate(angle).save(file, 'PNG')
                    counts[split] += 1
    return counts


def open_archive(source: str | Path, out_dir: Path, splits: tuple[str, ...]) -> zipfile.ZipFile:
    """Opens the zip, if there is nothing yet in the folders to write to.

    Args:
        source: The zip.
        out_dir: Folder to write to.
        splits: Its folders.

    Raises:
        ValueError: If it is no zip.
        FileExistsError: If there is something in the folders.
    """
    for split in splits:
        if (out_dir / split).exists() and any((out_dir / split).iterdir()):
            raise FileExistsError(f'{out_dir / split} is not empty')
    if not zipfile.is_zipfile(source):
        raise ValueError(f'source must be a zip file, got {source}')
    try:
        return zipfile.ZipFile(source)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f'{source} is no whole zip file: {error}') from None


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
    parser.add_argument(
        '--held-out', nargs='+', metavar='SPLIT=ALPHABET,...', help='split by alphabets'
    )
    parser.add_argument('--size', type=int, help='pixels a side, with --held-out')
    parser.add_argument('--rotations', action='store_true', help='more classes, with --held-out')
    args = parser.parse_args()
    if not args.held_out and (args.size is not None or args.rotations):
        parser.error('--size and --rotations go with --held-out')
    if args.held_out and not all('=' in part for part in args.held_out):
        parser.error(f'--held-out takes SPLIT=ALPHABET,..., got {args.held_out}')
    try:
        if args.held_out:
            held_out = dict(part.split('=', 1) for part in args.held_out)
            if len(held_out) < len(args.held_out):
                parser.error(f'--held-out names a split twice: {args.held_out}')
            counts = convert_held_out(
                args.source, args.out_dir, held_out, args.size, args.rotations
            )
        else:
            counts = convert(args.source, args.out_dir, args.classes, args.val_fraction, args.seed)
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    print(', '.join(f'{n} images in {args.out_dir / split}' for split, n in counts.items()))


if __name__ == '__main__':
    main()
