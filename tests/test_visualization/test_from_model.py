"""What is read of the hierarchy that a model finds in its input."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')

from hyper_mm.layers import HierarchyMapper  # noqa: E402
from hyper_mm.visualization import collapse_indicators, read_hierarchies  # noqa: E402
from hyper_mm.visualization.from_model import feature_size, find_mapper  # noqa: E402
from tests.helpers import runs  # noqa: E402
from tests.helpers.runs import SIZE  # noqa: E402


def test_indicators_of_a_collapsed_and_of_a_good_hierarchy():
    good = [np.eye(4), np.kron(np.eye(2), np.ones((1, 2)))]
    found = collapse_indicators([good, good], torch.eye(4).repeat(2, 1, 1))
    assert found['distinct_1'] == pytest.approx(1) and found['nested_1'] == 1
    assert found['visible_1'] == found['visible_2'] == 1
    assert found['leaf_cosine'] == pytest.approx(0, abs=1e-6)
    assert found['image_cosine'] == pytest.approx(1)
    flat = [np.full((4, 4), 0.25), np.full((2, 4), 0.25)]
    found = collapse_indicators([flat], torch.ones(1, 4, 3))
    assert found['distinct_1'] == pytest.approx(0, abs=1e-9)
    assert found['leaf_cosine'] == pytest.approx(1) and 'image_cosine' not in found


def test_modes_and_generators_stay():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mapper = HierarchyMapper(
                8, num_leaves=4, num_levels=2, width=8, num_heads=2, test_mode='sample'
            )
            self.frozen = torch.nn.BatchNorm2d(8)

        def data_preprocessor(self, data, training):
            return dict(inputs=torch.stack(data['inputs']).float())

        def extract_feat(self, inputs):
            x = torch.nn.functional.avg_pool2d(inputs, 4).repeat(1, 3, 1, 1)[:, :8]
            x = self.frozen(x).flatten(2).mT
            self.mapper(x, x.mean(1, keepdim=True))

    model = Model().train()
    model.frozen.eval()
    data = dict(
        inputs=[torch.randint(256, (3, 16, 24), dtype=torch.uint8) for _ in range(2)],
        data_samples=[None, None],
    )
    before, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    drawings, _ = read_hierarchies(model, data)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.mapper.training and not model.frozen.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert len(drawings) == 2 and drawings[0]['feature_size'] == (4, 6)


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    folder = tmp_path_factory.mktemp('model')
    cfg = Config.fromfile(runs.write_config(folder, folder))
    init_default_scope('mmseg')
    return MODELS.build(cfg.model)


def segmentation_batch(*images, **meta):
    from mmseg.structures import SegDataSample

    sizes = [dict(img_shape=x.shape[1:], ori_shape=(50, 70), **meta) for x in images]
    return dict(inputs=list(images), data_samples=[SegDataSample(metainfo=m) for m in sizes])


def random_image(height, width):
    return torch.randint(256, (3, height, width), dtype=torch.uint8)


@pytest.mark.mmseg
def test_crops_of_different_sizes(segmentor):
    drawings, scalars = read_hierarchies(
        segmentor, segmentation_batch(random_image(SIZE, SIZE), random_image(48, SIZE))
    )
    assert [d['feature_size'] for d in drawings] == [(4, 4), (3, 4)]
    assert [d['segmentation'].shape for d in drawings] == [(SIZE, SIZE), (48, SIZE)]
    assert 'image_cosine' in scalars


@pytest.mark.mmseg
def test_image_is_seen_as_a_whole(segmentor, monkeypatch):
    from mmengine.config import ConfigDict

    slide = ConfigDict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    monkeypatch.setattr(segmentor, 'test_cfg', slide)
    drawings, _ = read_hierarchies(segmentor, segmentation_batch(random_image(SIZE, SIZE)))
    assert drawings[0]['feature_size'] == (4, 4)


@pytest.mark.mmseg
def test_prediction_lies_as_the_image_does(segmentor):
    image = random_image(SIZE, SIZE)
    plain, _ = read_hierarchies(segmentor, segmentation_batch(image))
    flipped = dict(flip=True, flip_direction='horizontal')
    marked, _ = read_hierarchies(segmentor, segmentation_batch(image, **flipped))
    labels = plain[0]['segmentation']
    assert (labels != labels[:, ::-1]).any()
    np.testing.assert_array_equal(marked[0]['segmentation'], labels)


@pytest.mark.mmseg
def test_hierarchy_that_features_do_not_use_is_refused(segmentor, monkeypatch):
    unused = HierarchyMapper(8, num_leaves=4, num_levels=2)
    # not setattr, after which a module would not come back
    monkeypatch.setitem(segmentor._modules, 'neck', torch.nn.Identity())
    monkeypatch.setitem(segmentor._modules, 'unused', unused)
    monkeypatch.setattr(segmentor, 'extract_feat', lambda x: [x[:, :1].repeat(1, 32, 1, 1)] * 2)
    with pytest.raises(ValueError, match='extract_feat of EncoderDecoder does not use'):
        read_hierarchies(segmentor, segmentation_batch(random_image(SIZE, SIZE)))


@pytest.mark.mmdet
def test_mixed_images_without_a_scale(tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from tests.test_tools.test_visualize_hierarchy import DETECTOR

    (tmp_path / 'detector.py').write_text(DETECTOR)
    cfg = Config.fromfile(tmp_path / 'detector.py')
    init_default_scope('mmdet')
    sample = DetDataSample(metainfo=dict(img_shape=(96, 128), ori_shape=(96, 128)))
    data = dict(inputs=[random_image(96, 128)], data_samples=[sample])
    drawings, _ = read_hierarchies(MODELS.build(cfg.model), data)
    assert drawings[0]['feature_size'] == (3, 4)


@pytest.mark.parametrize(
    ('positions', 'image', 'expected'),
    [(144, (96, 96), (12, 12)), (24, (64, 96), (4, 6)), (7, (10, 70), (1, 7)), (1, (5, 5), (1, 1))],
)
def test_feature_size(positions, image, expected):
    assert feature_size(positions, *image) == expected


def test_model_without_mapper_is_refused():
    with pytest.raises(ValueError, match='one HierarchyMapper to draw, it has 0'):
        find_mapper(torch.nn.Linear(2, 2))
