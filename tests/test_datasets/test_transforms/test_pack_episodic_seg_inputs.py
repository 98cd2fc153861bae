"""PackEpisodicSegInputs."""

import numpy as np
import pytest
import torch

from hyper_mm.registry import TRANSFORMS

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg


def test_packed_episode_holds_both_images():
    image, other = (np.full((4, 5, 3), v, np.uint8) for v in (1, 2))
    pack = TRANSFORMS.build(dict(type='hyper_mm.PackEpisodicSegInputs', meta_keys=()))
    item = pack(dict(img=image, img_mix=other, gt_seg_map=np.ones((4, 5), np.uint8)))
    assert (item['support']['inputs'] == 1).all() and (item['query']['inputs'] == 2).all()
    masks = [item[k]['data_samples'].gt_sem_seg.data for k in ('support', 'query')]
    assert torch.equal(*masks)
    with pytest.raises(KeyError, match='FrequencyAmplitudeMix'):
        pack(dict(img=image))


def test_the_second_image_is_that_of_the_key():
    image, other = (np.full((4, 5, 3), v, np.uint8) for v in (1, 2))
    pack = TRANSFORMS.build(
        dict(type='hyper_mm.PackEpisodicSegInputs', key='img_other', meta_keys=())
    )
    item = pack(dict(img=image, img_other=other, gt_seg_map=np.ones((4, 5), np.uint8)))
    assert (item['query']['inputs'] == 2).all()
    with pytest.raises(KeyError, match='img_other'):
        pack(dict(img=image, img_mix=other))
