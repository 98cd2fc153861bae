"""The table of what helps on another domain: budgets, configs, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('mmseg')

from PIL import Image  # noqa: E402

from hyper_mm.engine.launch import innermost_datasets  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def tool():
    return load_tool('experiments/run_transfer.py')


@pytest.fixture
def data(tmp_path, monkeypatch):
    for site, count in (('stained_light', 2), ('brightfield', 3), ('stained_tissue', 4)):
        folder = tmp_path / 'nuclei' / site / 'images' / 'train'
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f'{i}.jpg')
    monkeypatch.setenv('HYPER_MM_DATA', str(tmp_path))


def test_equal_outer_images_and_styles_by_task(tool, data, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path), '--iterations', '9'])
    for arm in tool.ARMS:
        cfg = tool.build_config(arm, 4, args)
        batch, episode = cfg.train_dataloader.batch_size, cfg.train_dataloader.dataset
        outer = batch if arm.startswith('plain') else batch * episode.n_query
        assert outer == 6, arm
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 9
        sets = [part for _, part in innermost_datasets(episode, '')]
        assert {site for part in sets for site in part.sites} == set(tool.SOURCES)
        in_pipeline = any(t.type.endswith('RandomStyle') for t in sets[0].pipeline)
        if arm.startswith('plain'):
            assert in_pipeline == ('style' in arm)
        else:  # one for the whole task, not one for each image
            assert not in_pipeline and episode.style is not None and episode.seed == 4
            assert not episode.allow_single_domain
        backbone = (cfg.model.get('model') or cfg.model).backbone
        assert ('TIMM' in backbone.type) == ('pretrained' in arm)
        assert tool.BASE[arm] in tool.ARMS


def test_targets_are_not_trained_on_and_the_same_for_all(tool, data, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path)])
    assert not {*tool.TARGETS} & {*tool.SOURCES}
    for target in tool.TARGETS:
        for shots in tool.SHOTS:
            first, *others = (
                tool.test_episodes(target, shots, tool.build_config(arm, 0, args), args)
                for arm in tool.ARMS
            )
            assert all(other == first for other in others)
            assert first['k_shot'] == shots and first['dataset']['sites'] == [target]


def test_report_pairs_by_seed_and_chooses_rates_alike(tool, tmp_path):
    arms = ['plain, style', 'FOMAML, style']
    args = tool.parse_args(['--arms', *arms, '--seeds', '0', '1', '--targets', 'membrane'])
    results = {}
    for seed in (0, 1):
        for arm, better in (('plain, style', 0.0), ('FOMAML, style', 5.0)):
            dice = {'membrane, 0': 10.0 * seed + better}
            for shots in (1, 5):
                dice[f'membrane, {shots}, 0.1'] = 50.0 + 10 * seed
                dice[f'membrane, {shots}, 0.3'] = 52.0 + 10 * seed + better
            results[arm, seed] = dict(dice=dice)
    text = tool.report(args, results)
    assert '| FOMAML, style | - | 10.0 ± 5.0 | 5.0 ± 0.0 |' in text
    assert '| FOMAML, style | 0.3 | 62.0 ± 5.0 | 5.0 ± 0.0 |' in text
    assert '| plain, style | 0.3 | 57.0 ± 5.0 |  |' in text
    assert 'With 5 labeled images' in text and 'With 1 labeled image\n' in text
    assert '150 steps' in tool.protocol(args)


def test_dice_is_over_all_pixels(tool):
    import torch
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    samples = [
        SegDataSample(
            pred_sem_seg=PixelData(data=torch.tensor([[p]])),
            gt_sem_seg=PixelData(data=torch.tensor([[g]])),
        )
        for p, g in (([1, 1, 0], [1, 0, 0]), ([0, 1, 0], [0, 1, 1]))
    ]
    assert tool.dice_of(samples) == pytest.approx(200 * 2 / 6)


@pytest.mark.parametrize('options', [['--arms', 'x'], ['--iterations', '0'], ['--minutes', '0']])
def test_bad_arguments(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
    assert options[0] in capsys.readouterr().err
