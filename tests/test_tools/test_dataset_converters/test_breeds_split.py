"""The split file of BREEDS' superclasses, read by the data set of few shots."""

from __future__ import annotations

import mmcv
import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from hyper_mm.datasets.few_shot import CoOpFewShotDataset  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


def test_split(tmp_path):
    hierarchy = tmp_path / 'hierarchy' / 'modified'
    hierarchy.mkdir(parents=True)
    (hierarchy / 'class_hierarchy.txt').write_text('r a\nr b\na n1\na n2\nb n3\n')
    (hierarchy / 'node_names.txt').write_text('a\tanimal, beast\nb\tthing\n')
    for name, count in dict(n1=6, n2=4, n3=10).items():
        for i in range(count):
            path = tmp_path / 'images' / name / f'{i}.png'
            mmcv.imwrite(np.zeros((4, 4, 3), np.uint8), str(path))
    tool = load_tool('dataset_converters/breeds_split.py')
    out = tmp_path / 'split.json'
    found = tool.convert(tmp_path, out, depth=1, min_images=4)
    assert found == dict(train=10, val=4, test=6, classes=('animal', 'thing'))
    sets = [
        CoOpFewShotDataset(
            'folders', str(tmp_path), split, shots=4, split_json=str(out), pipeline=[]
        )
        for split in ('train', 'test')
    ]
    assert [len(images) for images in sets] == [8, 6]
    train, test = ({x['img_path'] for x in images} for images in sets)
    assert not train & test and all('/n3/' in p or '/n1/' in p or '/n2/' in p for p in train)
    assert sets[0].metainfo['classes'] == ('animal', 'thing')
    with pytest.raises(ValueError, match='min_images'):
        tool.convert(tmp_path, out, depth=1, min_images=50)
