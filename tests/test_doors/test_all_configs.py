"""Every config through the doors of its framework; the first one of each kind by default.

The models are small, their weights random; pipelines, options and optimizers are those of the
configs.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

for library in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(library)

from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from mmengine.registry import DefaultScope, init_default_scope  # noqa: E402
from mmengine.runner import load_checkpoint  # noqa: E402

from tests.helpers.doors import HEIGHT, NAMES, WIDTH, Place, tensors  # noqa: E402
from tests.helpers.small_configs import NAMES as ALL  # noqa: E402
from tests.helpers.small_configs import dicts, representatives  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

FAST = set(representatives())


def marks(name: str) -> list:
    return [] if name in FAST else [pytest.mark.slow]


@pytest.fixture(
    scope='module', params=[pytest.param(name, marks=marks(name), id=name[:-3]) for name in ALL]
)
def place(request, tmp_path_factory):
    return Place(request.param, tmp_path_factory.mktemp('place'))


@pytest.fixture(autouse=True)
def _scope(place):
    with DefaultScope.overwrite_default_scope(place.scope):
        init_default_scope(place.scope)
        yield


@pytest.fixture
def loaded(monkeypatch):
    """Leaves out the random initialization of models whose weights are loaded afterwards."""
    for name in ('kaiming_uniform_', 'uniform_', 'normal_', 'trunc_normal_', 'xavier_uniform_'):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)


@pytest.mark.usefixtures('loaded')
def test_framework_builds_and_loads_it(place):
    """``init_model``, ``get_model``, ``init_detector`` have the weights of the checkpoint."""
    if place.scope == 'mmseg':
        from mmseg.apis import init_model

        model = init_model(place.path, place.weights, device='cpu')
    elif place.scope == 'mmdet':
        from mmdet.apis import init_detector

        model = init_detector(place.path, place.weights, palette='random', device='cpu')
    elif place.scope == 'mmpretrain':
        from mmpretrain import get_model

        model = get_model(place.path, pretrained=place.weights)
    else:
        model = place.build()
        load_checkpoint(model, place.weights, strict=True)
    state = place.model.state_dict()
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@pytest.mark.usefixtures('loaded')
def test_inference(place):
    """The framework's inferencer on an image file; where there is none, what users call."""
    image = place.files['img_path']
    if place.kind == 'HelmForCausalLM':
        ids = place.model.eval().generate(torch.randint(2, 97, (2, 5)), 3)
        assert ids.shape == (2, 8) and ids.max() < 97
    elif place.kind == 'RadialCLIP':
        samples = place.predict(place.model)
        assert all(sample.text_features.isfinite().all() for sample in samples)
        found = place.model.test_step(radial_images(place))
        assert all(abs(sample.pred_score.sum() - 1) < 1e-4 for sample in found)
    elif hasattr(getattr(place.model, 'model', None), 'tasks'):
        found = place.predict(place.model)
        assert {sample.task for sample in found} == {'seg', 'det', 'cls'}
    elif place.scope == 'mmseg':
        from mmseg.apis import MMSegInferencer

        inferencer = MMSegInferencer(place.path, place.weights, device='cpu')
        place.prepared(inferencer.model)
        label = inferencer(image, return_datasamples=True).pred_sem_seg.data
        assert label.shape == (1, HEIGHT, WIDTH)
    elif place.scope == 'mmdet':
        from mmdet.apis import DetInferencer

        inferencer = DetInferencer(place.path, place.weights, device='cpu')
        if 'panoptic_head' in place.cfg.model:  # numbers of segments need panopticapi
            (found,) = inferencer(image, return_datasamples=True)['predictions']
            assert found.pred_panoptic_seg.sem_seg.shape == (1, HEIGHT, WIDTH)
            return
        found = inferencer(image)['predictions'][0]
        assert len(found['scores']) == len(found['bboxes']) == len(found['labels'])
    else:
        from mmpretrain import ImageClassificationInferencer

        inferencer = ImageClassificationInferencer(place.path, place.weights, device='cpu')
        place.prepared(inferencer.model)
        (found,) = inferencer(image)
        assert abs(found['pred_scores'].sum() - 1) < 1e-4
        if hasattr(place.model, 'set_vocabulary'):
            assert found['pred_class'] in NAMES


def radial_images(place):
    side = place.model.clip.visual.image_size[0]
    from mmengine.structures import BaseDataElement

    return dict(
        inputs=[torch.randint(256, (3, side, side), dtype=torch.uint8)],
        data_samples=[BaseDataElement()],
    )


@pytest.mark.usefixtures('loaded')
def test_time_augmentation(place):
    """What ``tools/test.py --tta`` does with the config."""
    episodic = 'Episode' in str(place.cfg.test_dataloader.dataset.type)
    masks = any({'mask_head', 'panoptic_head'} & part.keys() for part in dicts(place.cfg.model))
    if place.kind in ('HelmForCausalLM', 'RadialCLIP') or episodic or masks:
        with pytest.raises(ValueError, match='--tta'):
            place.augmented()
        return
    cfg = place.augmented()
    model = place.build(cfg.model)
    load_checkpoint(model.module, place.weights, strict=True)
    pipeline = cfg.test_dataloader.dataset.pipeline
    batch = pseudo_collate(place.items(1, pipeline=pipeline))
    assert len(batch['inputs']) > 1  # views
    (sample,) = model.eval().test_step(batch)
    if place.scope == 'mmseg':
        assert sample.pred_sem_seg.data.shape[-2:] == (HEIGHT, WIDTH)
    elif place.scope == 'mmdet':
        assert sample.pred_instances.scores.isfinite().all()
    else:
        assert abs(sample.pred_score.sum() - 1) < 1e-4


def test_training_step(place):
    """Forward, loss, backward and a step of the config's optimizer."""
    if 'optim_wrapper' not in place.cfg:
        assert 'train_dataloader' not in place.cfg  # a config for tests alone
        return
    cfg = place.cfg
    load_tool('train.py').use_amp(cfg.optim_wrapper) if 'Amp' in cfg.optim_wrapper.type else None
    model = place.build().train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train_step(place.batch(True), wrapper)
    assert any('loss' in name for name in losses)
    assert all(np.isfinite(float(value)) for value in losses.values())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed and changed <= trained
    assert all(p.isfinite().all() for p in model.parameters())


def test_saved_model_predicts_the_same(place):
    torch.manual_seed(2)
    model = place.build()
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), place.model.parameters()))
    load_checkpoint(model, place.weights, strict=True)
    expected = tensors(place.predict(place.model))
    found = tensors(place.predict(place.prepared(model)))
    assert len(found) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
