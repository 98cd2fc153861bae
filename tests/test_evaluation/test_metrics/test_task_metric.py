"""A metric of one task among several."""

import pytest
import torch

for name in ('mmseg', 'mmdet', 'mmpretrain'):
    pytest.importorskip(name)


from hyper_mm.registry import METRICS  # noqa: E402

pytestmark = [pytest.mark.mmseg, pytest.mark.mmdet, pytest.mark.mmpretrain]


def test_a_metric_sees_its_own_task():
    metric = METRICS.build(
        dict(type='hyper_mm.TaskMetric', task='cls', metric=dict(type='mmpretrain.Accuracy'))
    )
    metric.dataset_meta = dict(tasks=dict(cls=dict(classes=('a', 'b'))))
    right = dict(task='cls', pred_label=torch.tensor([1]), gt_label=torch.tensor([1]))
    wrong = dict(right, pred_label=torch.tensor([0]))
    metric.process({}, [dict(task='seg')])
    metric.process({}, [right, wrong, dict(task='seg')])
    assert metric.evaluate(2) == {'cls/top1': 50.0}
    metric.process({}, [dict(task='seg')])
    assert metric.evaluate(1) == {}
