"""Mixing of low-frequency amplitudes."""

import pytest
import torch

from hyper_mm.ops.frequency import amplitude_mix, half_size, low_amplitude

from ..conftest import golden_files
from ..helpers.golden import Golden, absolute


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('file', golden_files('feddg*.npz'))
def test_golden_amplitude_mix(file, dtype):
    g = Golden(file, dtype)
    for name, clipped in (('amp', 'amp_out_clip'), ('amp2', None)):
        x, other, lams = g[f'{name}_x'], g[f'{name}_xn'], g.exact(f'{name}_lam').reshape(-1)
        bands = g.exact(f'{name}_L').reshape(-1)
        expected = g.exact(f'{name}_out').reshape(len(bands), len(lams), *x.shape)
        for i, band in enumerate(bands.tolist()):
            amplitude = low_amplitude(other, half_size(band, *x.shape[-2:]))
            for j, lam in enumerate(lams.tolist()):
                mixed = amplitude_mix(x, amplitude, lam)
                assert mixed.dtype == dtype
                assert absolute(mixed, expected[i, j]) < 2e-4
                if clipped:
                    assert absolute(mixed.clamp(0, 255), g.exact(clipped)[i, j]) < 2e-4


@pytest.mark.parametrize('shape', [(12, 15), (15, 12), (7, 7)])
@pytest.mark.parametrize('half', [0, 1, 3])
def test_equals_the_full_transform(shape, half):
    x, other = torch.rand(2, 3, *shape, dtype=torch.float64).mul(255)
    f, fn = (torch.fft.fftshift(torch.fft.fft2(i), dim=(-2, -1)) for i in (x, other))
    amplitude, rows, columns = f.abs().clone(), *(n // 2 for n in shape)
    at = (..., slice(rows - half, rows + half + 1), slice(columns - half, columns + half + 1))
    amplitude[at] = 0.3 * amplitude[at] + 0.7 * fn.abs()[at]
    full = torch.polar(amplitude, f.angle())
    expected = torch.fft.ifft2(torch.fft.ifftshift(full, dim=(-2, -1))).real
    torch.testing.assert_close(amplitude_mix(x, low_amplitude(other, half), 0.7), expected)


def test_bad_input():
    with pytest.raises(ValueError, match='band'):
        half_size(0.5, 8, 8)
    with pytest.raises(ValueError, match='half'):
        low_amplitude(torch.zeros(8, 8), 4)
    with pytest.raises(ValueError, match='amplitude'):
        amplitude_mix(torch.zeros(8, 8), torch.zeros(2, 2), 0.5)
