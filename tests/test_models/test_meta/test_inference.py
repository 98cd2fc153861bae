"""Models of episodes in mmseg's entry points for inference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

pytest.importorskip('mmseg')

from hyper_mm.registry import DATASETS, MODELS  # noqa: E402

from ...conftest import REPO  # noqa: E402

pytestmark = pytest.mark.mmseg
IMAGE = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)


def support(model):
    """Items of a support of two images."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    labels = torch.zeros(1, 64, 64, dtype=torch.long)
    labels[:, 16:48, 16:48] = 1
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
    return [dict(inputs=image, data_samples=sample.clone()) for _ in range(2)]


def save_weights(cfg, folder):
    """A checkpoint of random weights."""
    init_default_scope('mmseg')
    names = [f'class {k}' for k in range(4)]
    meta = dict(dataset_meta=dict(classes=names, palette=[[k, k, k] for k in range(4)]))
    state = MODELS.build(cfg.model).state_dict()
    torch.save(dict(meta=meta, state_dict=state), folder / 'weights.pth')
    return folder / 'weights.pth'


def test_images_need_a_support():
    from mmseg.apis import inference_model, init_model

    model = init_model(str(REPO / 'configs' / 'metaseg' / 'protonet_unet_nuclei.py'), device='cpu')
    with pytest.raises(RuntimeError, match='set_support'):
        inference_model(model, IMAGE)
    model.set_support(support(model))
    assert inference_model(model, IMAGE).pred_sem_seg.data.max() < model.model.num_classes


def test_init_model_of_several_tasks():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')
    from mmseg.apis import init_model

    path = REPO / 'configs' / 'metaseg' / 'maml_vit-mini_part-scenes_mixed.py'
    assert [*init_model(str(path), device='cpu').model.tasks] == ['seg', 'det', 'cls']
    with pytest.raises(ValueError, match='train_cfg must be None for MultiTaskModel'):
        MODELS.build(dict(type='hyper_mm.MultiTaskModel', backbone={}, tasks={}, train_cfg={}))


@pytest.mark.parametrize('name', ['MetaLearner', 'PrototypicalSegmentor', 'EpisodicSegmentor'])
@pytest.mark.parametrize('options', [dict(pretrained='x.pth'), dict(train_cfg=dict(a=1))])
def test_weights_are_those_of_the_model(name, options):
    with pytest.raises(ValueError, match=f'must be None for {name}, got .*: set it in the model'):
        MODELS.build(dict(type=f'hyper_mm.{name}', model=dict(type='X'), **options))


@pytest.mark.parametrize(
    'load',
    [dict(type='hyper_mm.LoadSegAnnotations16'), dict(type='hyper_mm.LoadADE20KParts')],
    ids=lambda load: load['type'],
)
def test_pipelines_without_labels(load, tmp_path):
    """mmseg's entry points leave out LoadAnnotations alone."""
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    cfg = Config.fromfile(REPO / 'configs' / 'metaseg' / 'unet_nuclei.py')
    for pipeline in (cfg.test_pipeline, cfg.test_dataloader.dataset.pipeline):
        pipeline[1] = load
    cfg.dump(tmp_path / 'config.py')
    weights = save_weights(cfg, tmp_path)
    model = init_model(str(tmp_path / 'config.py'), device='cpu')
    assert inference_model(model, IMAGE).pred_sem_seg.data.shape == (1, 70, 90)
    inferencer = MMSegInferencer(str(tmp_path / 'config.py'), str(weights), device='cpu')
    found = inferencer(IMAGE, return_datasamples=True)
    assert found.pred_sem_seg.data.shape == (1, 70, 90)


def test_a_pipeline_of_an_episode_data_set_is_that_of_its_data_set():
    with pytest.raises(ValueError, match='pipeline needs the config of a data set'):
        DATASETS.build(dict(type='hyper_mm.EpisodeDataset', dataset=[], pipeline=[]))
