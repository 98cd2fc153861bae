"""mmseg's visualizer, for images of any memory layout."""

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg


@pytest.mark.parametrize('layout', ['transposed', 'mirrored'])
def test_images_of_any_layout_are_drawn_alike(layout, tmp_path):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from hyper_mm.registry import VISUALIZERS

    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = image.transpose(1, 0, 2) if layout == 'transposed' else image[:, ::-1]
    assert not view.flags.c_contiguous
    labels = torch.zeros(1, *view.shape[:2], dtype=torch.long)
    labels[:, 10:30] = 1
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
    drawn = []
    for k, given in enumerate((view, np.ascontiguousarray(view))):
        visualizer = VISUALIZERS.build(
            dict(
                type='hyper_mm.SegLocalVisualizer',
                name=f'{layout}{k}',
                save_dir=str(tmp_path),
                vis_backends=[dict(type='LocalVisBackend')],
            )
        )
        visualizer.dataset_meta = dict(classes=('sky', 'sea'), palette=[[255, 0, 0], [0, 0, 255]])
        visualizer.add_datasample('a', given, sample, draw_pred=False)
        drawn.append(visualizer.get_image())
    assert np.array_equal(*drawn) and not np.array_equal(drawn[0], view)
