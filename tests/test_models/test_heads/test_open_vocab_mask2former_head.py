import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('open_clip')

from hyper_mm.layers.open_vocab.region_scores import NameFeatures  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.open_vocab_det import build, pan_batch, panoptic, run  # noqa: E402

pytestmark = pytest.mark.usefixtures('mmdet_scope')


def test_logits_are_cosines_of_the_names():
    model = build(panoptic()).eval()
    head = model.panoptic_head
    data = model.data_preprocessor(pan_batch(), False)
    with torch.no_grad():
        x = model.extract_feat(data['inputs'])
        logits, masks = head(x, data['data_samples'])
        x.names = NameFeatures.of(x.names.features[[1, 0]])  # other classes
        swapped, again = head(x, data['data_samples'])
    assert len(logits) == len(masks) == 3
    assert all(found.shape == (2, 6, 6) for found in logits)
    for a, b, m, n in zip(logits, swapped, masks, again):
        assert torch.equal(m, n)  # masks do not depend on the names
        torch.testing.assert_close(b, a[..., [1, 0, 5]])
    assert logits[-1].abs().max() <= 1 / head.classifier.temperature + 1e-3


def test_weight_of_no_object():
    assert build(panoptic()).panoptic_head.class_weight == [1.0, 1.0, 1.0, 0.1]
    config = panoptic()
    config.panoptic_head.void_weight = 0.5
    assert build(config).panoptic_head.class_weight[-1] == 0.5


def test_what_is_made():
    for only in ('panoptic_on', 'instance_on', 'semantic_on'):
        flags = dict.fromkeys(('panoptic_on', 'instance_on', 'semantic_on'), False)
        config = panoptic()
        config.test_cfg = dict(flags, **{only: True})
        model = build(config)
        with torch.no_grad():
            (sample, _) = run(model, pan_batch(), 'predict')
        fields = dict(
            panoptic_on='pred_panoptic_seg',
            instance_on='pred_instances',
            semantic_on='pred_sem_seg',
        )
        assert {f for f in fields.values() if f in sample} == {fields[only]}


def test_bad_values():
    head = panoptic().panoptic_head
    with pytest.raises(ValueError, match='class_weight'):
        MODELS.build(dict(head, loss_cls=dict(type='mmdet.CrossEntropyLoss', class_weight=[1.0])))
    with pytest.raises(ValueError, match='void_weight'):
        MODELS.build(dict(head, void_weight=-1))
    fusion = dict(type='hyper_mm.OpenVocabFusionHead')
    with pytest.raises(ValueError, match='semantic_on'):
        MODELS.build(dict(fusion, test_cfg=dict(panoptic_on=False)))
    with pytest.raises(ValueError, match='iou_threshold'):
        MODELS.build(dict(fusion, test_cfg=dict(iou_threshold=0.5)))
    with pytest.raises(ValueError, match='novel'):
        MODELS.build(dict(fusion, ensemble=dict(novel=2)))
