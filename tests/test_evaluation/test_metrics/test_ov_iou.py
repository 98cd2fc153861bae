import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip('mmengine')

from mmengine.structures import PixelData  # noqa: E402

from hyper_mm.evaluation.metrics.ov_iou import OVIoUMetric  # noqa: E402


def sample(predicted, labels):
    return dict(
        pred_sem_seg=PixelData(data=torch.as_tensor(predicted)[None]).to_dict(),
        gt_sem_seg=PixelData(data=torch.as_tensor(labels)[None]).to_dict(),
        img_path='somewhere/picture.jpg',
    )


def evaluate(pairs, classes=4, **options):
    metric = OVIoUMetric(**options)
    metric.dataset_meta = dict(classes=[f'class {i}' for i in range(classes)])
    for pair in pairs:
        metric.process({}, [sample(*pair)])
    return metric.compute_metrics(metric.results)


def by_definition(pairs, classes, ignore, absent):
    """IoU of each class, pixel by pixel; None where it does not count."""
    found = []
    for t in range(classes):
        inside, union, there = 0, 0, 0
        for predicted, labels in pairs:
            for p, g in zip(np.ravel(predicted), np.ravel(labels)):
                if g != ignore:
                    inside += p == t and g == t
                    union += p == t or g == t
                    there += g == t
        counts = there if absent == 'ignore' else union
        found.append(inside / union if counts else None)
    return found


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), absent=st.sampled_from(['ignore', 'zero']), wide=st.booleans())
def test_is_the_definition(seed, absent, wide):
    rng = np.random.default_rng(seed)
    classes, ignore = (300, 65535) if wide else (6, 255)
    some = rng.choice(classes, 5, replace=False)
    pairs = []
    for _ in range(2):
        labels = rng.choice([*some[:3], ignore], (3, 4))
        pairs.append((rng.choice(some, (3, 4)), labels))
    if all((g == ignore).all() for _, g in pairs):
        return
    seen = [f'class {i}' for i in some[:1]]
    found = evaluate(pairs, classes, ignore_index=ignore, absent=absent, seen_classes=seen)
    others = [f'class {i}' for i in range(classes) if i != some[0]]
    same = evaluate(pairs, classes, ignore_index=ignore, absent=absent, unseen_classes=others)
    assert repr(same) == repr(found)
    iou = by_definition(pairs, classes, ignore, absent)
    assert found['mIoU'] == pytest.approx(
        100 * np.mean([x for x in iou if x is not None]), abs=0.01
    )
    unseen = [x for i, x in enumerate(iou) if x is not None and i != some[0]]
    if unseen:
        assert found['mIoU_unseen'] == pytest.approx(100 * np.mean(unseen), abs=0.01)
    if iou[some[0]] is not None and unseen:
        a, b = iou[some[0]], np.mean(unseen)
        wanted = 200 * a * b / (a + b) if a + b else 0
        assert found['hIoU'] == pytest.approx(wanted, abs=0.01)


def test_absent_classes_are_what_the_two_conventions_differ_in():
    pairs = [([[0, 1]], [[0, 0]])]
    assert evaluate(pairs, absent='ignore')['mIoU'] == 50
    assert evaluate(pairs, absent='zero')['mIoU'] == 25


def test_is_mmseg_s_with_absent_zero():
    metrics = pytest.importorskip('mmseg.evaluation')
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(0, 7, (2, 9, 9), generator=generator) for _ in range(3)]
    stock = metrics.IoUMetric()
    stock.dataset_meta = dict(classes=[str(i) for i in range(9)])
    for predicted, labels in pairs:
        stock.process({}, [sample(predicted, labels)])
    wanted = stock.compute_metrics(stock.results)
    found = evaluate([tuple(p) for p in pairs], 9, absent='zero')
    for name in ('mIoU', 'mAcc', 'aAcc'):
        assert found[name] == pytest.approx(wanted[name], abs=0.01)


def test_collapse():
    pairs = [([[0, 2, 57]], [[0, 2, 2]])]
    assert evaluate(pairs, 3, collapse=2)['mIoU'] == 100


@pytest.mark.parametrize(('classes', 'dtype'), [(4, np.uint8), (300, np.uint16)])
def test_label_maps(tmp_path, classes, dtype):
    predicted = np.full((3, 4), classes - 1)
    found = evaluate(
        [(predicted, predicted)],
        classes,
        output_dir=str(tmp_path),
        format_only=True,
        ignore_index=65535,
    )
    assert found == {}
    written = np.array(Image.open(tmp_path / 'picture.png'))
    assert written.max() == classes - 1
    assert written.astype(dtype).tolist() == predicted.tolist()


def test_label_maps_hold_predictions_beyond_the_data_set(tmp_path):
    evaluate([([[299, 3]], [[0, 0]])], output_dir=str(tmp_path), format_only=True)
    assert np.array(Image.open(tmp_path / 'picture.png')).tolist() == [[299, 3]]


def test_nothing_to_score():
    with pytest.raises(ValueError, match='no images'):
        evaluate([])


@pytest.mark.parametrize(
    ('pair', 'options', 'message'),
    [
        (([[0]], [[4]]), {}, r'labels must be classes 0..3, got \[4\] .*ignore_index is 255'),
        (([[0]], [[-1]]), {}, r'labels must be classes'),
        (([[7]], [[0]]), {}, r'picture.jpg: predictions must be classes 0..3, got \[7\]'),
        (([[0]], [[0]]), dict(classes=300), 'ignore_index must not be one of the 300 .*16'),
        (([[0]], [[0, 0]]), {}, r'predictions are \(1, 1\), labels \(1, 2\)'),
        (([[0]], [[0]]), dict(seen_classes=['x']), r"must be among the classes, got \['x'\]"),
        (([[0]], [[0]]), dict(unseen_classes=['x']), r"must be among the classes, got \['x'\]"),
        (([[0]], [[0]]), dict(unseen_classes=[], seen_classes=[]), 'got both'),
        (([[0]], [[0]]), dict(absent='none'), "absent must be .* got 'none'"),
        (([[0]], [[0]]), dict(format_only=True), 'format_only needs an output_dir'),
    ],
)
def test_bad_input(pair, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate([pair], **options)


def test_label_maps_of_one_name(tmp_path):
    """The second would overwrite the first; the same image again is no other one."""
    metric = OVIoUMetric(output_dir=str(tmp_path), format_only=True)
    metric.dataset_meta = dict(classes=['a', 'b'])
    one = sample([[0]], [[0]])
    for _ in range(2):
        metric.process({}, [one])
    other = dict(sample([[1]], [[0]]), img_path='elsewhere/picture.png')
    with pytest.raises(ValueError, match='elsewhere/picture.png and somewhere/picture.jpg would'):
        metric.process({}, [other])
    assert np.array(Image.open(tmp_path / 'picture.png')).tolist() == [[0]]
