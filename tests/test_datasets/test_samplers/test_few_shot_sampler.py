"""The same shots of each class on every rank."""

from __future__ import annotations

import random
from collections import Counter

import pytest

pytest.importorskip('mmengine')

from mmengine.dataset import BaseDataset, ConcatDataset  # noqa: E402

from hyper_mm.datasets.samplers import few_shot_sampler  # noqa: E402
from hyper_mm.datasets.samplers.few_shot_sampler import FewShotSampler  # noqa: E402
from hyper_mm.datasets.shots import draw_shots  # noqa: E402
from hyper_mm.registry import DATA_SAMPLERS  # noqa: E402

LABELS = [i % 3 for i in range(20)] + [3] * 4


class Labelled(BaseDataset):
    def load_data_list(self):
        return [dict(gt_label=label) for label in LABELS]


def sampler(rank=0, world_size=1, monkeypatch=None, dataset=None, **options):
    if monkeypatch is not None:
        monkeypatch.setattr(few_shot_sampler, 'get_dist_info', lambda: (rank, world_size))
    config = dict(type='hyper_mm.FewShotSampler', seed=0, **options)
    return DATA_SAMPLERS.build(config, default_args=dict(dataset=dataset or Labelled()))


def labels(indices):
    return [LABELS[i] for i in indices]


class TestFewShotSampler:
    def test_same_shots_of_each_class_in_every_epoch(self):
        found = sampler(shots=3)
        epochs = []
        for epoch in range(3):
            found.set_epoch(epoch)
            epochs.append(list(found))
            assert Counter(labels(epochs[-1])) == dict.fromkeys(range(4), 3)
            assert len(epochs[-1]) == len(found) == 12
        assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
        assert epochs[0] != epochs[1] != epochs[2]
        drawn = draw_shots(list(enumerate(LABELS)), 3, random.Random(1))
        assert set(epochs[0]) == {index for index, _ in drawn}
        assert set(sampler(shots=3, shots_seed=2)) != set(epochs[0])

    def test_all_images(self):
        assert sorted(sampler()) == list(range(len(LABELS)))

    @pytest.mark.parametrize('shots', [4, None])
    def test_runs(self, shots):
        found = labels(sampler(shots=shots, run=2))
        pairs = list(zip(found[::2], found[1::2]))
        # 7, 7, 6 and 4 images without shots: the two that are left over come last
        whole = len(pairs) if shots else len(pairs) - 1
        assert all(a == b for a, b in pairs[:whole])
        assert len(set(found[: len(found) // 2 : 2])) > 1

    @pytest.mark.parametrize('run', [1, 2, 3])
    @pytest.mark.parametrize('world_size', [2, 5])
    def test_ranks(self, monkeypatch, run, world_size):
        parts = []
        for rank in range(world_size):
            found = sampler(rank, world_size, monkeypatch, run=run)
            parts.append(list(found))
            assert len(parts[-1]) == len(found)
        assert len({len(part) for part in parts}) == 1
        times = Counter(index for part in parts for index in part)
        assert set(times) == set(range(len(LABELS))) and max(times.values()) <= 2

    def test_more_ranks_than_images(self, monkeypatch):
        parts = [list(sampler(rank, 40, monkeypatch, shots=1)) for rank in (0, 4, 39)]
        assert {len(part) for part in parts} == {1}

    def test_concatenated_sets(self):
        both = ConcatDataset([Labelled(), Labelled()])
        found = list(sampler(dataset=both, shots=8))
        assert Counter(LABELS[i % len(LABELS)] for i in found) == dict.fromkeys(range(4), 8)

    @pytest.mark.parametrize(
        'options, message',
        [
            (dict(shots=0), 'shots'),
            (dict(run=0), 'run'),
            (dict(shots=5), r'classes \[3\] have fewer than shots=5'),
        ],
    )
    def test_bad_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            FewShotSampler(Labelled(), seed=0, **options)
