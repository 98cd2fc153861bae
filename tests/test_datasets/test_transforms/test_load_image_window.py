"""Images of more than 8 bits."""

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmcv')

from hyper_mm.datasets.transforms.load_image_window import (  # noqa: E402
    check_depth,
    read_unchanged,
    suffix_of,
)
from hyper_mm.registry import TRANSFORMS  # noqa: E402


def test_windows(tmp_path):
    load = TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=100, high=300))
    path = tmp_path / 'x.tif'
    Image.fromarray(np.array([[0, 100], [200, 999]], np.uint16)).save(path)
    found = load(dict(img_path=str(path)))
    assert found['img'][..., 0].tolist() == [[0, 0], [127.5, 255]]
    assert found['img'].dtype == np.float32 and found['ori_shape'] == (2, 2)
    Image.fromarray(np.array([[[100, 150, 200]]], np.uint8)).save(tmp_path / 'c.png')
    color = load(dict(img_path=str(tmp_path / 'c.png')))['img']
    assert color.tolist() == [[[127.5, 63.75, 0]]]  # BGR, as LoadImageFromFile
    Image.new('RGBA', (2, 2)).save(tmp_path / 'd.png')
    with pytest.raises(ValueError, match='d.png must have one or three channels'):
        load(dict(img_path=str(tmp_path / 'd.png')))
    (tmp_path / 'e.png').write_bytes(b'none')
    with pytest.raises(ValueError, match='e.png is no image'):
        load(dict(img_path=str(tmp_path / 'e.png')))
    for low, high in ((3, 3), (0, np.inf), (-np.inf, 0), (np.nan, 1)):
        with pytest.raises(ValueError, match=f'low must be below high.* got {low} and {high}'):
            TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=low, high=high))


def test_backends(tmp_path):
    """Files come from the backend that is named."""
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / 'a.png')
    local = dict(type='hyper_mm.LoadImageWindow', low=0, high=4095)
    load = TRANSFORMS.build(dict(local, backend_args=dict(backend='local')))
    assert load(dict(img_path=str(tmp_path / 'a.png')))['img'][..., 0].tolist() == [[0, 255]]
    load = TRANSFORMS.build(dict(local, backend_args=dict(backend='none')))
    with pytest.raises(KeyError, match='none'):
        load(dict(img_path=str(tmp_path / 'a.png')))


def test_values_that_are_not_finite(tmp_path):
    image = np.ones((3, 4), np.float32)
    image[1, 2] = np.nan
    Image.fromarray(image).save(tmp_path / 'n.tif')
    load = TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=0, high=1))
    with pytest.raises(ValueError, match='n.tif has values that are not finite'):
        load(dict(img_path=str(tmp_path / 'n.tif')))


def dicom(path, image, signed=False, **tags):
    """Writes a CT slice of 12 bits."""
    pydicom = pytest.importorskip('pydicom')
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b'\0' * 128)
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    file.Rows, file.Columns = image.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, 'MONOCHROME2'
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.PixelRepresentation = int(signed)
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = image.astype(np.int16 if signed else np.uint16).tobytes()
    pydicom.dcmwrite(path, file, enforce_file_format=True)
    return str(path)


def test_dicom_is_read_in_the_units_of_the_device(tmp_path):
    image = np.array([[0, 1000, 2000], [24, 4095, 1]])
    path = dicom(tmp_path / 'a.dcm', image, RescaleSlope=1, RescaleIntercept=-1024)
    assert read_unchanged(path).tolist() == (image - 1024).tolist()
    load = TRANSFORMS.build(dict(type='hyper_mm.LoadImageWindow', low=-1024, high=976))
    found = load(dict(img_path=path))['img']
    assert found.shape == (2, 3, 3) and found[0, :, 1].tolist() == [0, 127.5, 255]
    with pytest.raises(ValueError, match='a.dcm holds .* -1024'):
        check_depth([path])
    # in MONOCHROME1 the lowest number is white
    path = dicom(tmp_path / 'b.dcm', image, PhotometricInterpretation='MONOCHROME1')
    assert read_unchanged(path).tolist() == (4095 - image).tolist()
    signed = np.array([[-2048, 0, 2047]])
    options = dict(signed=True, PhotometricInterpretation='MONOCHROME1')
    path = dicom(tmp_path / 'c.dcm', signed, **options)
    assert read_unchanged(path).tolist() == [[2047, -1, -2048]]
    frames = np.stack([image, image])
    path = dicom(tmp_path / 'd.dcm', frames, NumberOfFrames=2)
    with pytest.raises(ValueError, match='one slice, got 2 frames'):
        read_unchanged(path)
    (tmp_path / 'e.dcm').write_bytes(b'none')
    with pytest.raises(ValueError, match='e.dcm is no DICOM image'):
        read_unchanged(tmp_path / 'e.dcm')


def test_nifti_has_its_first_axis_to_the_right(tmp_path):
    nibabel = pytest.importorskip('nibabel')
    slice_ = np.arange(12, dtype=np.int16).reshape(4, 3)  # 4 to the right, 3 downwards
    for name, values in (('a.nii.gz', slice_), ('b.nii', slice_[..., None])):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / name)
        assert read_unchanged(tmp_path / name).tolist() == slice_.T.tolist()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 3, 2), np.int16), np.eye(4)), tmp_path / 'c.nii')
    with pytest.raises(ValueError, match=r'c.nii must be one slice, got a volume of \(4, 3, 2\)'):
        read_unchanged(tmp_path / 'c.nii')
    (tmp_path / 'd.nii.gz').write_bytes(b'none')
    with pytest.raises(ValueError, match='d.nii.gz is no NIfTI file'):
        read_unchanged(tmp_path / 'd.nii.gz')
    assert suffix_of('x/y.nii.gz') == '.nii.gz' and suffix_of('a.b.png') == '.png'


def test_pages_are_not_left_out(tmp_path):
    first, *others = (Image.fromarray(np.full((4, 5), v, np.uint16)) for v in (1, 2, 3))
    first.save(tmp_path / 'a.tif', save_all=True, append_images=others)
    with pytest.raises(ValueError, match='a.tif must be one image, got 3 pages'):
        read_unchanged(tmp_path / 'a.tif')
    first.save(tmp_path / 'b.tif')
    assert (read_unchanged(tmp_path / 'b.tif') == 1).all()
    cv2.imwrite(str(tmp_path / 'c.tif'), np.full((4, 5, 3), 0.5, np.float32))  # not for pillow
    assert (read_unchanged(tmp_path / 'c.tif') == 0.5).all()
