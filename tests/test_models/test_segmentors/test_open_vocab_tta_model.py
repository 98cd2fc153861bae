"""The doors of mmseg for the open-vocabulary segmentor: TTA, init_model, inferencer, --out."""

import runpy

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

import mmcv  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from hyper_mm.registry import METRICS, MODELS  # noqa: E402
from tests.helpers.open_vocab import NAMES, batch, build, config  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402
from tests.test_models.test_segmentors.test_open_vocab_runs import data, run_config  # noqa: E402, F401

pytestmark = pytest.mark.mmseg
FLIPS = [[dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]]


@pytest.fixture(autouse=True)
def _scope():
    yield
    DefaultScope._instance_dict.clear()


def plain_config(data, name, **model):  # noqa: F811
    """The run without an adapter, drawing and training."""
    cfg = run_config(data, **model)
    cfg.model.pop('adapter')
    cfg.custom_hooks = [dict(type='hyper_mm.VocabularyHook')]
    cfg.visualizer.name = f'{data.name}_{name}'
    cfg.default_hooks.pop('visualization')
    return cfg


def with_tta(cfg, model='hyper_mm.OpenVocabTTAModel'):
    """What tools/test.py --tta does."""
    load, labels, pack = cfg.test_dataloader.dataset.pipeline
    augment = dict(type='TestTimeAug', transforms=[*FLIPS, [labels], [pack]])
    cfg.test_dataloader.dataset.pipeline = [load, augment]
    cfg.model = dict(type=model, module=cfg.model)
    return cfg


def test_augmented_test(data):  # noqa: F811
    found = Runner.from_cfg(with_tta(plain_config(data, 'tta'))).test()
    assert 0 <= found['mIoU'] <= 100


def test_scores_of_the_views_are_averaged():
    segmentor = build().eval()
    model = MODELS.build(dict(type='hyper_mm.OpenVocabTTAModel', module=segmentor))
    views = [segmentor.test_step(batch(2)) for _ in range(2)]
    scores = [[sample.seg_logits.data.clone() for sample in view] for view in views]
    merged = model.merge_preds(list(zip(*views)))
    for index, sample in enumerate(merged):
        expected = (scores[0][index] + scores[1][index]) / 2
        torch.testing.assert_close(sample.seg_logits.data, expected)
        assert torch.equal(sample.pred_sem_seg.data[0], expected.argmax(0))
        assert 'gt_sem_seg' in sample


def test_stock_augmentation_takes_it_too(data):  # noqa: F811
    cfg = plain_config(data, 'stock')
    assert Runner.from_cfg(with_tta(cfg, 'SegTTAModel')).test().keys() >= {'mIoU'}


@pytest.mark.parametrize('stock', [{}, dict(tta_model=dict(type='SegTTAModel'))])
def test_our_tool_takes_its_own_model(data, stock):  # noqa: F811
    """A config of one's own says nothing, or has what mmseg's runtime configs have."""
    cfg = plain_config(data, 'tool')
    cfg.update(stock)
    load_tool('test.py').use_tta(cfg)
    assert cfg.model.type == 'hyper_mm.OpenVocabTTAModel'
    assert cfg.model.module.type == 'hyper_mm.OpenVocabSegmentor'


class Other(BaseModel):
    def forward(self):
        """Does nothing."""


def test_other_models_are_refused():
    with pytest.raises(TypeError, match='OpenVocabSegmentor, got Other'):
        MODELS.build(dict(type='hyper_mm.OpenVocabTTAModel', module=Other()))


@pytest.mark.parametrize(
    'name', ['clip-mini_camvid', 'hyperclip_clip-mini_camvid', 'clip-mini_coco133']
    + ['cat-seg_vit-b16_coco-stuff164k', 'hyperclip_vit-b16_voc20']
)  # fmt: skip
def test_configs_offer_it(repo, name):
    cfg = Config.fromfile(repo / 'configs' / 'hyperclip' / f'{name}.py')
    assert cfg.tta_model.type == 'hyper_mm.OpenVocabTTAModel'
    assert 'hyper_mm.VocabularyHook' in [hook.type for hook in cfg.custom_hooks]


def test_maps_are_written(data):  # noqa: F811
    cfg = plain_config(data, 'out')
    cfg.test_evaluator.update(output_dir=str(data / 'maps'), keep_results=True)  # mmseg's --out
    found = Runner.from_cfg(cfg).test()
    assert 'mIoU' in found
    maps = sorted((data / 'maps').glob('*.png'))
    assert len(maps) == 4 and mmcv.imread(str(maps[0]), 'unchanged').shape == (40, 56)


def test_our_tool_asks_for_maps(repo, monkeypatch):
    monkeypatch.syspath_prepend(repo / 'tools')
    tool = runpy.run_path(str(repo / 'tools' / 'test.py'))
    cfg = Config(dict(test_evaluator=dict(type='hyper_mm.OVIoUMetric')))
    tool['save_label_maps'](cfg, 'maps')
    assert cfg.test_evaluator == dict(
        type='hyper_mm.OVIoUMetric', output_dir='maps', keep_results=True
    )
    with pytest.raises(ValueError, match='keep_results needs an output_dir'):
        METRICS.build(dict(type='hyper_mm.OVIoUMetric', keep_results=True))


@pytest.fixture
def checkpoint(data):  # noqa: F811
    cfg = plain_config(data, 'saved')
    cfg.train_cfg.update(max_iters=1, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 1
    Runner.from_cfg(cfg).train()
    return str(data / 'work' / 'iter_1.pth')


def test_init_model(data, checkpoint):  # noqa: F811
    from mmseg.apis import inference_model, init_model

    cfg = plain_config(data, 'init')
    model = init_model(cfg, checkpoint, device='cpu')
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    model.cfg.test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    assert inference_model(model, image).pred_sem_seg.data.shape == (1, 40, 56)
    assert model.dataset_meta['classes'] == NAMES
    model.vocabulary = ['zebra', 'giraffe']
    assert inference_model(model, image).pred_sem_seg.data.max() < 2
    with pytest.raises(ValueError, match="clip.pretrained, got 'weights.pth'"):
        MODELS.build(config(pretrained='weights.pth'))


def test_inferencer(data, checkpoint):  # noqa: F811
    from mmseg.apis import MMSegInferencer

    cfg = plain_config(data, 'inferencer')
    steps = ('LoadImageFromFile', 'PackSegInputs')
    cfg.test_dataloader.dataset.pipeline = [dict(type=step) for step in steps]
    cfg.visualizer = dict(type='SegLocalVisualizer', name='inferencer')
    inferencer = MMSegInferencer(cfg, checkpoint, device='cpu')
    inferencer.show_progress = False
    assert inferencer.model.dataset_meta['classes'] == NAMES
    inferencer.model.vocabulary = ['zebra', 'giraffe']
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    found = inferencer(image, return_vis=True)
    assert found['predictions'].max() < 2 and found['visualization'].shape == (40, 56, 3)
    assert list(inferencer.visualizer.dataset_meta['classes']) == ['zebra', 'giraffe']
