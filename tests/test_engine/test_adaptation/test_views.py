"""Crops of a support."""

import pytest
import torch

pytest.importorskip('mmseg')
pytestmark = pytest.mark.mmseg

from mmengine.structures import PixelData  # noqa: E402
from mmseg.models import SegDataPreProcessor  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402

from hyper_mm.engine.adaptation.views import Half, Part, Views, folds, jitter  # noqa: E402


def item(height, width, seed=0):
    """An image whose first channel is its label, times 100."""
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(height, width, generator=draw) < 0.5).long()
    sample = SegDataSample(gt_sem_seg=PixelData(data=labels[None]))
    sample.set_metainfo(dict(ori_shape=(height, width), img_shape=(height, width)))
    image = (100 * labels)[None].expand(3, -1, -1).to(torch.uint8)
    return dict(inputs=image, data_samples=sample)


def preprocessor(**options):
    return SegDataPreProcessor(seg_pad_val=255, **options)


def labels_of(batch):
    return torch.stack([s.gt_sem_seg.data for s in batch['data_samples']])


def test_crops_and_augmentation_move_labels_with_the_image():
    data = [item(40, 60, i) for i in range(3)]
    views = Views(data, preprocessor(size_divisor=8), crop=32)
    for number in range(4):
        (batch,) = views.step(number)
        labels = labels_of(batch)
        assert batch['inputs'].shape == (3, 3, 32, 32) and labels.shape == (3, 1, 32, 32)
        for image, mask in zip(batch['inputs'][:, 0], labels[:, 0]):
            assert image[mask == 1].min() > image[mask == 0].max()
    first, again, other = (next(views.step(n))['inputs'] for n in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    plain = Views(data, preprocessor(size_divisor=8), crop=64, augment=False)
    (batch,) = plain.step(0)
    assert torch.equal(batch['inputs'][1, :, :40, :60], data[1]['inputs'].float())
    assert data[0]['data_samples'].ori_shape == (40, 60)  # items stay as they are


def test_memory_is_bounded_by_batches():
    data = [item(32, 32, i) for i in range(5)]
    views = Views(data, preprocessor(size_divisor=8), pixels=2 * 32 * 32)
    assert [len(b['inputs']) for b in views.step(0)] == [2, 2, 1]
    views = Views(data, preprocessor(size_divisor=8), pixels=1, images=3)
    assert [len(b['inputs']) for b in views.step(0)] == [1, 1, 1]


def test_sizes_are_padded_and_a_fixed_size_grows():
    data = [item(20, 40), item(33, 17, 1)]
    fixed = preprocessor(size=(16, 16))
    (batch,) = Views(data, fixed, augment=False).step(0)
    assert batch['inputs'].shape == (2, 3, 64, 64) and tuple(fixed.size) == (16, 16)
    labels = labels_of(batch)
    assert (labels[0, :, 20:] == 255).all() and (labels[1, :, :, 17:] == 255).all()


def test_crops_prefer_two_classes():
    big = item(256, 256)
    labels = torch.zeros(1, 256, 256, dtype=torch.long)
    labels[:, :64] = 1
    big['data_samples'].gt_sem_seg = PixelData(data=labels)
    views = Views([big], preprocessor(size_divisor=8), crop=96)
    shown = [len(labels_of(next(views.step(n))).unique()) for n in range(20)]
    assert sum(count == 2 for count in shown) > 12  # a single try finds it in 39 %


def test_jitter_keeps_range_and_dtype():
    x = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
    assert torch.equal(jitter(x, 0.0, 0.0), x)
    bright = jitter(x.float(), 0.0, 0.1)
    torch.testing.assert_close(bright, (x.float() + 25.5).clamp(max=255))
    assert jitter(x, 0.2, -0.2).dtype == torch.uint8


def test_parts_and_halves():
    assert folds(3, 10) == [([1, 2], [0]), ([0, 2], [1]), ([0, 1], [2])]
    judged = sum((judge for _, judge in folds(7, 3)), [])
    assert sorted(judged) == [*range(7)] and len(folds(7, 3)) == 3
    data = [item(8, 9, i) for i in range(3)]
    assert Part(data, [2, 0])[1] is data[0] and len(Part(data, [2])) == 1
    left, right = (Half(data, right)[0] for right in (False, True))
    both = torch.cat([left['inputs'], right['inputs']], -1)
    assert torch.equal(both, data[0]['inputs'])
    assert right['data_samples'].ori_shape == (8, 5)
    assert len([*Half(data, True)]) == 1


@pytest.mark.parametrize('options', [dict(crop=0), dict(pixels=0), dict(images=0)])
def test_bad_options(options):
    with pytest.raises(ValueError, match=[*options][0]):
        Views([item(8, 8)], preprocessor(size_divisor=8), **options)
    with pytest.raises(ValueError, match='at least one image'):
        Views([], preprocessor(size_divisor=8))
    with pytest.raises(ValueError, match='count'):
        folds(1, 2)
