"""Folders of a site."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg

from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from hyper_mm.engine.adaptation import site_folder  # noqa: E402
from hyper_mm.registry import DATASETS  # noqa: E402

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
INFO = dict(classes=('a', 'b'), palette=[[0] * 3, [1] * 3])


def config(kind='BaseSegDataset', **options):
    init_default_scope('mmseg')
    data = dict(type=kind, pipeline=PIPELINE, **options)
    return Config(dict(test_dataloader=dict(dataset=data)))


def folder(root, images, mask=None):
    for part in ('images', 'masks'):
        (root / part).mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(root / 'images' / name)
        labels = np.eye(*image.shape[:2], dtype=np.uint8) if mask is None else mask
        Image.fromarray(labels).save(root / 'masks' / f'{name.split(".")[0]}.png')
    return root


def test_classes_are_those_of_the_test_data_where_they_fit():
    cfg = config('PascalVOCDataset')
    found = site_folder.metainfo(cfg, 21)
    assert found['classes'][1] == 'aeroplane' and found['palette'][1] == [128, 0, 0]
    other = site_folder.metainfo(cfg, 3)
    assert other['classes'] == ('background', 'class 1', 'class 2') and len(other['palette']) == 3
    assert site_folder.metainfo(cfg, 2, ['x', 'y'])['classes'] == ('x', 'y')


def test_a_window_is_that_of_all_values(tmp_path):
    deep = (np.arange(1024).reshape(32, 32) * 4).astype(np.uint16)
    root = folder(tmp_path, {'a.png': deep, 'b.png': deep + 1000})
    files = site_folder.images_of(root / 'images')
    low, high = site_folder.find_window(files)
    values = np.concatenate([deep.ravel(), deep.ravel() + 1000])
    assert (low, high) == pytest.approx(np.percentile(values, (0.5, 99.5)))
    data = DATASETS.build(site_folder.labeled(config(), root, INFO, True, (0, 4092)))
    assert len(data) == 2 and len(data[0]['inputs'].unique()) == 1024
    assert site_folder.check_labels(data, 2) == {0: 2, 1: 2}
    with pytest.raises(ValueError, match='--window auto'):
        site_folder.labeled(config(), root, INFO, True)
    flat = folder(tmp_path / 'flat', {'a.png': np.full((4, 4), 7, np.uint16)})
    with pytest.raises(ValueError, match='one value, 7'):
        site_folder.find_window(site_folder.images_of(flat / 'images'))


def test_folders_that_do_not_fit(tmp_path):
    image = np.zeros((6, 6, 3), np.uint8)
    with pytest.raises(FileNotFoundError, match=r'no folder .*nowhere$'):
        site_folder.images_of(tmp_path / 'nowhere' / 'images')
    flat = tmp_path / 'flat'
    flat.mkdir()
    for i in range(7):
        Image.fromarray(image).save(flat / f'{i}.png')
    with pytest.raises(FileNotFoundError, match=r'the folders images .* it holds 0.png.*, \.\.\.$'):
        site_folder.images_of(flat / 'images')
    (tmp_path / 'bare').mkdir()
    (tmp_path / 'bare' / 'IM0001').touch()
    with pytest.raises(ValueError, match='got IM0001: give DICOM files .dcm'):
        site_folder.images_of(tmp_path / 'bare')
    with pytest.raises(ValueError, match='one suffix, got none'):
        site_folder.images_of(tmp_path)
    root = folder(tmp_path, {'a.png': image, 'b.jpg': image})
    with pytest.raises(ValueError, match='one suffix'):
        site_folder.images_of(root / 'images')
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'texts' / 'a.txt').touch()
    (tmp_path / 'texts' / '.hidden.png').touch()
    with pytest.raises(ValueError, match='got .txt'):
        site_folder.images_of(tmp_path / 'texts')


def test_nifti_slices_have_png_masks(tmp_path):
    nibabel = pytest.importorskip('nibabel')
    root = folder(tmp_path, {'a.png': np.zeros((6, 6), np.uint8)})
    (root / 'images' / 'a.png').unlink()
    values = np.arange(36, dtype=np.float32).reshape(6, 6)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / 'images' / 'a.nii.gz')
    data = DATASETS.build(site_folder.labeled(config(), root, INFO, True, (0, 35)))
    assert len(data) == 1 and data[0]['inputs'].shape == (3, 6, 6)
    values[2, 2] = np.inf
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), root / 'images' / 'a.nii.gz')
    with pytest.raises(ValueError, match='a.nii.gz has 1 values that are not finite'):
        site_folder.labeled(config(), root, INFO, True, (0, 35))


def test_the_remedy_is_named(tmp_path):
    gray = np.arange(64, dtype=np.float32).reshape(8, 8)
    gray[0, 0] = np.nan
    root = folder(tmp_path / 'nan', {'a.tif': gray + 1, 'b.tif': gray})
    with pytest.raises(ValueError, match=r'a\.tif has 1 values that are not finite'):
        site_folder.find_window(site_folder.images_of(root / 'images'))
    root = folder(tmp_path / 'deep', {'a.png': np.full((8, 8), 300, np.uint16)})
    files = site_folder.images_of(root / 'images')
    with pytest.raises(ValueError, match='more than 8 bits, .* 300 to 300: give --window') as found:
        site_folder.check_window(files, None)
    assert 'LoadImage' not in str(found.value)  # a class of ours is no remedy on the command line
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(files[0])
    with pytest.raises(ValueError, match='one or three channels'):
        site_folder.check_window(files, (0, 255))
    (root / 'masks' / 'a.png').rename(root / 'masks' / 'a.tif')
    with pytest.raises(FileNotFoundError, match=r'no mask .*a\.png, but a\.tif: masks are PNG'):
        site_folder.labeled(config(), root, INFO, True)


def test_copies_and_images_without_contrast(tmp_path):
    images = {f'{i}.png': np.arange(64, dtype=np.uint8).reshape(8, 8) * i for i in (1, 2, 3)}
    files = site_folder.images_of(folder(tmp_path, images) / 'images')
    assert site_folder.copies(files) == []
    files[2].write_bytes(files[0].read_bytes())
    assert site_folder.copies(files) == [(files[0], files[2])]
    assert site_folder.faint_images(files, (0, 1000)) == [files[0], files[2]]
    assert site_folder.faint_images(files, (0, 255)) == []
