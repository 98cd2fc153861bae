"""Writes the low-frequency amplitudes of the images of several domains.

Example: python tools/dataset_converters/amplitude_bank.py site_a=data/a site_b=data/b -o bank.npz
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def build_bank(domains: dict[str, Path], half: int = 3) -> dict[str, np.ndarray]:
    """Amplitudes of all images.

    Args:
        domains: Folder of images of each domain, searched with its subfolders.
        half: Half-size of the stored square of coefficients.

    Returns:
        ``amplitude`` ``(N, 3, 2 half + 1, 2 half + 1)`` float32, channels BGR as mmcv reads them,
        and ``domain`` ``(N,)``.

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
            image = torch.from_numpy(mmcv.imread(file)).movedim(-1, 0)
            try:
                amplitudes.append(low_amplitude(image, half).float().numpy())
            except ValueError as error:
                raise ValueError(f'{file}: {error}') from None
            names.append(name)
    return dict(amplitude=np.stack(amplitudes), domain=np.array(names))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('domains', nargs='+', metavar='NAME=DIR')
    parser.add_argument('-o', '--out', type=Path, required=True)
    parser.add_argument('--half', type=int, default=3, help='half-size of the stored square')
    args = parser.parse_args(argv)
    pairs = [entry.partition('=') for entry in args.domains]
    for name, _, folder in pairs:
        if not name or not folder:
            parser.error(f'expected NAME=DIR, got {name!r}')
    if len({name for name, _, _ in pairs}) < len(pairs):
        parser.error(f'names must differ, got {[name for name, _, _ in pairs]}')
    try:
        bank = build_bank({n: Path(d) for n, _, d in pairs}, args.half)
    except ValueError as error:
        parser.error(str(error))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open('wb') as file:  # numpy would add a suffix to a name
        np.savez(file, **bank)


if __name__ == '__main__':
    main()
