"""COCO's captions by image: what is read, and what is refused."""

import json

import pytest
from hypothesis import given

from hyper_mm.datasets.coco_captions import CocoCaptionsDataset

from ..helpers.fuzz import FAST, damaged, reads


def write(folder, captions, images=('a.jpg', 'b.jpg'), **content):
    for name in images:
        (folder / name).touch()
    found = dict(
        images=[dict(id=10 + i, file_name=name) for i, name in enumerate(images)],
        annotations=[dict(id=i, image_id=m, caption=c) for i, (m, c) in enumerate(captions)],
    )
    (folder / 'captions.json').write_text(json.dumps({**found, **content}))


def load(folder):
    prefix = dict(img_path='')
    return CocoCaptionsDataset('captions.json', data_root=str(folder), data_prefix=prefix)


def test_images_with_all_of_their_captions(tmp_path):
    write(tmp_path, [(11, 'A cup.'), (10, ' A dog.\n'), (11, 'A red cup.')])
    first, second = load(tmp_path)
    assert first['texts'] == ['A dog.'] and second['texts'] == ['A cup.', 'A red cup.']
    assert (first['image_id'], first['task']) == (10, 'retrieval')
    assert first['img_path'] == str(tmp_path / 'a.jpg')


@pytest.mark.parametrize(
    ('captions', 'message'),
    [
        ([(10, 'A dog.'), (11, ' ')], 'caption 1 is empty'),
        ([(10, 'A dog.'), (12, 'A cup.')], 'caption 1 is of an unknown image, 12'),
        ([(10, 'A dog.')], 'image 11 has no caption'),
    ],
)
def test_bad_captions(tmp_path, captions, message):
    write(tmp_path, captions)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='captions.json does not exist'):
        load(tmp_path)
    write(tmp_path, [(10, 'A dog.'), (11, 'A cup.')])
    (tmp_path / 'b.jpg').unlink()
    with pytest.raises(FileNotFoundError, match='image 11: .*b.jpg does not exist'):
        load(tmp_path)
    (tmp_path / 'captions.json').write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"it has no \['annotations'\]"):
        load(tmp_path)


@pytest.mark.parametrize(
    'content, message',
    [
        (dict(images=[], annotations=[]), 'captions.json has no images'),
        (dict(images=[dict(id=10)]), r'captions.json, images.0. must be an object with'),
        (dict(images=[dict(id=10, file_name='a.jpg')] * 2), 'image 10 is listed twice'),
        (dict(images=[dict(id=10, file_name='../a.jpg')]), 'image 10: a path must stay below'),
        (dict(annotations=[dict(id=0, image_id=10, caption=3)]), r'annotations.0. must be'),
        (dict(annotations='none'), r'it has no .*annotations'),
    ],
)
def test_bad_content(tmp_path, content, message):
    write(tmp_path, [(10, 'A dog.')], images=['a.jpg'])
    path = tmp_path / 'captions.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@given(
    damaged(
        dict(
            images=[dict(id=1, file_name='a.jpg'), dict(id=2, file_name='b.jpg')],
            annotations=[dict(id=i, image_id=i, caption='A dog.') for i in (1, 2)],
        )
    )
)
@FAST
def test_damaged_files(tmp_path, data):
    write(tmp_path, [])
    (tmp_path / 'captions.json').write_bytes(data)
    found = reads(lambda: load(tmp_path), 'captions.json')
    if found is not None:
        assert len(found) and all(text.strip() for item in found for text in item['texts'])


def test_real_data(data_dir):
    folder = data_dir / 'coco_mini'
    if not folder.is_dir():
        pytest.skip('no coco_mini in the data folder')
    data = CocoCaptionsDataset(
        'annotations/captions_val2017.json',
        data_root=str(folder),
        data_prefix=dict(img_path='val2017'),
    )
    assert len(data) > 50
    assert min(len(data.get_data_info(i)['texts']) for i in range(len(data))) >= 5
