"""The shared base of the data sets in ADE20K's layout."""

import pytest

pytestmark = pytest.mark.mmseg
pytest.importorskip('mmseg')


@pytest.mark.parametrize('name', ['CamVidDataset', 'PartScenesDataset', 'PartScenesWholesDataset'])
def test_missing_data_root_names_setting_and_folder(name, tmp_path):
    from hyper_mm.registry import DATASETS

    config = dict(
        type=f'hyper_mm.{name}',
        data_root=str(tmp_path / 'nowhere'),
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    )
    with pytest.raises(FileNotFoundError, match='data_root') as error:
        DATASETS.build(config)
    assert str(tmp_path / 'nowhere' / 'images' / 'training') in str(error.value)
    assert name in str(error.value)


def test_a_folder_without_images_of_the_suffix(tmp_path):
    from hyper_mm.registry import DATASETS

    folders = dict(img_path='images', seg_map_path='labels')
    config = dict(
        type='hyper_mm.CamVidDataset', data_root=str(tmp_path), data_prefix=folders, pipeline=[]
    )
    for name in folders.values():
        (tmp_path / name).mkdir()
    (tmp_path / 'images' / 'a.bmp').touch()
    with pytest.raises(ValueError, match=r"CamVidDataset: .*img_suffix='.*', only .*\['.bmp'\]$"):
        DATASETS.build(config)
    (tmp_path / 'val.txt').touch()
    with pytest.raises(ValueError, match=r'CamVidDataset: .*val.txt lists none'):
        DATASETS.build(dict(config, ann_file='val.txt'))
