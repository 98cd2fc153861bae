"""Amplitude bank, FrequencyAmplitudeMix and GenerateBoundaryBands."""

from pathlib import Path

import mmcv
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_mm.registry import TRANSFORMS
from tests.helpers.tools import load_tool

from ..helpers.fuzz import FAST, changed, reads

TOOL = load_tool('dataset_converters/amplitude_bank.py')


@pytest.fixture(scope='module')
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp('bank')
    for name, value in (('a', 50), ('b', 200)):
        mmcv.imwrite(np.full((24, 20, 3), value, np.uint8), str(folder / name / 'x.png'))
    TOOL.main([f'a={folder / "a"}', f'b={folder / "b"}', '-o', str(folder / 'amplitudes')])
    return str(folder / 'amplitudes')


def test_bank_bad_input(bank, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    mmcv.imwrite(np.zeros((5, 20, 3), np.uint8), str(tmp_path / 'small' / 'x.png'))
    for names, message in (
        (['a=x', 'a=y'], "names must differ, got ['a', 'a']"),
        ([f'a={tmp_path / "empty"}'], 'no image'),
        ([f'a={tmp_path / "small"}'], 'x.png: half must be'),
        (['a'], 'NAME=DIR'),
    ):
        with pytest.raises(SystemExit):
            TOOL.main([*names, '-o', str(tmp_path / 'bank.npz')])
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'bank.npz').exists()


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


def test_bands():
    labels = np.zeros((9, 9), np.uint8)
    labels[3:6, 3:6] = 1
    labels[0] = 255
    config = dict(type='hyper_mm.GenerateBoundaryBands', num_classes=2, dilate=3)
    found = TRANSFORMS.build(config)(dict(gt_seg_map=labels))
    assert found['gt_boundary'].shape == (1, 9, 9) and found['gt_boundary'].sum() == 8
    assert (found['gt_background'][0, 1:3, 4] == 1).all() and found['gt_background'][
        0, 0
    ].sum() == 0
    with pytest.raises(ValueError, match='num_classes'):
        TRANSFORMS.build(dict(config, num_classes=1))
