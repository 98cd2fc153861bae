import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from tests.helpers import open_vocab_det  # noqa: E402
from tests.helpers.open_vocab_det import (  # noqa: E402
    ADAPTER,
    CHANNELS,
    STUFF,
    THINGS,
    build,
    pan_batch,
    panoptic,
    run,
)
from tests.helpers.open_vocab_pan import dataset, write_panoptic  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@pytest.mark.parametrize('tower', CHANNELS)
def test_loss_and_predict(tower):
    model = build(panoptic(tower))
    sum(run(model, pan_batch()).values()).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    with torch.no_grad():
        samples = run(model, pan_batch(), 'predict')
    for sample in samples:
        size = sample.ori_shape
        segments = sample.pred_panoptic_seg.sem_seg
        assert segments.shape == (1, *size)
        assert set((segments % 1000).unique().tolist()) <= {*range(6)}
        assert set((segments[segments >= 1000] % 1000).tolist()) <= {0, 1, 2}  # things
        assert sample.pred_instances.masks.shape[1:] == size
        assert sample.pred_instances.labels.max() <= 2
        assert sample.pred_sem_seg.sem_seg.max() <= 4
        assert sample.pred_panoptic_seg.label_names == [*THINGS, *STUFF]


def test_things_and_stuff():
    model = build(panoptic())
    assert model.things().tolist() == [True, True, True, False, False]
    with pytest.raises(ValueError, match='moon'):
        build(panoptic(stuff=['moon']))
    model = build(panoptic(stuff=None))
    assert model.things().tolist() == [True, True, True, False, True]  # grass of training
    model.dataset_meta = dict(classes=[*THINGS, *STUFF], stuff_classes=STUFF)
    assert model.things().tolist() == [True, True, True, False, False]
    model = build(panoptic(stuff=[]))
    assert model.things().all()


def test_seen_classes_and_their_exponents():
    model = build(panoptic()).eval()
    assert model.seen().tolist() == [True, True, False, True, False]
    ensemble = model.panoptic_fusion_head.ensemble
    found = ensemble.exponents(model.seen())
    torch.testing.assert_close(found, torch.tensor([0.4, 0.4, 0.8, 0.4, 0.8]))


def test_images_without_instances_or_labels():
    model = build(panoptic())
    batch = pan_batch(instances=0)
    for sample in batch['data_samples']:
        sample.gt_sem_seg.sem_seg[:] = 255
    losses = run(model, batch)
    assert all(value.isfinite() for value in losses.values())


def test_images_below_the_stride():
    model = build(panoptic())
    with torch.no_grad():
        found = run(model, pan_batch(sizes=((7, 9), (33, 20))), 'predict')
    assert found[0].pred_panoptic_seg.sem_seg.shape == (1, 14, 18)


def test_adapted_towers():
    config = panoptic('vit')
    config.backbone.adapter = ADAPTER
    model = build(config)
    sum(run(model, pan_batch()).values()).backward()
    grads = [p.grad for n, p in model.backbone.named_parameters() if p.requires_grad]
    assert sum(g is not None and bool(g.abs().sum() > 0) for g in grads) > len(grads) // 2


def test_bad_values():
    config = panoptic()
    config.panoptic_head.embed_dims = 8
    with pytest.raises(ValueError, match='embed_dims must be 16'):
        build(config)
    config = panoptic()
    config.panoptic_head.num_stuff_classes = 2
    with pytest.raises(ValueError, match='must be 3'):
        build(config)
    config = panoptic()
    config.panoptic_fusion_head = dict(type='mmdet.MaskFormerFusionHead')
    with pytest.raises(TypeError, match='OpenVocabFusionHead'):
        build(config)


def run_config(folder):
    """Trained without crosses and sky, tested on all."""
    load = [dict(type='LoadImageFromFile'), dict(type='hyper_mm.LoadPanopticSegments')]
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    pack = dict(type='PackDetInputs', meta_keys=(*keys, 'seg_map_path', 'segments_info'))
    unseen = ['cross', 'sky']
    train = dataset(folder, [*load, dict(type='PackDetInputs')], unseen=unseen)
    test = dataset(folder, [*load, pack], test_mode=True, indices=[0, 2])
    metrics = [
        dict(type='hyper_mm.OpenVocabPanopticMetric', unseen_classes=unseen),
        dict(type='hyper_mm.OVIoUMetric', unseen_classes=unseen),
    ]
    return open_vocab_det.run_config(folder, panoptic(stuff=None), (train, test), metrics)


def test_run_trains_scores_and_draws(tmp_path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        runner = Runner.from_cfg(run_config(write_panoptic(tmp_path)))
        runner.train()
    found = runner.message_hub.log_scalars
    for name in ('PQ', 'PQ_th', 'PQ_st', 'PQ_seen', 'PQ_unseen'):
        assert 0 <= found[f'val/coco_panoptic/{name}'].current() <= 100
    assert found['val/mIoU'].current() >= 0
    assert runner.model.things().tolist() == [True, True, True, False, False]
    assert runner.visualizer.dataset_meta['classes'] == tuple(THINGS + STUFF)
    assert list((tmp_path / 'work').rglob('*.png'))
    saved = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=False)
    assert saved['meta']['vocabulary']['names'] == [*THINGS[:2], 'grass']
    with DefaultScope.overwrite_default_scope('mmdet'):
        config = run_config(tmp_path)
        config.load_from, config.visualizer.name = str(tmp_path / 'work' / 'epoch_1.pth'), 'tested'
        again = Runner.from_cfg(config).test()
    assert again['coco_panoptic/PQ'] == found['val/coco_panoptic/PQ'].current()
