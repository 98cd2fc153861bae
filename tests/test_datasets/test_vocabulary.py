import json

import pytest

from hyper_mm.datasets.vocabulary import Vocabulary, builtin_names, template_sets

SIZES = {
    'ade-panoptic150': 150,
    'ade150': 150,
    'ade847': 847,
    'coco-stuff171': 171,
    'coco-panoptic133': 133,
    'coco133': 133,
    'ov-coco48': 48,
    'ov-coco65': 65,
    'pc459': 459,
    'pc59': 59,
    'voc20': 20,
    'voc20b': 59,
}


def test_builtin():
    assert {name: len(Vocabulary.load(name)) for name in builtin_names()} == SIZES
    assert Vocabulary.load('voc20b').names[:20] == Vocabulary.load('voc20').names


@pytest.mark.parametrize('name', SIZES)
def test_display_names_and_colors_tell_classes_apart(name):
    vocabulary = Vocabulary.load(name)
    assert len(set(vocabulary.names)) == len(vocabulary.palette) == len(vocabulary)
    colors = [tuple(c) for c in vocabulary.palette]
    assert all(a != b for a, b in zip(colors, colors[1:]))
    assert all(0 <= value <= 255 for color in colors for value in color)


def test_stock_data_sets_have_the_same_names():
    pytest.importorskip('mmseg')
    from mmseg.datasets import ADE20KDataset, COCOStuffDataset

    for name, dataset in (('ade150', ADE20KDataset), ('coco-stuff171', COCOStuffDataset)):
        assert Vocabulary.load(name).names == tuple(c.strip() for c in dataset.METAINFO['classes'])


def test_prompts():
    names = ['cat, kitten', 'sky']
    first = Vocabulary(names, templates=['a {}.', 'the {}'])
    assert first.prompts() == [[['a cat.', 'the cat']], [['a sky.', 'the sky']]]
    mean = Vocabulary(names, templates='cat-seg', synonyms='mean')
    assert mean.prompts()[0] == [
        ['A photo of a cat in the scene'],
        ['A photo of a kitten in the scene'],
    ]
    assert len(Vocabulary(names, templates='imagenet').templates) == 80


def test_without():
    vocabulary = Vocabulary(['cat, kitten', 'sky', 'car'], without=['cat'])
    assert vocabulary.names == ('sky', 'car')
    assert len(vocabulary.prompts()) == 2
    assert len(Vocabulary('coco133', without=['person', 'sky'])) == 131


def test_classes_that_begin_alike_are_shown_whole():
    assert Vocabulary(['bag, purse', 'bag', 'sky, air']).names == ('bag, purse', 'bag', 'sky')


def test_files(tmp_path):
    text, data = tmp_path / 'classes.txt', tmp_path / 'classes.json'
    text.write_text('wall\nred chair, seat\n\n')
    data.write_text(json.dumps(['wall', 'red chair, seat']))
    for source in (str(text), data, dict(names=str(data), synonyms='mean')):
        assert Vocabulary.load(source).names == ('wall', 'red chair')
    assert Vocabulary.from_file(text, templates='plain').templates == ('a photo of a {}.',)
    assert Vocabulary.load(Vocabulary(['a'])).names == ('a',)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        (dict(names=[]), ValueError, 'at least one class'),
        (dict(names=['cat', 'dog', 'cat']), ValueError, r"once, got \[\('cat',\)\]"),
        (dict(names=['cat', ' ']), ValueError, "empty, got ' '"),
        (dict(names=['cat,, dog']), ValueError, "empty, got 'cat,, dog'"),
        (dict(names=['cat', 3]), TypeError, 'strings, got 3'),
        (dict(names='nothing.txt'), ValueError, "ade847.*got 'nothing.txt'"),
        (dict(names=['cat'], templates='none'), ValueError, "cat-seg.*got 'none'"),
        (dict(names=['cat'], templates=['a cat']), ValueError, "one {} .*got 'a cat'"),
        (dict(names=['cat'], templates=['{} {}']), ValueError, 'one {}'),
        (dict(names=['cat'], templates=['{0} {}']), ValueError, 'one {}'),
        (dict(names=['cat'], templates=[]), ValueError, 'must not be empty'),
        (dict(names=['cat'], templates=[3]), TypeError, 'strings, got 3'),
        (dict(names=['cat'], synonyms='min'), ValueError, "got 'min'"),
        (dict(names=['cat', 'dog'], without=['cow']), ValueError, r"2 classes, got \['cow'\]"),
        (dict(names=['cat'], without=['cat']), ValueError, 'some of the 1 classes'),
    ],
)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message):
        Vocabulary(**arguments)


def test_bad_sources(tmp_path):
    with pytest.raises(TypeError, match='got 3'):
        Vocabulary.load(3)
    path = tmp_path / 'classes.json'
    path.write_text('{}')
    with pytest.raises(ValueError, match='list of names, got dict'):
        Vocabulary.load(path)
    assert all('{}' in t for templates in template_sets().values() for t in templates)


def test_underscores_read_as_spaces():
    vocabulary = Vocabulary(['polar_bear', 'sky'], templates=['a {}.'])
    assert vocabulary.names == ('polar_bear', 'sky')
    assert vocabulary.prompts()[0] == [['a polar bear.']]


def test_names_of_a_data_set_are_taken_whole():
    names = ['sedan, white', 'sedan, black', 'missile', 'missile']
    vocabulary = Vocabulary.of_dataset(names, templates=['a {}.'])
    assert vocabulary.names == tuple(names)
    assert vocabulary.prompts()[:2] == [[['a sedan, white.']], [['a sedan, black.']]]
    assert vocabulary.ambiguous() == [('missile', 'missile')]
    with pytest.raises(TypeError, match='list of names'):
        Vocabulary.of_dataset('cat')


def test_classes_that_cannot_be_told_apart():
    assert Vocabulary(['sedan, white', 'sedan, black', 'van']).ambiguous() == [
        ('sedan, white', 'sedan, black')
    ]
    assert not Vocabulary(['sedan, white', 'sedan, black'], synonyms='mean').ambiguous()
    assert Vocabulary(['a, b', 'b, a'], synonyms='mean').ambiguous() == [('a, b', 'b, a')]


def test_equal_vocabularies_are_one_key():
    one, other = Vocabulary(['cat', 'sky']), Vocabulary(['cat', 'sky'])
    assert one == other and len({one, other}) == 1 and one != ['cat', 'sky']
    for changed in (Vocabulary(['sky', 'cat']), one.with_templates('plain'), Vocabulary(['cat'])):
        assert changed != one
    assert one.with_templates(['a {}.']).prompts()[1] == [['a sky.']]
    assert one.templates == other.templates


@pytest.mark.parametrize(
    'vocabulary',
    [
        Vocabulary(['cat, kitten', 'sky'], templates='plain', synonyms='mean'),
        Vocabulary('ade847', without=['wall']),
        Vocabulary.of_dataset(['a, b', 'a, b', 'c']),
    ],
)
def test_options_make_it_again(vocabulary):
    again = Vocabulary(**json.loads(json.dumps(vocabulary.options())))
    assert again == vocabulary and again.names == vocabulary.names


class TestOtherNames:
    vocabulary = Vocabulary(['sky, heaven', 'dining table', 'car', 'bag, purse', 'bag'])

    def test_same_names(self):
        for names in (
            self.vocabulary.names,
            ['Sky', 'dining_table', 'car', 'purse', 'bag'],
            ['sky, heaven', 'dining  table', 'car', 'bag, purse', 'bag'],
        ):
            assert not self.vocabulary.differences(names)
            assert self.vocabulary.reordered(names) == self.vocabulary

    def test_other_order(self):
        names = ['car', 'bag', 'heaven', 'purse', 'dining table']
        mapped = self.vocabulary.reordered(names)
        assert mapped.names == ('car', 'bag', 'sky', 'bag, purse', 'dining table')
        assert mapped.entries[2] == ('sky', 'heaven')
        lines = self.vocabulary.differences(names)
        assert lines[0] == "0: 'sky' of the vocabulary, 'car'" and len(lines) == 4

    def test_other_names(self):
        names = ['sky', 'table', 'car']
        assert self.vocabulary.match(names) == [0, None, 2]
        assert self.vocabulary.reordered(names) is None
        assert self.vocabulary.differences(names) == [
            "1: 'dining table' of the vocabulary, 'table'",
            "3: 'bag, purse' of the vocabulary, nothing",
            "4: 'bag' of the vocabulary, nothing",
        ]

    def test_names_twice(self):
        twice = Vocabulary.of_dataset(['cat', 'sea', 'cat'])
        assert not twice.differences(['cat', 'sea', 'cat'])
        assert twice.differences(['sea', 'cat', 'cat'])


def test_classes_that_share_a_name():
    base = Vocabulary(['cat, kitten', 'dog'])
    other = Vocabulary(['Kitten', 'wolf, hot_dog', 'hound, dog', 'cow'])
    assert other.shared_with(base) == [True, False, True, False]
    assert Vocabulary.load('ov-coco65').shared_with(Vocabulary.load('ov-coco48')).count(True) == 48


def test_panoptic_vocabularies_are_in_the_order_of_the_data_sets():
    pytest.importorskip('mmdet')
    from mmdet.datasets import ADE20KPanopticDataset, CocoPanopticDataset

    for name, dataset in (
        ('coco-panoptic133', CocoPanopticDataset),
        ('ade-panoptic150', ADE20KPanopticDataset),
    ):
        classes = dataset.METAINFO['classes']
        assert Vocabulary.load(name).match(classes) == list(range(len(classes)))
