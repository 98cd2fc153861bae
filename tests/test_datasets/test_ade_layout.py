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
