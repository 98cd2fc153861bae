"""Images in the style of another domain, by their low frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from hyper_mm.ops.frequency import amplitude_mix, half_size
from hyper_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FrequencyAmplitudeMix(BaseTransform):
    """Mixes low-frequency amplitudes of a random image of another domain into the image.

    Required keys: ``img`` ``(H, W, C)``, and ``domain`` where the own domain is to be left out.
    Added: ``key``, float32, clipped to 0..255. Source: FedDG, CVPR 2021.

    A frequency is a number of waves an image: in a crop, that of a whole image has a shorter
    wavelength. A bank that was built with ``--crop`` is therefore refused for images of a size that
    differs from its own by more than a quarter.

    Args:
        bank: File of ``tools/dataset_converters/amplitude_bank.py``.
        band: The paper's L; see :func:`hyper_mm.ops.frequency.half_size`.
        lam: Range of the interpolation, within [0, 1].
        key: Where the result goes; ``'img'`` replaces the image.

    Raises:
        ValueError: For ``band`` outside of [0, 0.5), ``lam`` outside of [0, 1], or a file that is
            no bank.
        FileNotFoundError: If there is no bank.
    """

    def __init__(
        self,
        bank: str,
        band: float = 0.01,
        lam: tuple[float, float] = (0.0, 1.0),
        key: str = 'img_mix',
    ):
        half_size(band, 1, 1)
        if not isinstance(lam, Sequence) or len(lam) != 2 or not 0 <= lam[0] <= lam[1] <= 1:
            raise ValueError(f'lam must be a range within [0, 1], two numbers, got {lam!r}')
        self.amplitude, self.domain, self.crop = read_bank(bank)
        self.bank, self.band, self.lam, self.key = bank, band, lam, key

    def transform(self, results: dict) -> dict:
        """Adds the mixed image; see the class.

        Raises:
            ValueError: If the bank has no other domain, too few frequencies, other channels, or is
                of crops of another size.
        """
        image = torch.from_numpy(np.ascontiguousarray(results['img'])).movedim(-1, 0).float()
        sides = image.shape[-2:]
        if self.crop and not all(0.8 <= side / self.crop <= 1.25 for side in sides):
            raise ValueError(
                f'bank {self.bank} is of crops of {self.crop} pixels, an image is {(*sides,)}: '
                'their frequencies are other wavelengths; build it with the --crop of the training'
            )
        half, stored = half_size(self.band, *image.shape[-2:]), self.amplitude.shape[-1] // 2
        if half > stored or len(image) != self.amplitude.shape[1]:
            raise ValueError(
                f'bank {self.bank} holds half-size {stored} and {self.amplitude.shape[1]} channels,'
                f' an image {tuple(image.shape)} with band={self.band} needs {half}'
            )
        others = np.flatnonzero(self.domain != str(results.get('domain', '')))
        if not len(others):
            raise ValueError(f'bank {self.bank} has no domain but {results["domain"]!r}')
        inner = slice(stored - half, stored + half + 1)
        other = torch.from_numpy(self.amplitude[np.random.choice(others)][:, inner, inner])
        mixed = amplitude_mix(image, other, np.random.uniform(*self.lam))
        results[self.key] = mixed.clamp(0, 255).movedim(0, -1).contiguous().numpy()
        return results


def read_bank(path: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Amplitudes and domains of a bank, and the size of its crops, 0 for whole images.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no bank; the message names what it holds.
    """
    try:
        with np.load(path) as arrays:
            names = sorted(arrays)
            found = {name: arrays[name] for name in ('amplitude', 'domain') if name in names}
            crop = arrays['crop'] if 'crop' in names else np.array(0)
    except FileNotFoundError:
        raise FileNotFoundError(
            f'bank {path} does not exist: tools/dataset_converters/amplitude_bank.py writes it'
        ) from None
    except Exception as error:  # numpy and zipfile raise many kinds for damaged files
        raise ValueError(f'bank {path} cannot be read: {error}') from None
    if len(found) < 2:
        raise ValueError(f'bank {path} must hold amplitude and domain, got {names}')
    amplitude, domain = found['amplitude'], found['domain']
    square = amplitude.ndim == 4 and amplitude.shape[2] == amplitude.shape[3]
    if (
        not square
        or amplitude.shape[3] % 2 == 0
        or amplitude.dtype.kind != 'f'
        or not len(amplitude)
    ):
        raise ValueError(
            f'bank {path}: amplitude must be float (N, C, 2 half + 1, 2 half + 1) with N > 0, got '
            f'{amplitude.dtype} {amplitude.shape}'
        )
    if domain.shape != amplitude.shape[:1] or not (np.isfinite(amplitude) & (amplitude >= 0)).all():
        raise ValueError(
            f'bank {path}: domain must have {len(amplitude)} entries and amplitude be finite and '
            f'at least 0, got {domain.shape}'
        )
    if crop.shape != () or crop.dtype.kind not in 'iu' or crop < 0:
        raise ValueError(f'bank {path}: crop must be an integer of at least 0, got {crop}')
    return amplitude, domain, int(crop)
