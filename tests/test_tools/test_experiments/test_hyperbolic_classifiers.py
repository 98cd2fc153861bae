"""The study of classifiers of frozen features."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hyper_mm.layers.taxonomy import Taxonomy
from tests.helpers.tools import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/hyperbolic_classifiers.py')


def features(num_classes, width=12):
    torch.manual_seed(0)
    labels = torch.arange(num_classes).repeat(6)
    x = torch.randn(num_classes, width)[labels] + 0.1 * torch.randn(len(labels), width)
    return dict(train=(x, labels), val=(x, labels))


@pytest.mark.parametrize(
    ('arm', 'loss'),
    [
        ('linear', 'levels'),
        ('euclidean', 'softmax'),
        ('lorentz', 'levels'),
        ('lorentz', 'softmax'),
        ('lorentz', 'tree_min'),
        ('poincare', 'no'),
        ('clipped', 'levels'),
    ],
)
def test_every_arm_learns_separable_classes(tool, arm, loss):
    tree = Taxonomy.load({'a': ['b', 'c'], 'd': ['e', 'f']})
    args = SimpleNamespace(steps=80, batch=24)
    job = dict(arm=arm, dim=3, tree=loss, rate=0.03, seed=0, split='val')
    row = tool.train(job, features(4), tree, args)
    assert set(row) == set(tool.FIELDS)
    assert row['accuracy'] > 90


def test_runs_go_on_and_make_a_table(tool, tmp_path, monkeypatch):
    torch.save(features(160), tmp_path / 'tiny_imagenet.pt')
    calls = []
    train = tool.train
    monkeypatch.setattr(tool, 'train', lambda job, *rest: calls.append(job) or train(job, *rest))
    words = ['train', 'tiny_imagenet', '--folder', str(tmp_path), '--steps', '2', '--dims', '2']
    words += ['--rates', '1e-2', '--seeds', '2']
    tool.main(words)
    assert len(calls) == 4 * (1 + 2 * 2)
    rows = tool.read_rows(tmp_path / 'tiny_imagenet.csv')
    assert {row['split'] for row in rows} == {'tune', 'val'}
    tool.main(words)
    assert len(calls) == len(rows)
    report = tool.table('tiny_imagenet', tmp_path)
    assert report.count('\n| ') == 1 + 4 * 2
    assert '±' in report
    tool.main([*words, '--rates', '1e-2', '3e-2', '--arms', 'euclidean', '--trees', 'softmax'])
    own = [
        row for row in tool.read_rows(tmp_path / 'tiny_imagenet.csv') if row['tree'] == 'softmax'
    ]
    assert len(own) == 2 + 2  # rates of its own, then the seeds


def test_fifth_of_the_training_set_is_held_out(tool):
    """The validation set of a tuning run is not looked at."""
    tree = Taxonomy.load({'a': ['b', 'c'], 'd': ['e', 'f']})
    data = features(4)
    data['val'] = (torch.full((3, 12), torch.nan), torch.zeros(3, dtype=torch.long))
    job = dict(arm='linear', dim=0, tree='no', rate=0.03, seed=0, split='tune')
    assert tool.train(job, data, tree, SimpleNamespace(steps=40, batch=16))['accuracy'] > 50
