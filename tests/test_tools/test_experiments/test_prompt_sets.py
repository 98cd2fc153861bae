"""Sets of images of the study of prompts."""

import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmpretrain')

from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/prompt_sets.py')


def images_of(task):
    """Images of both parts, which have none in common."""
    train, test = ({x for x, _ in part} for part in (task.train, task.test))
    assert not train & test
    return train, test


def test_part_of_a_task(tool):
    train = [(f'{label} {i}', label) for label in range(4) for i in range(6)]
    task = tool.Task(['cat', 'dog', 'sea', 'bear'], train, train[::2])
    found = task.of([2, 0])
    assert found.names == ['sea', 'cat'] and len(found.train) == 12 and len(found.test) == 6
    assert {y for x, y in found.train if x[0] == '2'} == {0}


def test_the_place_of_the_data_does_not_count(tool, tmp_path):
    first, second, other = (
        tool.Task(['cat'], [(str(folder / name), 0)], []).digest(folder)
        for folder, name in ((tmp_path / 'a', 'x'), (tmp_path / 'b', 'x'), (tmp_path, 'y'))
    )
    assert first == second != other


@pytest.fixture
def imagenet(tmp_path):
    """One image of each of 13 classes: eight below one superclass, four below another."""
    edges = ['root animal', 'root thing', *(f'animal a{i}' for i in range(8))]
    edges += [f'thing b{i}' for i in range(4)]
    folder = tmp_path / 'hierarchy' / 'modified'
    folder.mkdir(parents=True)
    (folder / 'class_hierarchy.txt').write_text('\n'.join(edges))
    (folder / 'node_names.txt').write_text('animal\tanimal, beast\nthing\tthing')
    for edge in [*edges[2:], 'none c0']:
        sub = tmp_path / 'images' / edge.split()[1]
        sub.mkdir(parents=True)
        (sub / 'x.jpg').touch()
    return tmp_path


def test_shots_and_tests_of_breeds_are_of_different_classes(tool, imagenet):
    found = tool.breeds(imagenet, depth=1, shots=2, tested=2, most=3)
    assert found.names == ['animal', 'thing']
    assert [[y for _, y in part].count(0) for part in (found.train, found.test)] == [4, 3]
    assert [[y for _, y in part].count(1) for part in (found.train, found.test)] == [2, 2]
    train, test = ({x.split('/')[-2] for x in part} for part in images_of(found))
    assert not train & test and len(train | test) == 11
    assert found == tool.breeds(imagenet, depth=1, shots=2, tested=2, most=3)
    with pytest.raises(ValueError, match='superclasses'):
        tool.breeds(imagenet, depth=1, shots=2, tested=3)


def test_tiny_imagenet_and_its_superclasses(tool, imagenet):
    for split, count in (('train', 30), ('val', 2)):
        for i in range(24):
            folder = imagenet / split / (f'a{i}' if i < 8 else f'x{i}')
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f'{number}.jpg').touch()
    text = ', '.join(f'"{x.name}": "name of {x.name}"' for x in (imagenet / 'train').iterdir())
    (imagenet / 'classes.json').write_text(f'{{{text}}}')
    classes, others, ids = tool.tiny_imagenet(imagenet, 4)
    assert len(classes.names) == 4 and len(others.names) == 20
    assert classes.names == [f'name of {x}' for x in ids] and not {*ids} & {*others.names}
    assert len(classes.train) == 4 * tool.POOL and len(classes.test) == 4 * (2 + 30 - tool.POOL)
    assert len(others.test) == 20 * 7
    images_of(classes)
    known = ['a1', 'a0', 'b1', 'x9']
    found = tool.superclasses(classes, known, imagenet / 'hierarchy' / 'modified', depth=1)
    assert found.names == ['animal'] and {y for _, y in found.train} == {0}
    assert found.train == [(x, 0) for x, y in classes.train if y < 2]


def test_omniglot_is_read_from_the_archive(tool, tmp_path):
    with zipfile.ZipFile(tmp_path / 'small.zip', 'w') as file:
        for alphabet in ('Greek', 'Early_Aramaic'):
            for i in range(5):
                Image.new('1', (8, 8), i % 2).save(tmp_path / 'x.png')
                file.write(tmp_path / 'x.png', f'images/{alphabet}/character01/{i}.png')
    found = tool.omniglot(tmp_path / 'small.zip', each=2)
    assert found.names == ['Early Aramaic', 'Greek']
    assert len(found.train) == len(found.test) == 4
    for path in images_of(found)[0]:
        assert tool.read_image(path).size == (8, 8)


def test_things_of_part_scenes_are_drawn(tool):
    found = tool.part_scenes(tested=3)
    assert len(found.names) == 12 and len(found.test) == 36
    assert len(found.train) == 12 * tool.POOL
    first, second = ('house', 'val'), ('house', 'train')
    images = [
        np.asarray(tool.read_image(f'{tool.DRAWN}!{thing}/{split}/0'))
        for thing, split in (first, first, second)
    ]
    assert images[0].shape == (*tool.SIZE, 3)
    assert (images[0] == images[1]).all() and not (images[0] == images[2]).all()
    assert {x.split('!')[0] for x in images_of(found)[1]} == {tool.DRAWN}
