"""Dice and 95 % Hausdorff distance."""

import csv
import math
import warnings

import numpy as np
import pytest
import torch

from hyper_mm.registry import METRICS

pytest.importorskip('monai')
pytest.importorskip('scipy')


def evaluate(pairs, names=('background', 'one', 'two'), **options):
    metric = METRICS.build(dict(type='hyper_mm.DiceHausdorffMetric', **options))
    metric.dataset_meta = dict(classes=names)
    for predicted, labels in pairs:
        predicted, labels = torch.as_tensor(predicted), torch.as_tensor(labels)
        sample = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=labels[None]))
        metric.process({}, [sample])
    return metric.evaluate(len(pairs))


def squares(*places, size=20):
    """A label map with a square of 8 x 8 pixels of class 1 with its corner at each place."""
    labels = torch.zeros(size, size + 5, dtype=torch.long)
    for y, x in places:
        labels[y : y + 8, x : x + 8] = 1
    return labels


def edge(mask):
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.argwhere(mask & ~inner)


@pytest.mark.parametrize('spacing', [1.0, (0.5, 2.0)])
@pytest.mark.parametrize('percentile', [95, 100])
def test_equals_all_pairs_of_the_edges(percentile, spacing):
    draw = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(3):
        noise = torch.rand(2, 20, 25, generator=draw)
        smooth = torch.nn.functional.avg_pool2d(noise[:, None], 5, 1, 2)[:, 0]
        pairs.append((smooth > 0.5).long())
    found = evaluate(pairs, percentile=percentile, spacing=spacing)
    dice, distances = [], []
    for p, g in pairs:
        p, g = p.numpy() == 1, g.numpy() == 1
        dice.append(200 * (p & g).sum() / (p.sum() + g.sum()))
        d = (edge(p)[:, None] - edge(g)) * np.broadcast_to(spacing, 2)
        d = np.sqrt((d**2).sum(-1))
        distances.append(max(np.percentile(d.min(k), percentile) for k in (0, 1)))
    assert found['dice'] == pytest.approx(np.mean(dice))
    assert found[f'hd{percentile}'] == pytest.approx(np.mean(distances), rel=1e-5)
    assert found['dice/one'] == found['dice'] and math.isnan(found['dice/two'])


def test_shifted_square():
    found = evaluate([(squares((4, 4)), squares((4, 7)))], percentile=100)
    assert found['dice/one'] == pytest.approx(100 * 5 / 8) and found['hd100/one'] == 3


def test_empty_structures():
    empty, full = squares(), squares((4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for pair in ((empty, full), (full, empty)):
            found = evaluate([pair, (empty, empty), (full, full)])
            assert found['dice'] == 50 and found['hd95'] == pytest.approx(math.hypot(20, 25) / 2)
        found = evaluate([(empty, empty)])
    assert math.isnan(found['dice']) and math.isnan(found['hd95'])


def test_nested_structures_and_largest_component():
    labels = squares((4, 4))
    labels[6:9, 6:9] = 2
    options = dict(structures=dict(disc=[1, 2], cup=[2]))
    found = evaluate([(squares((4, 4)), labels)], **options)
    assert found['dice/disc'] == 100 and found['hd95/disc'] == 0 and found['dice/cup'] == 0
    scattered = labels.clone()
    scattered[17:19, 20:23] = 1
    assert evaluate([(scattered, labels)], **options)['dice/disc'] < 100
    found = evaluate([(scattered, labels)], largest_component=True, **options)
    assert found['dice'] == 100 and found['hd95'] == 0


def test_pixels_without_a_label_do_not_count():
    labels = squares((4, 4))
    labels[:, 15:] = 255
    predicted = squares((4, 4), (10, 16))
    assert evaluate([(predicted, labels)])['dice'] == 100


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(percentile=0), 'percentile'),
        (dict(spacing=(1, 0)), 'spacing'),
        (dict(spacing=(1, 1, 1)), 'spacing'),
        (dict(structures=dict(cup=[3])), 'structures'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate([(squares(), squares())], **options)
    with pytest.raises(ValueError, match='predictions'):
        evaluate([(squares(), squares(size=9))])


def test_pixels_of_the_ignored_label_do_not_count():
    predicted, labels = squares((4, 4)), squares((4, 4))
    predicted[0, :3], labels[0, :3] = 1, 7
    assert evaluate([(predicted, labels)], ignore_index=7)['dice/one'] == 100


def test_cases_are_written_for_each_image(tmp_path):
    file = tmp_path / 'new' / 'cases.csv'
    empty = squares()
    pairs = [(squares((2, 3)), squares((2, 4))), (empty, squares((0, 0))), (empty, empty)]
    metric = METRICS.build(dict(type='hyper_mm.DiceHausdorffMetric', cases=str(file)))
    metric.dataset_meta = dict(classes=('background', 'one'))
    for i, (predicted, labels) in enumerate(pairs):
        sample = dict(pred_sem_seg=dict(data=predicted[None]), gt_sem_seg=dict(data=labels[None]))
        metric.process({}, [dict(sample, img_path=f'{i}.png')])
    found = metric.evaluate(3)
    with file.open() as stream:
        rows = [*csv.DictReader(stream)]
    assert [row['image'] for row in rows] == ['0.png', '1.png', '2.png']
    assert float(rows[0]['dice']) == 87.5 and float(rows[0]['hd95']) == 1
    assert float(rows[1]['dice']) == 0 and rows[2]['dice'] == rows[2]['hd95'] == ''
    assert found['dice'] == 87.5 / 2
