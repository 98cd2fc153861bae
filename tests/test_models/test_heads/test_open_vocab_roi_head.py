import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from mmengine.structures import InstanceData  # noqa: E402

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab_det import build, det_batch, detector, run  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')


@torch.no_grad()
def regions(model, boxes, batch=None):
    """Predictions for given proposals."""
    batch = batch or det_batch()
    for sample in batch['data_samples']:
        sample.proposals = InstanceData(bboxes=boxes.clone())
    return [sample.pred_instances for sample in run(model, batch, 'predict')]


def test_straightforward_scores():
    """Of one proposal, whose box the head leaves as it is."""
    model = build(detector(masks=False)).eval()
    head = model.roi_head
    torch.nn.init.zeros_(head.bbox_head.fc_reg.weight)
    torch.nn.init.zeros_(head.bbox_head.fc_reg.bias)
    found = regions(model, torch.tensor([[8.0, 8, 40, 40]]))[0]
    data = model.data_preprocessor(det_batch(), False)
    with torch.no_grad():
        x = model.extract_feat(data['inputs'])
        rois = torch.tensor([[0.0, 8, 8, 40, 40]])
        embedding, _ = head.bbox_head(head.bbox_roi_extractor(x[:4], rois))
        logits = head.bbox_head.classifier(embedding, x.names)
        scores = head.ensemble.log_scores(logits, x.regions(rois), x.names, x.seen)[0].exp()
    expected, order = scores.sort(descending=True)
    torch.testing.assert_close(found.scores, expected)
    assert torch.equal(found.labels, order)
    torch.testing.assert_close(found.bboxes, 2 * rois[:, 1:].expand(3, -1))  # of the original


def test_proposals_of_no_area_and_none_at_all():
    model = build(detector())
    found = regions(model, torch.tensor([[9.0, 9, 9, 9], [0, 0, 0, 20]]))
    assert all(part.scores.isfinite().all() and part.bboxes.isfinite().all() for part in found)
    for part in regions(model, torch.zeros(0, 4)):
        assert len(part.scores) == len(part.labels) == 0
        assert part.bboxes.shape == (0, 4) and len(part.masks) == 0


def test_threshold_that_nothing_reaches():
    config = detector()
    config.test_cfg.rcnn.score_thr = 2.0
    found = regions(build(config), torch.tensor([[8.0, 8, 40, 40]]))
    assert [len(part.scores) for part in found] == [0, 0]


def test_candidates_bound_what_is_decoded():
    config = detector(masks=False)
    config.roi_head.candidates = 2
    found = regions(build(config), torch.tensor([[8.0, 8, 40, 40], [2, 2, 60, 60]]))
    assert all(len(part.scores) <= 2 for part in found)


def test_images_without_instances_train():
    model = build(detector())
    with torch.no_grad():  # away from the regions, or the loss of the background rounds to zero
        model.roi_head.bbox_head.classifier.background.neg_()
    losses = run(model, det_batch(instances=0))
    flat = [x for v in losses.values() for x in (v if isinstance(v, list) else [v])]
    assert all(torch.as_tensor(x).isfinite().all() for x in flat)
    total = sum(x.sum() for x in flat if torch.is_tensor(x) and x.requires_grad)
    total.backward()
    assert model.roi_head.bbox_head.classifier.background.grad.abs().sum() > 0


def test_crowds_are_ignored():
    model = build(detector())
    batch = det_batch()
    for sample in batch['data_samples']:
        crowd = sample.gt_instances[1:]
        sample.ignored_instances = InstanceData(bboxes=crowd.bboxes, labels=crowd.labels)
        sample.gt_instances = sample.gt_instances[:1]
    losses = run(model, batch)
    assert losses['loss_mask'].isfinite() and losses['loss_cls'].isfinite()


def test_background_is_the_label_after_the_classes_of_training():
    assert build(detector()).roi_head.bbox_head.num_classes == 2
    assert build(detector(train_vocabulary=None)).roi_head.bbox_head.num_classes == 3


def test_parent_initialization_keeps_the_background():
    config = detector()
    config.init_cfg = dict(type='Constant', val=0.5, layer='Linear')
    model = build(config)
    before = model.roi_head.bbox_head.classifier.background.clone()
    model.init_weights()
    assert torch.equal(model.roi_head.bbox_head.classifier.background, before)
    assert model.roi_head.bbox_head.fc_cls.weight.std() < 0.05


def test_bad_values():
    head = detector().roi_head.bbox_head
    with pytest.raises(ValueError, match='reg_class_agnostic'):
        MODELS.build(dict(head, reg_class_agnostic=False))
    with pytest.raises(ValueError, match='temperature'):
        MODELS.build(dict(head, temperature=-1))
    config = detector()
    config.roi_head.bbox_head = dict(type='mmdet.Shared2FCBBoxHead', in_channels=16)
    with pytest.raises(TypeError, match='OpenVocabBBoxHead'):
        build(config)
    config = detector()
    config.roi_head.candidates = 0
    with pytest.raises(ValueError, match='candidates'):
        build(config)
