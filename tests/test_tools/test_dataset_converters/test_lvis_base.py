"""LVIS without its rare classes, from the annotation file to the metric."""

import json

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from mmengine.registry import DefaultScope, init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from tests.helpers.lvis import DRAWN, NAMES, categories, install_lvis, write_lvis  # noqa: E402
from tests.helpers.small_configs import small  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

TOOL = load_tool('dataset_converters/lvis_base.py')
BASE = [k for k in range(len(NAMES)) if k % 3 < 2]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The annotations of a drawn set, converted."""
    folder = write_lvis(tmp_path_factory.mktemp('data'))
    TOOL.main([str(folder / 'lvis_v1_train.json')])
    return folder


def names(folder, kind=''):
    return (folder / f'lvis_v1{kind}_names.txt').read_text(encoding='utf-8').splitlines()


def test_rare_classes_are_dropped_and_images_stay(folder):
    before, after = (
        json.loads((folder / f'lvis_v1_train{kind}.json').read_text()) for kind in ('', '_norare')
    )
    assert [c['name'] for c in after['categories']] == [NAMES[k] for k in BASE]
    assert [i['id'] for i in after['images']] == [i['id'] for i in before['images']]
    kept = [a for a in before['annotations'] if a['category_id'] != 3]
    assert after['annotations'] == kept and 0 < len(kept) < len(before['annotations'])
    known = {c['id'] for c in after['categories']}
    for image, old in zip(after['images'], before['images']):
        for key in ('neg_category_ids', 'not_exhaustive_category_ids'):
            assert image.pop(key) == [i for i in old.pop(key) if i in known]
        assert image == old


def test_names_are_words_in_the_order_of_the_labels(folder):
    lines = names(folder)
    assert names(folder, '_base') == [lines[k] for k in BASE]
    assert lines[0] == 'aerosol can'  # another class is called spray can, too
    assert lines[5] == 'alligator, gator'
    assert lines[16] == 'arctic (type of shoe), galosh, rubber (type of shoe), over shoe'
    vocabulary = Vocabulary.load(str(folder / 'lvis_v1_names.txt'))
    assert vocabulary.differences(NAMES) == []  # mmdet's names mean the same classes
    assert not vocabulary.ambiguous()
    assert not any('_' in line for line in lines)


def test_names_tell_what_is_novel(folder):
    full, base = (
        Vocabulary.from_file(folder / f'lvis_v1{kind}_names.txt') for kind in ('', '_base')
    )
    assert full.shared_with(base) == [c['frequency'] != 'r' for c in categories()]
    assert full.match(base.names) == BASE


def test_names_alone_of_the_validation_set(folder, tmp_path):
    out = tmp_path / 'new'
    TOOL.main([str(folder / 'lvis_v1_val.json'), '--out-dir', str(out), '--names-only'])
    assert sorted(p.name for p in out.iterdir()) == ['lvis_v1_base_names.txt', 'lvis_v1_names.txt']
    assert names(out) == names(folder)


def test_a_name_that_is_shared_is_refused():
    with pytest.raises(ValueError, match=r"share a name.*\['b, a'\]"):
        TOOL.check_split(['a', 'b, a'], [True, False])


def set_at(*path, value):
    def change(data):
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda data: data.pop('categories'), 'categories[0] must be an object'),
        (lambda data: data['categories'].pop(), 'must be the 1203 of LVIS v1, got 1202'),
        (lambda data: data['categories'].reverse(), "categories[0] must be 'aerosol_can'"),
        (set_at('categories', 7, 'frequency', value='x'), "must be one of ['f', 'c', 'r']"),
        (set_at('categories', 7, 'frequency', value=None), 'categories[7] must be an object'),
        (set_at('categories', 7, 'synonyms', value=[3]), 'synonyms must be texts, got 3'),
        (set_at('categories', 7, 'id', value=7), 'ids that differ, got 7'),
        (lambda data: [c.update(frequency='f') for c in data['categories']], 'of one kind'),
        (lambda data: data.pop('images'), 'images[0] must be an object'),
        (set_at('annotations', value={}), 'annotations[0] must be an object'),
        (set_at('annotations', 2, 'category_id', value=5000), 'annotations[2], category_id'),
        (set_at('annotations', 2, 'image_id', value=5000), 'annotations[2], image_id'),
    ],
)
def test_bad_files(folder, tmp_path, capsys, change, message):
    data = json.loads((folder / 'lvis_v1_train.json').read_text())
    change(data)
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps(data))
    assert_refused(path, message, capsys)
    assert [p.name for p in tmp_path.iterdir()] == ['bad.json']


@pytest.mark.parametrize('text, message', [('[]', 'an object, got list'), ('{', 'no JSON')])
def test_files_of_another_kind(tmp_path, capsys, text, message):
    path = tmp_path / 'bad.json'
    assert_refused(path, 'does not exist', capsys)
    path.write_text(text)
    assert_refused(path, message, capsys)


def assert_refused(path, message, capsys):
    with pytest.raises(SystemExit):
        TOOL.main([str(path)])
    assert message in ' '.join(capsys.readouterr().err.split())


@pytest.fixture(scope='module')
def run(folder):
    """A run of the config on the drawn set, with a small model."""
    with pytest.MonkeyPatch.context() as patch, DefaultScope.overwrite_default_scope('mmdet'):
        install_lvis(patch)
        patch.setenv('HYPER_MM_DATA', str(folder.parents[1]))
        init_default_scope('mmdet')
        cfg = small('hyperclip/hyperclip_vit-b16_ov-lvis.py')
        cfg.work_dir, cfg.log_level = str(folder / 'work'), 'ERROR'
        cfg.train_cfg.max_epochs = 1
        cfg.randomness = dict(seed=0)
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
        runner = Runner.from_cfg(cfg)
        runner.train()
        yield runner


def test_labels_of_training_are_the_base_names(run):
    dataset = run.train_dataloader.dataset.dataset
    vocabulary = run.model.train_vocabulary
    assert len(vocabulary) == len(dataset.cat_ids) == len(BASE)
    assert run.model.roi_head.bbox_head.num_classes == len(BASE)
    assert [dataset.cat_ids[k] for k in range(len(BASE))] == [place + 1 for place in BASE]
    assert vocabulary.differences(dataset.metainfo['classes']) == []
    found = [{i['bbox_label'] for i in dataset.get_data_info(k)['instances']} for k in range(3)]
    assert found == [{0, BASE.index(4)}] * 3 and len(dataset) == 3  # DRAWN, but for the rare one
    tested = run.val_dataloader.dataset
    assert {i['bbox_label'] for i in tested.get_data_info(0)['instances']} == {*DRAWN}
    assert len(tested) == 5


def test_run_trains_and_scores_by_frequency(run):
    scalars = run.message_hub.log_scalars
    assert torch.tensor(scalars['train/loss'].data[0]).isfinite().all()
    for kind in ('bbox', 'segm'):
        for group in ('', '50', 'r', 'c', 'f'):
            assert 0 <= scalars[f'val/lvis/{kind}_AP{group}'].current() <= 1
    assert run.model.vocabulary.names[16] == 'arctic (type of shoe)'


def test_exponents_follow_the_frequencies(run):
    run.model.eval()
    rare = torch.tensor([c['frequency'] == 'r' for c in categories()])
    ensemble = run.model.roi_head.ensemble
    expected = torch.where(rare, ensemble.novel, ensemble.base)
    torch.testing.assert_close(ensemble.exponents(run.model.seen()), expected)
