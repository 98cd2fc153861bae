"""Images of more than 8 bits, in the formats of pictures and of medical devices."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image

from hyper_mm.registry import TRANSFORMS

DICOM = ('.dcm', '.dicom')
NIFTI = ('.nii', '.nii.gz')
TIFF = ('.tif', '.tiff')
VOLUMES = (*DICOM, *NIFTI)
"""Suffixes of medical images, read by pydicom and nibabel (``pip install hyper_mm[medical]``)."""


def suffix_of(path: str | Path) -> str:
    """Suffix of a file with its dot, ``.nii.gz`` being one.

    Args:
        path: The file.
    """
    name = Path(path).name
    return name[-7:] if name.lower().endswith('.nii.gz') else Path(name).suffix


@TRANSFORMS.register_module()
class LoadImageWindow(LoadImageFromFile):
    """Loads an image of 8 or 16 bits or of floating point, a window of whose values becomes 0..255.

    In place of ``LoadImageFromFile``, which keeps the upper 8 of 16 bits: an image of 12 bits has
    16 levels of gray left there. DICOM and NIfTI files are read where pydicom and nibabel are
    installed, in the units of the device (Hounsfield of CT); see :func:`read_unchanged`.

    Required keys: ``img_path``. Added: ``img``, float32 ``(H, W, 3)``, gray in all channels or BGR,
    ``img_shape`` and ``ori_shape``.

    Args:
        low: Value that becomes 0, as do smaller ones.
        high: Value that becomes 255, as do larger ones.
        backend_args: Backend of the files.

    Raises:
        ValueError: If ``low`` is not below ``high`` or one is not finite; in use, if a file is no
            image of one or three channels or has values that are not finite.
    """

    def __init__(self, low: float, high: float, backend_args: dict | None = None):
        super().__init__(to_float32=True, color_type='unchanged', backend_args=backend_args)
        if not -np.inf < low < high < np.inf:
            raise ValueError(f'low must be below high, both finite, got {low} and {high}')
        self.low, self.high = low, high

    def transform(self, results: dict) -> dict:
        """Loads; see the class.

        Args:
            results: Of an image.

        Returns:
            The same, with its image.
        """
        image = read_unchanged(results['img_path'], self.backend_args)
        if image.ndim == 2:
            image = np.stack([image] * 3, -1)
        if image.ndim != 3 or image.shape[-1] != 3:
            raise ValueError(
                f'{results["img_path"]} must have one or three channels, got {image.shape}'
            )
        image = image.astype(np.float32)
        if not np.isfinite(image).all():
            raise ValueError(f'{results["img_path"]} has values that are not finite')
        image = (image - self.low) * (255 / (self.high - self.low))
        results['img'] = image.clip(0, 255)
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(low={self.low}, high={self.high})'


def read_unchanged(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """Reads an image in the numbers that it holds.

    Of DICOM, these are the values of the device (slope and intercept applied), of which the lowest
    is black (MONOCHROME1 is inverted). Of NIfTI, the one slice, with the first axis to the right
    and the second one downwards.

    Args:
        path: The file.
        backend_args: Backend of the files.

    Returns:
        Array ``(H, W)`` or ``(H, W, channels)``.

    Raises:
        ValueError: If the file is no image, or one of several slices or pages.
        ModuleNotFoundError: If the library of a medical format is missing.
    """
    content, suffix = get(str(path), backend_args=backend_args), suffix_of(path).lower()
    if suffix in VOLUMES:
        if suffix in NIFTI:
            return _read_nifti(path, content, suffix)
        image, color = _read_dicom(path, content)
        if image.ndim > 2 + color:
            raise ValueError(f'{path} must be one slice, got {len(image)} frames: {_SPLIT}')
        return image
    image = mmcv.imfrombytes(content, flag='unchanged', backend='cv2') if content else None
    if image is None:
        raise ValueError(f'{path} is no image that OpenCV reads')
    if suffix in TIFF and (pages := _pages(content)) > 1:
        raise ValueError(f'{path} must be one image, got {pages} pages: write each to a file')
    return image


def _pages(content: bytes) -> int:
    """Images of a TIFF file, of which OpenCV returns the first."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            return getattr(file, 'n_frames', 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # only for OpenCV
        return 1


_SPLIT = 'tools/dataset_converters/slices.py writes the slices of a volume'


def read_dicom(path: str | Path, content: bytes) -> np.ndarray:
    """Reads a DICOM file of one frame or several in the units of the device.

    Args:
        path: Its path, for messages.
        content: Its bytes.

    Returns:
        Array ``(H, W)``, of frames ``(F, H, W)``, or of colors ``(..., 3)``, BGR.

    Raises:
        ValueError: If it is no DICOM image.
        ModuleNotFoundError: If pydicom is missing.
    """
    return _read_dicom(path, content)[0]


def _read_dicom(path: str | Path, content: bytes) -> tuple[np.ndarray, bool]:
    try:
        import pydicom
        from pydicom.pixels import apply_rescale
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path} needs pydicom: pip install pydicom (or hyper_mm[medical])', name=error.name
        ) from None
    try:
        file = pydicom.dcmread(io.BytesIO(content))
        image = file.pixel_array
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise ValueError(f'{path} is no DICOM image that pydicom reads: {error}') from None
    if file.get('PhotometricInterpretation') == 'MONOCHROME1':
        top = 0 if file.PixelRepresentation else 2 ** int(file.BitsStored)
        image = top - 1 - image.astype(np.int32)
    image = apply_rescale(image, file)
    color = int(file.get('SamplesPerPixel', 1)) == 3
    return (image[..., ::-1] if color else image), color


def _read_nifti(path: str | Path, content: bytes, suffix: str) -> np.ndarray:
    volume = np.squeeze(read_nifti(path, content, suffix)[0])
    if volume.ndim != 2:
        raise ValueError(f'{path} must be one slice, got a volume of {volume.shape}: {_SPLIT}')
    return volume.T


def read_nifti(path: str | Path, content: bytes, suffix: str) -> tuple[np.ndarray, tuple]:
    """Reads a NIfTI file.

    Args:
        path: Its path, for messages.
        content: Its bytes.
        suffix: ``'.nii'`` or ``'.nii.gz'``.

    Returns:
        The values, float32 unless they are integers, and the sizes of a voxel in mm.

    Raises:
        ValueError: If it is no NIfTI file.
        ModuleNotFoundError: If nibabel is missing.
    """
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{path} needs nibabel: pip install nibabel (or hyper_mm[medical])', name=error.name
        ) from None
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(content)
        file.flush()
        try:
            found = nibabel.load(file.name)
            values = np.asanyarray(found.dataobj)
        except Exception as error:  # nibabel raises many kinds for damaged files
            raise ValueError(f'{path} is no NIfTI file that nibabel reads: {error}') from None
    values = values if values.dtype.kind in 'iu' else values.astype(np.float32)
    return values, tuple(float(size) for size in found.header.get_zooms())


def check_depth(paths: list, backend_args: dict | None = None) -> None:
    """Refuses images that ``LoadImageFromFile`` would cut to 8 bits, or cannot read.

    Args:
        paths: Their paths.
        backend_args: Backend of the files.

    Raises:
        ValueError: It names the first of them, its values, and the remedy.
    """
    for path in paths:
        image = read_unchanged(path, backend_args)
        if image.dtype != np.uint8 or suffix_of(path).lower() in VOLUMES:
            raise ValueError(
                f'{path} holds {image.dtype} numbers from {image.min()} to {image.max()}, of which '
                "LoadImageFromFile keeps the upper 8 bits: load it by type='hyper_mm."
                "LoadImageWindow' with low=... and high=..., the range of all images"
            )
