"""Names of classes and superclasses of the BREEDS subsets."""

import pytest

pytestmark = pytest.mark.mmpretrain
pytest.importorskip('mmpretrain')

from hyper_mm.datasets.breeds_names import SUBSETS, BreedsNamesDataset  # noqa: E402


@pytest.mark.parametrize(
    ('subset', 'count'), [('entity13', 13), ('entity30', 30), ('living17', 17), ('nonliving26', 26)]
)
def test_subsets_have_as_many_superclasses_as_they_are_called(data_dir, subset, count):
    folder = data_dir / 'imagenet_sample'
    if not folder.is_dir():
        pytest.skip('no imagenet_sample in the data folder')
    data = BreedsNamesDataset(subset, data_root=str(folder))
    groups = {}
    for index in range(len(data)):
        item = data.get_data_info(index)
        general, specific = item['texts']
        assert item['task'] == 'names' and general.startswith('a photo of a ')
        groups.setdefault(general, set()).add(specific)
    assert len(groups) == count
    assert min(len(group) for group in groups.values()) >= SUBSETS[subset][1]


def test_bad_arguments():
    with pytest.raises(ValueError, match='subset must be one of'):
        BreedsNamesDataset('entity14')
    with pytest.raises(ValueError, match='template'):
        BreedsNamesDataset(template='name')
