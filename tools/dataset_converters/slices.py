"""Writes the slices of volumes (NIfTI, or DICOM of several frames) as images for tools/adapt.py.

Example: python tools/dataset_converters/slices.py p1=scan1.nii.gz p2=scan2.nii.gz \
    --labels p1=seg1.nii.gz p2=seg2.nii.gz --every 4 -o site/support

Slices of one patient belong to one side of a test: give support and query other patients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def read_volume(path: Path) -> tuple[np.ndarray, tuple]:
    """Values with the slices first, as they are shown, and the sizes of a voxel.

    Args:
        path: NIfTI or DICOM.

    Raises:
        ValueError: If it is neither, or no volume.
    """
    from hyper_mm.datasets.transforms.load_image_window import (
        DICOM,
        NIFTI,
        read_dicom,
        read_nifti,
        suffix_of,
    )

    suffix = suffix_of(path).lower()
    if suffix in NIFTI:
        values, sizes = read_nifti(path, path.read_bytes(), suffix)
        values = values.squeeze() if values.ndim > 3 else values
        if values.ndim == 3:
            return values.transpose(2, 1, 0), (sizes[1], sizes[0])
    elif suffix in DICOM:
        values = read_dicom(path, path.read_bytes())
        if values.ndim == 3:
            return values, ()
    else:
        raise ValueError(f'{path} must be of {", ".join((*DICOM, *NIFTI))}')
    raise ValueError(f'{path} must be a volume of three axes, got {values.shape}')


def write_slices(
    volumes: dict[str, Path], labels: dict[str, Path], every: int, out: Path
) -> list[str]:
    """Writes images as float32 TIFF and label maps as PNG.

    Args:
        volumes: File of each patient.
        labels: File of the labels of each patient; slices without any label are left out.
        every: Each which slice.
        out: Folder, which gets ``images`` and ``masks``.

    Returns:
        Names of the slices.

    Raises:
        ValueError: If labels are of another size or no numbers of 0 to 255, or there are none.
    """
    from PIL import Image
    from tqdm import tqdm

    names = []
    for kind in ('images', 'masks') if labels else ('images',):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for patient, file in tqdm(volumes.items()):
        values, sizes = read_volume(file)
        marks = read_volume(labels[patient])[0] if labels else None
        if sizes and sizes[0] != sizes[1]:
            print(f'{file}: pixels of {sizes[0]:g} x {sizes[1]:g} mm are not square')
        if marks is not None:
            if marks.shape != values.shape:
                raise ValueError(f'{labels[patient]} is {marks.shape}, {file} {values.shape}')
            if not np.isin(np.unique(marks), np.arange(256)).all():
                raise ValueError(f'{labels[patient]} must hold numbers of classes, 0 to 255')
        before = len(names)
        for number in range(0, len(values), every):
            if marks is not None and not marks[number].any():
                continue
            name = f'{patient}_{number:04d}'
            image = Image.fromarray(values[number].astype(np.float32))
            image.save(out / 'images' / f'{name}.tif')
            if marks is not None:
                mask = Image.fromarray(marks[number].astype(np.uint8))
                mask.save(out / 'masks' / f'{name}.png')
            names.append(name)
        if len(names) == before:
            print(f'{patient}: no slice, since no label is in one of them')
    if not names:
        raise ValueError(f'no label in any slice of {sorted(map(str, labels.values()))}')
    return names


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('volumes', nargs='+', metavar='PATIENT=FILE')
    parser.add_argument('--labels', nargs='+', metavar='PATIENT=FILE', default=[])
    parser.add_argument('--every', type=int, default=1, help='each which slice')
    parser.add_argument('-o', '--out', type=Path, required=True)
    args = parser.parse_args(argv)
    pairs = [[entry.partition('=') for entry in part] for part in (args.volumes, args.labels)]
    if any(not name or not file for part in pairs for name, _, file in part):
        parser.error(f'expected PATIENT=FILE, got {args.volumes} {args.labels}')
    volumes, labels = ({name: Path(file) for name, _, file in part} for part in pairs)
    if len(volumes) < len(args.volumes) or (labels and labels.keys() != volumes.keys()):
        parser.error(
            f'patients must differ and be those of --labels, got {[*volumes]}, {[*labels]}'
        )
    if args.every < 1:
        parser.error(f'--every must be at least 1, got {args.every}')
    try:
        names = write_slices(volumes, labels, args.every, args.out)
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    print(f'{len(names)} slices of {len(volumes)} patients in {args.out}')


if __name__ == '__main__':
    main()
