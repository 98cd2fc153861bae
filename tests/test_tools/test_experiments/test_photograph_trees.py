"""Trees on photographs: arms, classes on words, scores and the table."""

from __future__ import annotations

import json

import pytest
import torch

from tests.helpers.tools import load_tool

NAMES = ('animal', 'vehicle', 'ground')


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """The script with three super-categories of the 133 classes, and a small tree."""
    root = tmp_path / 'coco133_sem'
    root.mkdir()
    categories = [dict(supercategory=NAMES[i % 3]) for i in range(133)]
    (root / 'classes.json').write_text(json.dumps(dict(categories=categories)))
    monkeypatch.setenv('HYPER_MM_DATA', str(tmp_path))
    tool = load_tool('experiments/photograph_trees.py')
    monkeypatch.setattr(tool, 'TREE', dict(num_leaves=4, num_levels=2))
    monkeypatch.setattr(tool, 'SIZE', (24, 32))
    return tool


def data(seed=0):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 6, (9, 24, 32), generator=draw)
    labels[:, :2] = 255
    return torch.randn(9, 8, 6, 8, generator=draw), labels


@pytest.mark.parametrize('options', [['--arms', 'magic'], ['--steps', '0'], ['--images', '0']])
def test_bad_arguments(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
    assert options[0] in capsys.readouterr().err


def test_every_arm_trains_and_is_scored(tool):
    for arm in tool.ARMS:
        module = tool.train(arm, 0, 2, *data())
        scores = tool.score(module, *data(1), seed=0)
        assert set(tool.SCORES) <= set(scores)
        assert {'triplet_whole_kmeans', 'image_cosine', 'sibling_cosine'} <= set(scores)


def test_upper_levels_are_taught_super_categories(tool):
    wholes = tool.wholes_of_classes()
    words = tool.Words(8, [torch.arange(133), wholes])
    assert [head.out_features for head in words.heads] == [133, 3]
    mean, share = torch.randn(4, 8), torch.rand(1, 4, 5).softmax(1)
    labels = torch.tensor([[0, 3, 6, 132, 255]])
    loss = words([(mean, None)] * 2, (share, share), labels)
    logits = words.heads[1](words.norms[1](share.mT @ mean))[0, :4]
    upper = torch.nn.functional.cross_entropy(logits, wholes[labels[0, :4]])
    logits = words.heads[0](words.norms[0](share.mT @ mean))[0, :4]
    lower = torch.nn.functional.cross_entropy(logits, labels[0, :4])
    torch.testing.assert_close(loss, (upper + lower) / 2)


def test_finished_rows_are_not_made_again(tool, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(tool, 'features_of', lambda part, count: data())
    monkeypatch.setattr(tool, 'train', lambda *args: calls.append(args[:2]))
    monkeypatch.setattr(tool, 'score', lambda *args: dict.fromkeys(
        [*tool.SCORES, *(f'{s}_kmeans' for s in tool.SCORES), 'containment', 'leaves_used',
         'leaves_used_kmeans', 'image_cosine', 'sibling_cosine'], 0.5))  # fmt: skip
    args = tool.parse_args(['--seeds', '0', '1', '--arms', 'paper', '--work-dir', str(tmp_path)])
    text = tool.table(tool.rows_of(args))
    assert calls == [('paper', 0), ('paper', 1)]
    assert tool.table(tool.rows_of(args)) == text and len(calls) == 2
    assert '| paper | 0.500 ± 0.000 |' in text and '| k-means, Ward |' in text
