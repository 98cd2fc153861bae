import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from mmengine.registry import DefaultScope, init_default_scope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from tests.helpers import open_vocab_det  # noqa: E402
from tests.helpers.open_vocab_det import (  # noqa: E402
    ADAPTER,
    BASE,
    CHANNELS,
    NAMES,
    NOVEL,
    build,
    det_batch,
    detector,
    run,
    write_coco,
)

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def total(losses):
    return sum(sum(v) if isinstance(v, list) else v for k, v in losses.items() if 'loss' in k)


@pytest.mark.parametrize('masks', [True, False])
@pytest.mark.parametrize('tower', CHANNELS)
def test_loss_and_predict(tower, masks):
    model = build(detector(tower, masks))
    total(run(model, det_batch())).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    with torch.no_grad():
        samples = run(model, det_batch(), 'predict')
    for sample in samples:
        found = sample.pred_instances
        assert 0 < len(found.scores) <= 10
        assert (found.scores[:-1] >= found.scores[1:]).all()
        assert found.label_names == [NAMES[label] for label in found.labels.tolist()]
        if masks:
            assert found.masks.shape == (len(found.scores), *sample.ori_shape)


def test_adapters_of_both_towers_are_trained():
    config = detector('vit')
    config.backbone.adapter = ADAPTER
    model = build(config)
    total(run(model, det_batch())).backward()
    grads = {n: p.grad for n, p in model.backbone.named_parameters() if p.requires_grad}
    text = [g for n, g in grads.items() if '.visual.' not in n]
    images = [g for n, g in grads.items() if '.visual.' in n]
    assert all(g is not None and g.abs().sum() > 0 for g in text)
    assert any(g is not None and g.abs().sum() > 0 for g in images)


def test_images_below_the_stride():
    model = build(detector())
    with torch.no_grad():
        found = run(model, det_batch(((5, 9), (3, 3))), 'predict')
    assert all(sample.pred_instances.scores.isfinite().all() for sample in found)


def test_bad_values():
    config = detector()
    config.roi_head.bbox_head.embed_dims = 8
    with pytest.raises(ValueError, match='embed_dims must be 16'):
        build(config)
    config = detector()
    config.roi_head.mask_head.update(class_agnostic=False, num_classes=2)
    with pytest.raises(ValueError, match='class_agnostic'):
        build(config)
    config = detector()
    config.roi_head.type = 'mmdet.StandardRoIHead'
    with pytest.raises(TypeError, match='OpenVocabRoIHead'):
        build(config)
    with pytest.raises(ValueError, match='tokens'):
        build(detector(vocabulary=['very ' * 90 + 'long']))


def run_config(folder, names=NAMES, **model):
    """A run on four drawn images: trained on the base classes, tested on all."""
    load = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    ]
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    resize = dict(type='Resize', scale=(80, 64), keep_ratio=True)
    dataset = dict(
        type='CocoDataset', data_root=str(folder), ann_file='instances.json',
        data_prefix=dict(img='images/'), metainfo=dict(classes=tuple(BASE)),
        pipeline=[*load, dict(type='PackDetInputs')],
    )  # fmt: skip
    meta = dict(classes=tuple(NAMES), base_classes=tuple(BASE), novel_classes=tuple(NOVEL))
    test = dict(
        dataset, metainfo=meta, test_mode=True,
        pipeline=[load[0], resize, load[1], dict(type='PackDetInputs', meta_keys=keys)],
    )  # fmt: skip
    metric = dict(type='OVCocoMetric', ann_file=str(folder / 'instances.json'), metric='bbox')
    config = detector(vocabulary=list(names))
    config.backbone.adapter = dict(ADAPTER, towers=('text',))
    config.update(model)
    return open_vocab_det.run_config(
        folder,
        config,
        (dataset, test),
        metric,
        [dict(type='hyper_mm.MergeAdaptersHook')],
        checkpoint=dict(type='CheckpointHook', interval=1),
        visualization=dict(score_thr=0.0),
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = write_coco(tmp_path_factory.mktemp('shapes'))
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner.from_cfg(run_config(folder))
        runner.train()
    return folder, runner


def runner_of(config):
    init_default_scope('mmdet')
    config.model_wrapper_cfg = None
    return Runner.from_cfg(config)


def test_run_trains_scores_and_draws(trained):
    folder, runner = trained
    scalars = runner.message_hub.log_scalars
    for part in ('base', 'novel'):
        assert scalars[f'val/coco/{part}_ap50'].current() >= 0
    assert runner.visualizer.dataset_meta['classes'] == tuple(NAMES)
    assert list((folder / 'work').rglob('*.png'))
    saved = torch.load(folder / 'work' / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['vocabulary']['names'] == BASE
    assert 'backbone.clip.visual.conv1.weight' not in saved['state_dict']  # frozen
    assert any('in_proj_weight' in key for key in saved['state_dict'])  # adapted


def test_tests_with_another_vocabulary(trained, tmp_path):
    folder, _ = trained
    config = run_config(folder, ['cross', 'square', 'disk'])
    config.work_dir, config.load_from = str(tmp_path), str(folder / 'work' / 'epoch_1.pth')
    config.visualizer.name = 'other'
    runner = runner_of(config)
    found = runner.test()
    assert runner.model.vocabulary.names == tuple(NAMES)  # in the order of the data set
    assert {'coco/base_ap50', 'coco/novel_ap50'} <= set(found)


def test_resumed_run_needs_the_same_names(trained):
    folder, _ = trained
    config = run_config(folder, train_vocabulary=['disk', 'square'])
    config.resume, config.visualizer.name = True, 'resumed'
    config.train_cfg.max_epochs = 2
    with pytest.raises(ValueError, match='names'):
        runner_of(config).train()


def test_inferencer_names_the_classes_of_its_vocabulary(trained, tmp_path):
    from mmdet.apis import DetInferencer

    folder, _ = trained
    config = run_config(folder, ['star', 'square'])
    config.visualizer.name = 'inferencer'
    inferencer = DetInferencer(config, str(folder / 'work' / 'epoch_1.pth'), device='cpu')
    found = inferencer(str(folder / 'images' / '0.jpg'), out_dir=str(tmp_path), pred_score_thr=0)
    assert set(found['predictions'][0]['labels']) <= {0, 1}
    assert tuple(inferencer.visualizer.dataset_meta['classes']) == ('star', 'square')
    assert list(tmp_path.rglob('*.jpg'))
    inferencer.model.vocabulary = ['moon']
    assert set(inferencer(str(folder / 'images' / '0.jpg'))['predictions'][0]['labels']) <= {0}
