"""FrequencyAmplitudeMix and the bank of amplitudes that it reads."""

from pathlib import Path

import mmcv
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_mm.registry import TRANSFORMS
from tests.helpers.fuzz import FAST, changed, reads
from tests.helpers.tools import load_tool

TOOL = load_tool('dataset_converters/amplitude_bank.py')


@pytest.fixture(scope='module')
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bank')
    for name, value in (('a', 50), ('b', 200)):
        mmcv.imwrite(np.full((24, 20, 3), value, np.uint8), str(folder / name / 'x.png'))
    TOOL.main([f'a={folder / "a"}', f'b={folder / "b"}', '-o', str(folder / 'amplitudes')])
    return str(folder / 'amplitudes')


def build(**options):
    return TRANSFORMS.build(dict(type='hyper_mm.FrequencyAmplitudeMix', **options))


@pytest.mark.parametrize('domain, mean', [('a', 200), ('b', 50)])
def test_mix_takes_the_other_domain(bank, domain, mean):
    image = np.full((30, 40, 3), 100, np.uint8)
    mix = build(bank=bank, lam=(1, 1), band=0.1)
    found = mix(dict(img=image, domain=domain))
    np.testing.assert_allclose(found['img_mix'], mean, atol=1e-3)
    assert found['img_mix'].dtype == np.float32 and (found['img'] == 100).all()


def test_mix_bad_input(bank, tmp_path):
    with pytest.raises(ValueError, match='lam'):
        build(bank=bank, lam=(0, 2))
    with pytest.raises(ValueError, match='lam'):
        build(bank=bank, lam=0.5)
    with pytest.raises(ValueError, match='band'):
        build(bank=bank, band=0.7)
    with pytest.raises(ValueError, match='half-size 3'):
        build(bank=bank, band=0.2)(dict(img=np.zeros((30, 40, 3), np.uint8)))
    with np.load(bank) as arrays:
        np.savez(tmp_path / 'one.npz', amplitude=arrays['amplitude'], domain=np.array(['a', 'a']))
    with pytest.raises(ValueError, match='no domain but'):
        build(bank=str(tmp_path / 'one.npz'))(dict(img=np.zeros((30, 40, 3), 'u1'), domain='a'))


def test_a_bank_of_crops_is_for_crops_of_its_size(tmp_path):
    draw = np.random.default_rng(0)
    for name in 'ab':
        image = draw.integers(0, 256, (40, 64, 3), np.uint8)
        mmcv.imwrite(image, str(tmp_path / name / 'x.png'))
    names = [f'{name}={tmp_path / name}' for name in 'ab']
    TOOL.main([*names, '--crop', '32', '--half', '2', '-o', str(tmp_path / 'bank.npz')])
    with np.load(tmp_path / 'bank.npz') as arrays:
        assert arrays['crop'] == 32 and arrays['amplitude'].shape == (8, 3, 5, 5)
        part = mmcv.imread(str(tmp_path / 'a' / 'x.png'))[:32, :32]
        expected = np.abs(np.fft.fft2(part[..., 0] / 32**2))[0, 0]
        assert arrays['amplitude'][0, 0, 2, 2] == pytest.approx(expected, rel=1e-6)
    mix = build(bank=str(tmp_path / 'bank.npz'), band=0.05)
    assert mix(dict(img=np.zeros((32, 36, 3), 'u1'), domain='a'))['img_mix'].shape == (32, 36, 3)
    with pytest.raises(ValueError, match='crops of 32 pixels, an image is .64, 64'):
        mix(dict(img=np.zeros((64, 64, 3), 'u1'), domain='a'))
    with pytest.raises(SystemExit):
        TOOL.main([*names, '--crop', '41', '-o', str(tmp_path / 'none.npz')])


def test_banks_that_are_none(bank, tmp_path):
    with np.load(bank) as arrays:
        good = dict(arrays)
    for changes, message in (
        (dict(domain=None), "must hold amplitude and domain, got .'amplitude'"),
        (dict(domain=good['domain'][:1]), 'domain must have 2 entries'),
        (dict(amplitude=good['amplitude'][..., :4]), 'amplitude must be float'),
        (dict(amplitude=np.full_like(good['amplitude'], np.nan)), 'finite and at least 0'),
        (dict(amplitude=good['amplitude'][:0], domain=good['domain'][:0]), 'with N > 0'),
    ):
        arrays = {k: v for k, v in {**good, **changes}.items() if v is not None}
        np.savez(tmp_path / 'bank.npz', **arrays)
        with pytest.raises(ValueError, match=rf'bank\.npz.*{message}'):
            build(bank=str(tmp_path / 'bank.npz'))
    with pytest.raises(FileNotFoundError, match=r'none\.npz does not exist: tools.*amplitude_bank'):
        build(bank=str(tmp_path / 'none.npz'))


@given(data=st.data())
@FAST
def test_damaged_banks(bank, tmp_path, data):
    content = data.draw(changed(Path(bank).read_bytes()))
    (tmp_path / 'bank.npz').write_bytes(content)
    reads(lambda: build(bank=str(tmp_path / 'bank.npz')), 'bank.npz')


def test_the_result_is_under_the_key(bank):
    image = np.full((30, 40, 3), 100, np.uint8)
    found = build(bank=bank, key='img_other', band=0.1)(dict(img=image, domain='a'))
    assert 'img_mix' not in found and found['img_other'].shape == image.shape
