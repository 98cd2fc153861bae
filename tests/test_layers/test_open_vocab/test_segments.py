import pytest
import torch

from hyper_mm.layers.open_vocab.segments import (
    INSTANCE_OFFSET,
    best_instances,
    panoptic_map,
    semantic_map,
)

THINGS = torch.tensor([True, True, False])


def scene():
    """Two things of a class side by side, stuff below in two parts, and a query of nothing."""
    masks = torch.full((5, 6, 8), -9.0)
    masks[0, :3, :4] = 9
    masks[1, :3, 4:] = 9
    masks[2, 3:, :4] = 9
    masks[3, 3:, 4:] = 9
    masks[4] = 9
    rows = [
        [0.9, 0, 0, 0.1],
        [0.8, 0.1, 0, 0.1],
        [0, 0, 0.9, 0.1],
        [0, 0.1, 0.8, 0.1],
        [0, 0, 0, 1],
    ]
    return torch.tensor(rows), masks


def test_panoptic():
    found = panoptic_map(*scene(), THINGS, 0.5)
    assert found.dtype == torch.int32
    assert found[:3, :4].unique().tolist() == [0 + INSTANCE_OFFSET]
    assert found[:3, 4:].unique().tolist() == [0 + 2 * INSTANCE_OFFSET]
    assert found[3:].unique().tolist() == [2]  # both parts are one segment


def test_panoptic_thresholds():
    probabilities, masks = scene()
    found = panoptic_map(probabilities, masks, THINGS, 0.85)
    assert found[:3, 4:].unique().tolist() == [3] and found[3:, 4:].unique().tolist() == [3]
    nothing = panoptic_map(probabilities, masks, THINGS, 1.0)
    assert nothing.unique().tolist() == [3]
    masks[1] = 9.0  # half of it belongs to others now
    covered = panoptic_map(probabilities, masks, THINGS, 0.5, 0.8)
    assert not (covered == 2 * INSTANCE_OFFSET).any()


def test_masks_that_are_nowhere():
    probabilities, masks = scene()
    masks[:] = -9
    assert panoptic_map(probabilities, masks, THINGS, 0.5).unique().tolist() == [3]
    assert len(best_instances(probabilities, masks, THINGS).scores) == 0


def test_instances():
    probabilities, masks = scene()
    found = best_instances(probabilities, masks, THINGS, 3)
    assert found.classes.tolist()[:2] == [0, 0]
    quality = torch.tensor(9.0).sigmoid()
    torch.testing.assert_close(found.scores[:2], torch.tensor([0.9, 0.8]) * quality)
    assert torch.equal(found.masks[0], masks[0] > 0)
    assert not THINGS[found.classes].logical_not().any()


def test_semantic(monkeypatch):
    probabilities, masks = scene()
    expected = torch.zeros(6, 8, dtype=torch.long)
    expected[3:] = 2
    assert torch.equal(semantic_map(probabilities, masks), expected)
    monkeypatch.setattr('hyper_mm.layers.open_vocab.segments.CLASSES_AT_A_TIME', 1)
    assert torch.equal(semantic_map(probabilities, masks), expected)


def test_bad_values():
    probabilities, masks = scene()
    with pytest.raises(ValueError, match='things'):
        panoptic_map(probabilities, masks, THINGS[:2])
    with pytest.raises(ValueError, match='overlap_threshold'):
        panoptic_map(probabilities, masks, THINGS, 0.5, 1.5)
    with pytest.raises(ValueError, match='keep'):
        best_instances(probabilities, masks, THINGS, 0)
    many = torch.zeros(5, INSTANCE_OFFSET + 1)
    with pytest.raises(ValueError, match='panoptic_on=False'):
        panoptic_map(many, masks, torch.ones(INSTANCE_OFFSET, dtype=torch.bool))
