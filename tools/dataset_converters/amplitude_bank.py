"""Writes the low-frequency amplitudes of the images of several domains.

Example: python tools/dataset_converters/amplitude_bank.py site_a=data/a site_b=data/b -o bank.npz \
    --size 256 --crop 128

Frequencies are counted in waves an image, so those of whole images are other wavelengths in a crop:
give --size and --crop of the training, and the bank holds crops of that size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def tiles(image: np.ndarray, size: int | None, crop: int | None) -> list[np.ndarray]:
    """The parts of an image whose amplitudes are taken.

    Args:
        image: ``(H, W, 3)``.
        size: Longer side to which it is resized first; None leaves it.
        crop: Side of the parts, those at the four corners (fewer where they are the same); None for
            the whole image.

    Raises:
        ValueError: If the image is smaller than the crop.
    """
    import mmcv

    if size is not None:
        image = mmcv.imrescale(image, (size, size))
    if crop is None:
        return [image]
    height, width = image.shape[:2]
    if min(height, width) < crop:
        raise ValueError(f'an image of {height} x {width} is smaller than --crop {crop}')
    return [
        image[top : top + crop, left : left + crop]
        for top in sorted({0, height - crop})
        for left in sorted({0, width - crop})
    ]


def build_bank(
    domains: dict[str, Path], half: int = 3, size: int | None = None, crop: int | None = None
) -> dict[str, np.ndarray]:
    """Amplitudes of all images.

    Args:
        domains: Folder of images of each domain, searched with its subfolders.
        half: Half-size of the stored square of coefficients.
        size: See :func:`tiles`.
        crop: See :func:`tiles`.

    Returns:
        ``amplitude`` ``(N, 3, 2 half + 1, 2 half + 1)`` float32, channels BGR as mmcv reads them,
        ``domain`` ``(N,)``, and ``crop``, 0 for whole images.

    Raises:
        ValueError: If a folder holds no image, or one that is too small.
    """
    import mmcv
    import torch
    from tqdm import tqdm

    from hyper_mm.datasets.image_folders import images_below
    from hyper_mm.ops.frequency import low_amplitude

    amplitudes, names = [], []
    for name, folder in domains.items():
        try:
            files = images_below(folder)
        except ValueError as error:
            raise ValueError(f'domain {name}: {error}') from None
        for file in tqdm(files, desc=name):
            try:
                for part in tiles(mmcv.imread(file), size, crop):
                    image = torch.from_numpy(np.ascontiguousarray(part)).movedim(-1, 0)
                    amplitudes.append(low_amplitude(image, half).float().numpy())
                    names.append(name)
            except ValueError as error:
                raise ValueError(f'{file}: {error}') from None
    return dict(amplitude=np.stack(amplitudes), domain=np.array(names), crop=np.array(crop or 0))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('domains', nargs='+', metavar='NAME=DIR')
    parser.add_argument('-o', '--out', type=Path, required=True)
    parser.add_argument('--half', type=int, default=3, help='half-size of the stored square')
    parser.add_argument('--size', type=int, help='longer side that images are resized to first')
    parser.add_argument('--crop', type=int, help='side of the crops that are trained on')
    args = parser.parse_args(argv)
    pairs = [entry.partition('=') for entry in args.domains]
    for name, _, folder in pairs:
        if not name or not folder:
            parser.error(f'expected NAME=DIR, got {name!r}')
    if len({name for name, _, _ in pairs}) < len(pairs):
        parser.error(f'names must differ, got {[name for name, _, _ in pairs]}')
    try:
        bank = build_bank({n: Path(d) for n, _, d in pairs}, args.half, args.size, args.crop)
    except ValueError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open('wb') as file:  # numpy would add a suffix to a name
        np.savez(file, **bank)


if __name__ == '__main__':
    main()
