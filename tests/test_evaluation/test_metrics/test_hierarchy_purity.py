import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, PixelData

from hyper_mm.datasets.part_scenes.taxonomy import PART_CLASSES
from hyper_mm.evaluation.metrics.hierarchy_purity import HierarchyPurity
from tests.helpers import runs

WHOLES = [0, 0, 1, 1]


def one_hot(nodes, count):
    return torch.nn.functional.one_hot(nodes, count).movedim(-1, 0).float()


def sample(leaf, labels, features=None, nodes=(4, 2), **more):
    """A data sample whose assignment is hard; upper levels follow the leaves."""
    levels = [one_hot(leaf * count // nodes[0], count) for count in nodes]
    features = torch.randn(8, *leaf.shape) if features is None else features
    found = PixelData(
        metainfo=dict(input_shape=tuple(labels.shape)),
        features=features,
        **{f'assignment_{k}': level for k, level in enumerate(levels, 1)},
    )
    data = BaseDataElement(metainfo=dict(img_shape=tuple(labels.shape), **more))
    data.set_field(found, 'hierarchy')
    data.set_field(PixelData(data=labels[None]), 'gt_sem_seg')
    return data.to_dict()


def score(samples, **kwargs):
    metric = HierarchyPurity(**{'taxonomy': WHOLES, 'baselines': (), **kwargs})
    metric.process({}, samples)
    return metric.compute_metrics(metric.results)


def test_perfect_assignments_score_one():
    labels = torch.randint(4, (3, 8, 8))
    scores = score([sample(x, x) for x in labels])
    ones = ('leaf_purity', 'leaf_purity_bal', 'whole_purity', 'containment')
    assert [scores[name] for name in (*ones, 'triplet_part', 'triplet_whole')] == [1] * 6
    assert 3.5 < scores['leaves_used'] <= 4


def test_random_assignments_are_at_chance():
    samples = [sample(torch.randint(4, (64, 64)), torch.randint(4, (64, 64))) for _ in range(4)]
    scores = score(samples, baselines=('shuffled', 'random'))
    for suffix in ('', '_random'):
        assert scores['leaf_purity' + suffix] == pytest.approx(0.25, abs=0.05)
        assert scores['triplet_part' + suffix] == pytest.approx(0, abs=0.02)
    assert scores['triplet_whole_shuffled'] == pytest.approx(0, abs=0.02)
    assert scores['containment_shuffled'] < 0.9


def test_scores_by_hand():
    labels = torch.tensor([[0, 0, 0, 1], [2, 2, 3, 255]])
    leaf = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 3]])
    scores = score([sample(leaf, labels)])
    # leaf 0: two of part 0; leaf 1: one of two; leaf 2: two of three; the void pixel does not count
    assert scores['leaf_purity'] == pytest.approx(5 / 7, abs=1e-4)
    assert scores['whole_purity'] == 1
    assert scores['containment'] == 1


def test_containment_counts_pixels_outside_their_parent():
    data = sample(torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 3]]))
    data['hierarchy']['assignment_2'] = one_hot(torch.tensor([[0, 1, 1, 1]]), 2)
    assert score([data])['containment'] == pytest.approx(0.75)


def test_kmeans_finds_separable_parts_and_wholes():
    labels = torch.randint(4, (32, 32))
    parts = 3 * torch.randn(2, 8).repeat_interleave(2, 0) + 0.5 * torch.randn(4, 8)
    features = (parts[labels] + 0.01 * torch.randn(32, 32, 8)).movedim(-1, 0)
    scores = score([sample(torch.randint(4, (32, 32)), labels, features)], baselines=('kmeans',))
    assert scores['leaf_purity'] < 0.4
    for name in ('leaf_purity', 'whole_purity', 'triplet_part', 'triplet_whole'):
        assert scores[f'{name}_kmeans'] == 1, name


def test_baselines_depend_on_their_seed_alone():
    samples = [sample(torch.randint(4, (16, 16)), torch.randint(4, (16, 16))) for _ in range(2)]
    names = ('shuffled', 'random', 'kmeans')
    assert score(samples, baselines=names, seed=3) == score(samples, baselines=names, seed=3)
    assert score(samples, baselines=names, seed=3) != score(samples, baselines=names, seed=4)


def test_padding_is_left_out():
    # an image of 8 x 4 pixels in an input of 8 x 8, with one position a 2 x 2 pixels
    leaf = torch.tensor([[0, 1, 3, 3]]).expand(4, 4)
    labels = torch.tensor([0, 0, 1, 1]).expand(8, 4)
    data = sample(leaf, labels)
    data['hierarchy']['input_shape'] = (8, 8)
    assert score([data])['leaf_purity'] == 1
    # labels of the original image, of twice the size
    data['gt_sem_seg']['data'] = labels.repeat_interleave(2, 0).repeat_interleave(2, 1)[None]
    assert score([data])['leaf_purity'] == 1


def test_stride_looks_at_fewer_pixels():
    labels = torch.full((8, 8), 255)
    labels[::2, ::2] = torch.randint(4, (4, 4))
    metric = HierarchyPurity(taxonomy=WHOLES, stride=2)
    metric.process({}, [sample(torch.randint(4, (4, 4)), labels)])
    assert metric.results[0]['labels'].tolist() == labels[::2, ::2].flatten().tolist()


def test_an_image_without_labels_does_not_count():
    labels = torch.randint(4, (8, 8))
    void = sample(torch.randint(4, (8, 8)), torch.full((8, 8), 255))
    assert score([void, sample(labels, labels)])['leaf_purity'] == 1
    with pytest.raises(ValueError, match='no labeled pixel'):
        score([void])


def test_ignore_index_names_the_pixels_that_are_left_out():
    labels = torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]])
    leaf = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 2]])
    data = [sample(leaf, labels)]
    # leaf 2: two of four pixels are of its majority, all of them without part 3
    assert score(data)['leaf_purity'] == 0.75
    assert score(data, ignore_index=3)['leaf_purity'] == 1
    void = [sample(leaf, labels.where(labels != 3, 7))]
    assert score(void, ignore_index=7) == score(data, ignore_index=3)
    with pytest.raises(ValueError, match=r'or ignore_index=255, got \[0, 7\]'):
        score(void)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(taxonomy='parts'), 'taxonomy must be'),
        (dict(taxonomy=[]), 'taxonomy must be'),
        (dict(taxonomy=[0.5]), 'taxonomy must be'),
        (dict(baselines=('k-means',)), 'baselines must be among'),
        (dict(repeats=0), 'repeats must be'),
        (dict(stride=1.5), 'stride must be'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        HierarchyPurity(**options)


def test_bad_samples():
    leaf = labels = torch.zeros(4, 4, dtype=torch.long)
    cases = {
        'no hierarchy': lambda x: x.pop('hierarchy'),
        'no gt_sem_seg': lambda x: x.pop('gt_sem_seg'),
        'got .0, 9.': lambda x: x['gt_sem_seg'].update(
            data=(labels + 9 * torch.eye(4).long())[None]
        ),
        'not finite': lambda x: x['hierarchy']['assignment_1'].fill_(np.nan),
        'must divide': lambda x: x['hierarchy'].update(assignment_2=torch.ones(3, 4, 4)),
        'no assignment': lambda x: [x['hierarchy'].pop(f'assignment_{k}') for k in (1, 2)],
        'flipped': lambda x: x.update(flip=True),
    }
    for message, spoil in cases.items():
        data = sample(leaf, labels)
        spoil(data)
        with pytest.raises(ValueError, match=message):
            score([data])
    with pytest.raises(ValueError, match='different sizes'):
        score([sample(leaf, labels), sample(leaf, labels, nodes=(4, 2, 1))])


@pytest.mark.mmseg
def test_through_a_test_loop(tmp_path):
    root = runs.make_data(tmp_path / 'data')
    evaluator = dict(type='hyper_mm.HierarchyPurity', repeats=2)
    path = runs.write_config(
        tmp_path, root, test_evaluator=dict(_delete_=True, **evaluator), work_dir=str(tmp_path)
    )
    config = Config.fromfile(path)
    # sizes that differ from the patches', so that test images are padded
    config.model.data_preprocessor.test_cfg = dict(size_divisor=48)
    config.model.neck.keep_hierarchy = True
    scores = Runner.from_cfg(config).test()
    assert 0 < scores['hierarchy/leaf_purity'] <= 1
    assert scores['hierarchy/leaf_purity_kmeans'] >= scores['hierarchy/leaf_purity'] - 0.2
    assert scores['hierarchy/leaves_used'] <= 8
    assert len(PART_CLASSES) == len(HierarchyPurity().wholes)


def test_processes_add_up():
    """What two processes keep is what one keeps, and survives the way between them."""
    labels = torch.randint(4, (4, 8, 8))
    samples = [sample(torch.randint(4, (8, 8)), x) for x in labels]
    metrics = [HierarchyPurity(taxonomy=WHOLES) for _ in range(3)]
    metrics[0].process({}, samples)
    metrics[1].process({}, samples[::2])
    metrics[2].process({}, samples[1::2])
    shares = (pickle.loads(pickle.dumps(metric.results)) for metric in metrics[1:])
    together = [result for pair in zip(*shares) for result in pair]
    assert metrics[0].compute_metrics(together) == metrics[0].compute_metrics(metrics[0].results)


@pytest.mark.mmseg
def test_ade20k_labels_name_their_wholes():
    pytest.importorskip('mmseg')
    nodes = torch.randint(4, (8, 8))
    # two objects of two parts each, of which one is the rest of the object
    labels = torch.tensor([700 * 4096, 700 * 4096 + 31, 9 * 4096 + 31, 9 * 4096 + 2])[nodes]
    scores = score([sample(nodes, labels)], taxonomy='ade20k_parts')
    assert scores['leaf_purity'] == scores['whole_purity'] == scores['triplet_whole'] == 1


def test_super_categories_of_a_file_are_wholes(tmp_path):
    import json

    file = tmp_path / 'classes.json'
    names = ('animal', 'vehicle', 'animal', 'ground')
    categories = [dict(id=7 + i, name=str(i), supercategory=n) for i, n in enumerate(names)]
    file.write_text(json.dumps(dict(categories=categories)))
    wholes = HierarchyPurity(str(file)).wholes
    assert wholes[0] == wholes[2] and len(set(wholes)) == 3
    file.write_text(json.dumps(dict(categories=[dict(id=1)])))
    with pytest.raises(ValueError, match="must hold 'categories', each with a 'supercategory'"):
        HierarchyPurity(str(file))
