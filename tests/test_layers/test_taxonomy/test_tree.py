"""Trees of labels."""

from __future__ import annotations

import json

import pytest
import torch

from hyper_mm.layers.taxonomy import Taxonomy

TREE = {'animal': {'bird': ['owl', 'hen'], 'fish': ['cod']}, 'thing': ['cup'], 'sky': []}
PATHS = {
    'owl': ('bird', 'animal'),
    'hen': ('bird', 'animal'),
    'cod': ('fish', 'animal'),
    'cup': ('thing',),
    'sky': (),
}


def test_nodes_are_numbered_from_the_leaves_up():
    tree = Taxonomy(PATHS)
    assert tree.names == ('owl', 'hen', 'cod', 'cup', 'sky', 'bird', 'fish', 'thing', 'animal')
    assert tree.parents == (5, 5, 6, 7, -1, 8, 8, -1, -1)
    assert (tree.num_classes, tree.num_nodes, tree.height) == (5, 9, 3)
    assert [tree.names[n] for n in tree.path(1)] == ['hen', 'bird', 'animal']


def test_levels_distances_and_heights():
    tree = Taxonomy(PATHS)
    groups, names = tree.at_depth(1)
    assert names == ('sky', 'thing', 'animal')
    assert groups.tolist() == [2, 2, 2, 1, 0]
    assert tree.at_depth(2)[1] == ('cup', 'sky', 'bird', 'fish')
    assert tree.at_depth(3)[1] == tree.classes
    assert list(tree.depths()) == [1, 2]
    assert tree.distances()[0].tolist() == [0, 2, 4, 5, 4]
    assert tree.common_heights()[0].tolist() == [0, 1, 2, 3, 3]
    assert torch.equal(tree.common_heights(), tree.common_heights().T)
    inside = tree.membership()
    assert inside[tree.names.index('animal')].tolist() == [True, True, True, False, False]
    with pytest.raises(ValueError, match='depth must be at least 1'):
        tree.at_depth(0)


@pytest.mark.parametrize(
    'found',
    [
        TREE,
        dict(parents={'owl': 'bird', 'hen': 'bird', 'cod': 'fish', 'cup': 'thing', 'sky': None,
                      'bird': 'animal', 'fish': 'animal'}),
    ],
)  # fmt: skip
def test_json_files(found, tmp_path):
    path = tmp_path / 'tree.json'
    path.write_text(json.dumps(found))
    for tree in (Taxonomy.load(path), Taxonomy.load(found)):
        assert tree.names == Taxonomy(PATHS).names
        assert tree.parents == Taxonomy(PATHS).parents


def test_csv_files(tmp_path):
    path = tmp_path / 'tree.csv'
    path.write_text('owl,bird,animal\nhen, bird ,animal\n\ncod,fish,animal\ncup,thing\nsky\n')
    assert Taxonomy.load(path).parents == Taxonomy(PATHS).parents


def test_coco_categories():
    categories = [
        dict(name='person', supercategory='person'),
        dict(name='car', supercategory='vehicle'),
        dict(name='bus', supercategory='vehicle'),
    ]
    tree = Taxonomy.load(dict(categories=categories))
    assert tree.names == ('person', 'car', 'bus', 'vehicle')
    assert tree.parents == (-1, 3, 3, -1)


def test_classes_give_the_order_and_are_checked():
    order = ['sky', 'cup', 'cod', 'hen', 'owl']
    assert Taxonomy.load(TREE, order).classes == tuple(order)
    with pytest.raises(ValueError, match="no class 'cods', did you mean 'cod'"):
        Taxonomy.load(TREE, ['sky', 'cup', 'cods', 'hen', 'owl'])
    with pytest.raises(ValueError, match=r"classes that the data set has not: \['owl'\]"):
        Taxonomy.load(TREE, order[:4])
    with pytest.raises(ValueError, match="differ from each other, got 'sky' twice"):
        Taxonomy.load(TREE, ['sky', *order])
    with pytest.raises(TypeError, match="classes must be a sequence of names, got 'owl'"):
        Taxonomy.load(TREE, 'owl')
    tree = Taxonomy.load(TREE)
    tree.check_classes(tree.classes)
    with pytest.raises(ValueError, match="another order .* number 0 is 'owl' there and 'sky'"):
        tree.check_classes(order)


@pytest.mark.parametrize(
    ('found', 'words'),
    [
        ({'a': []}, 'two classes or more'),
        ({'a': ['x'], 'b': ['x']}, "'x' is there twice"),
        ({'a': {'x': ['y']}, 'b': {'x': ['z']}}, "'x' has two parents, 'a' and 'b'"),
        ({'a': {'a': ['y']}, 'b': []}, 'is below itself'),
        ({'x': [], 'b': {'x': ['y']}}, "'x' is a class and above 'y'"),
        ({'a': 3, 'b': []}, "'a' must hold a dict or a list"),
        ({'a': [3], 'b': []}, 'a class must be a string'),
        ({'categories': [{'id': 1}]}, 'categories must be objects with a name'),
        (
            {'categories': [dict(name='a'), dict(name='b', supercategory='a')]},
            "'a' is a class and a super-category",
        ),
        ({'parents': {'a': 'b', 'b': 'c', 'c': 'b'}}, 'is above itself'),
        ({'parents': {'a': 1, 'b': 1}}, "parent of 'a' must be a string, got 1"),
        ({'parents': {'a': ['x'], 'b': 'x'}}, "parent of 'a' must be a string"),
        ({'categories': [dict(name='a'), dict(name=2)]}, 'categories must be objects with a name'),
        ({'categories': [dict(name='a', supercategory=1)]}, "supercategory of 'a' must be a str"),
        ({'': [], 'b': []}, "names must be strings, not empty, got ''"),
        ({' ': ['a'], 'b': []}, "names must be strings, not empty, got ' '"),
        ({1: ['a'], 'b': []}, 'names must be strings, not empty, got 1'),
    ],
)
def test_refuses_what_is_no_tree(found, words):
    with pytest.raises(ValueError, match=words):
        Taxonomy.load(found)


def test_files_of_other_editors(tmp_path):
    """A byte order mark, lines of Windows, a suffix in capitals."""
    lines = '\r\n'.join(','.join([leaf, *above]) for leaf, above in PATHS.items())
    (tmp_path / 'tree.CSV').write_bytes(lines.encode('utf-8-sig'))
    (tmp_path / 'tree.Json').write_bytes(json.dumps(TREE).encode('utf-8-sig'))
    for name in ('tree.CSV', 'tree.Json'):
        assert Taxonomy.load(tmp_path / name).names == Taxonomy(PATHS).names


@pytest.mark.parametrize('source', [None, 3, ['owl', 'hen']])
def test_refuses_what_is_no_file(source):
    with pytest.raises(TypeError, match='a taxonomy must be a file, an object or the name'):
        Taxonomy.load(source)


def test_refuses_what_is_nested_too_deeply(tmp_path):
    path = tmp_path / 'deep.json'
    path.write_text('{"a": ' * 2000 + '["b", "c"]' + '}' * 2000)
    with pytest.raises(ValueError, match=r'deep\.json is nested too deeply'):
        Taxonomy.load(path)
    found: dict = {'b': [], 'c': []}
    for _ in range(2000):
        found = {'a': found}
    with pytest.raises(ValueError, match='taxonomy is nested too deeply'):
        Taxonomy.load(found)


def test_refuses_files_of_other_kinds(tmp_path):
    with pytest.raises(FileNotFoundError, match='no taxonomy at'):
        Taxonomy.load(tmp_path / 'none.json')
    with pytest.raises(FileNotFoundError, match="did you mean 'camvid'"):
        Taxonomy.load('camvit')
    for name, text, words in (
        ('t.txt', '', r'must be a \.json or \.csv file'),
        ('t.json', '{', 'is no json'),
        ('l.json', '[]', 'must hold an object'),
        ('d.csv', 'a,b\na,c\n', "line 2: 'a' is there twice"),
        ('s.csv', 'owl;bird\nhen;bird\n', "must have commas between names, got ';'"),
        ('t.csv', 'owl\tbird\nhen\tbird\n', r"must have commas between names, got '\\t'"),
        ('e.csv', 'owl,bird\n,bird\n', 'line 2 must begin with a class'),
        ('e.json', '{"": [], "b": []}', 'names must be strings, not empty'),
        ('l.csv', b'm\xf6we,bird\nhen,bird\n', r'l\.csv is no text in UTF-8'),
        ('b.json', b'\x89PNG\r\n\x1a\n', r'b\.json is no text in UTF-8'),
    ):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ValueError, match=words):
            Taxonomy.load(tmp_path / name)


@pytest.mark.parametrize(
    ('name', 'classes', 'height'),
    [
        ('camvid', 11, 3),
        ('coco133', 133, 3),
        ('part_scenes', 48, 3),
        ('part_scenes_wholes', 19, 2),
        ('tiny_imagenet', 160, 4),
    ],
)
def test_our_trees(name, classes, height):
    tree = Taxonomy.load(name)
    assert (tree.num_classes, tree.height) == (classes, height)


def test_tree_of_part_scenes_is_that_of_the_data_set():
    pytest.importorskip('cv2')
    from hyper_mm.datasets.part_scenes.taxonomy import PART_TO_WHOLE, WHOLE_TO_SUPER

    parts = Taxonomy.load('part_scenes', tuple(PART_TO_WHOLE))
    assert parts.classes == tuple(PART_TO_WHOLE)
    groups, names = parts.at_depth(1)
    supers = [WHOLE_TO_SUPER[whole] for whole in PART_TO_WHOLE.values()]
    assert [names[g] for g in groups] == supers
    groups, names = parts.at_depth(2)
    assert [names[g] for g in groups] == list(PART_TO_WHOLE.values())
    wholes = Taxonomy.load('part_scenes_wholes')
    assert wholes.classes == tuple(WHOLE_TO_SUPER)
    groups, names = wholes.at_depth(1)
    assert [names[g] for g in groups] == list(WHOLE_TO_SUPER.values())
