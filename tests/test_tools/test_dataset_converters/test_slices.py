"""Slices of volumes."""

import numpy as np
import pytest
from PIL import Image

nibabel = pytest.importorskip('nibabel')
pytest.importorskip('mmcv')

from hyper_mm.datasets.transforms.load_image_window import read_unchanged  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

TOOL = load_tool('dataset_converters/slices.py')


def volume(path, values, zooms=(1, 1, 1)):
    image = nibabel.Nifti1Image(values, np.diag([*zooms, 1.0]))
    nibabel.save(image, path)
    return path


def test_labeled_slices_of_each_patient(tmp_path, capsys):
    values = np.arange(4 * 3 * 6, dtype=np.int16).reshape(4, 3, 6) - 20
    labels = np.zeros((4, 3, 6), np.uint8)
    labels[1, 2, 2] = 1
    labels[0, 0, 4] = 2
    files = [f'{p}={volume(tmp_path / f"{p}.nii.gz", values, (1, 2, 1))}' for p in 'abc']
    marks = [f'{p}={volume(tmp_path / f"{p}_seg.nii", labels)}' for p in 'ab']
    marks.append(f'c={volume(tmp_path / "c_seg.nii", np.zeros_like(labels))}')
    out = tmp_path / 'site'
    TOOL.main([*files, '--labels', *marks, '--every', '2', '-o', str(out)])
    names = sorted(path.stem for path in (out / 'masks').iterdir())
    assert names == ['a_0002', 'a_0004', 'b_0002', 'b_0004']
    image = read_unchanged(out / 'images' / 'a_0002.tif')
    assert image.tolist() == values[:, :, 2].T.tolist()
    mask = np.asarray(Image.open(out / 'masks' / 'a_0002.png'))
    assert mask.shape == (3, 4) and np.argwhere(mask).tolist() == [[2, 1]]
    told = capsys.readouterr().out
    assert 'not square' in told and 'c: no slice, since no label' in told
    TOOL.main([files[0], '-o', str(tmp_path / 'new')])
    assert len([*(tmp_path / 'new' / 'images').iterdir()]) == 6
    assert not (tmp_path / 'new' / 'masks').exists()


def test_bad_input(tmp_path, capsys):
    good = volume(tmp_path / 'a.nii', np.zeros((4, 3, 2), np.int16))
    other = volume(tmp_path / 'b.nii', np.zeros((4, 3, 3), np.int16))
    flat = volume(tmp_path / 'c.nii', np.zeros((4, 3), np.int16))
    many = volume(tmp_path / 'd.nii', np.full((4, 3, 2), 300, np.int16))
    (tmp_path / 'e.txt').touch()
    for arguments, message in (
        ([str(good)], 'PATIENT=FILE'),
        ([f'a={good}', f'a={good}'], 'patients must differ'),
        ([f'a={good}', '--labels', f'b={good}'], 'those of --labels'),
        ([f'a={good}', '--every', '0'], '--every'),
        ([f'a={good}', '--labels', f'a={other}'], 'b.nii is (3, 3, 4)'),
        ([f'a={good}', '--labels', f'a={many}'], 'numbers of classes'),
        ([f'a={good}', '--labels', f'a={good}'], 'no label in any slice of'),
        ([f'a={flat}'], 'three axes'),
        ([f'a={tmp_path / "e.txt"}'], 'must be of .dcm'),
    ):
        with pytest.raises(SystemExit):
            TOOL.main([*arguments, '-o', str(tmp_path / 'out')])
        assert message in capsys.readouterr().err.replace('\n', ' ')
