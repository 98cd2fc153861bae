import copy
import pickle

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from hyper_mm.datasets.vocabulary import Vocabulary  # noqa: E402
from tests.helpers.open_vocab_det import BASE, NAMES, build, det_batch, detector, run  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def predicted(model, data=None):
    with torch.no_grad():
        samples = run(model, data or det_batch(), 'predict')
    return [sample.pred_instances for sample in samples]


def test_classes_are_told_apart_by_their_names():
    model = build(detector())
    assert model.eval().seen().tolist() == [True, True, False]
    model.vocabulary = ['cross', 'DISK', 'a square, square']
    assert model.seen().tolist() == [False, True, True]
    assert model.train().seen().tolist() == [True, True]
    model.vocabulary = ['cross', 'star']  # none of the base classes
    assert model.eval().seen().tolist() == [False, False]
    found = predicted(model)[0]
    assert found.labels.max() <= 1 and found.scores.isfinite().all()


def test_vocabulary_by_file_list_and_name(tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('cross\nstar\n')
    model = build(detector(vocabulary=str(file)))
    assert model.dataset_meta['classes'] == ('cross', 'star')
    model.vocabulary = 'voc20'
    assert len(model.dataset_meta['palette']) == 20
    with pytest.raises(ValueError, match='once'):
        model.vocabulary = ['cross', 'cross']
    with pytest.raises(ValueError, match='one class'):
        model.vocabulary = 'no such file'
    assert model.dataset_meta['classes'][0] == 'aeroplane'


def test_equal_prompts_and_synonyms():
    model = build(detector(vocabulary=dict(names=['cross, plus', 'star'], synonyms='max')))
    assert model.dataset_meta['classes'] == ('cross', 'star')
    both = predicted(model)[0]
    assert set(both.labels.tolist()) <= {0, 1}


def test_palette_of_a_data_set_of_the_same_classes_alone():
    model = build(detector())
    palette = [(1, 2, 3)] * 3
    model.dataset_meta = dict(classes=BASE, palette=palette[:2])
    assert model.dataset_meta['palette'] != palette
    model.dataset_meta = dict(classes=NAMES, palette=palette)
    assert model.dataset_meta == dict(classes=tuple(NAMES), palette=palette)
    model.dataset_meta = dict(classes=NAMES, palette='random')
    assert len(model.dataset_meta['palette']) == 3


def test_features_of_regions_are_pooled_once_an_image(monkeypatch):
    model, calls = build(detector()).eval(), []
    pool = model.backbone.tower.boxes

    def counted(last, boxes):
        calls.append(len(boxes))
        return pool(last, boxes)

    monkeypatch.setattr(model.backbone.tower, 'boxes', counted)
    predicted(model)
    assert len(calls) == 2


def test_copies_have_a_tower_of_their_own():
    model = build(detector())
    other = copy.deepcopy(model)
    assert other.backbone.tower.visual is other.backbone.clip.visual
    assert other.backbone._encoder.clip is other.backbone.clip
    again = pickle.loads(pickle.dumps(model))
    for a, b in zip(predicted(model), predicted(again)):
        torch.testing.assert_close(a.scores, b.scores)


def test_images_of_a_batch_do_not_mix():
    model = build(detector()).eval()
    batch = det_batch(((64, 96), (64, 96)))
    both = predicted(model, copy.deepcopy(batch))
    for index, expected in enumerate(both):
        alone = {key: value[index : index + 1] for key, value in batch.items()}
        found = predicted(model, copy.deepcopy(alone))[0]
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=1e-3)


def test_saved_vocabulary_is_that_of_training():
    model = build(detector())
    assert model.train_vocabulary == Vocabulary(BASE)
    assert build(detector(train_vocabulary=None)).train_vocabulary == Vocabulary(NAMES)


def test_other_backbones():
    config = detector(tower='resnet')
    config.backbone = dict(type='mmdet.ResNet', depth=18)
    with pytest.raises(TypeError, match='CLIPBackbone'):
        build(config)
