"""The study of Hi-Mapper from pretrained weights: equal budgets, and what its tables say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('mmseg')

from mmengine.registry import MODELS  # noqa: E402

from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.chdir(REPO)
    return load_tool('experiments/himapper_study.py')


@pytest.mark.parametrize(
    'options',
    [
        ['--sets', 'moon'],
        ['--arms', 'magic'],
        ['--iterations', '1'],
        ['--minutes', '0'],
        ['--rates', '0'],
        ['--tune-seed', '0'],
    ],
)
def test_bad_arguments(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
    assert options[0] in capsys.readouterr().err


def size(config) -> int:
    return sum(p.numel() for p in MODELS.build({**config, 'neck': None}).parameters())


@pytest.mark.parametrize('name', ['camvid', 'bccd'])
def test_plain_blocks_have_as_many_parameters(tool, tmp_path, name):
    args = tool.parse_args(['--work-dir', str(tmp_path)])
    ours, blocks = (
        tool.build_config(tool.Run(name, arm, 0), args).model.neck
        for arm in ('recommended', 'plain blocks')
    )
    assert size(blocks) == pytest.approx(size(ours), rel=2e-3)
    assert blocks.level == ours.level and blocks.get('neck') == ours.get('neck')


def test_plain_blocks_of_a_classifier_pool(tool, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path)])
    ours = tool.build_config(tool.Run('tiny-imagenet', 'recommended', 0), args).model.neck
    blocks = tool.build_config(tool.Run('tiny-imagenet', 'plain blocks', 0), args).model.neck
    assert blocks.pool
    found, wanted = (
        sum(p.numel() for p in MODELS.build(neck).parameters()) for neck in (blocks, ours)
    )
    assert found == pytest.approx(wanted, rel=2e-3)


def test_arms_differ_in_the_model_alone(tool, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path), '--iterations', '7'])
    for name, data in tool.SETS.items():
        plain = tool.build_config(tool.Run(name, 'plain', 3), args)
        assert plain.train_cfg.max_iters == plain.param_scheduler[-1].end == 7
        assert plain.train_dataloader.batch_size == data.batch
        for arm in tool.ARMS:
            cfg = tool.build_config(tool.Run(name, arm, 3), args)
            for part in ('train_dataloader', 'val_dataloader', 'optim_wrapper', 'param_scheduler',
                         'train_cfg', 'randomness'):  # fmt: skip
                assert cfg[part] == plain[part], (name, arm, part)
            assert cfg.model.backbone == plain.model.backbone


def test_every_arm_builds(tool, tmp_path):
    args = tool.parse_args(['--work-dir', str(tmp_path)])
    for arm in tool.ARMS:
        neck = tool.build_config(tool.Run('camvid', arm, 0), args).model.get('neck')
        assert (neck is None) == (arm == 'plain')
        if neck is not None:
            MODELS.build(neck)


def test_differences_are_paired_by_seed(tool, tmp_path):
    arms = ['plain', 'plain blocks', 'recommended']
    args = tool.parse_args(['--sets', 'camvid', '--arms', *arms, '--seeds', '0', '1', '2'])
    hierarchy = dict(image_cosine=0.5, sibling_cosine=0.25, radius_1=3.0)
    results = {
        tool.Run('camvid', arm, seed): dict(metric=10 * seed + gain, parameters=5, seconds=1.0)
        for seed in (0, 1)
        for arm, gain in zip(arms, (0.0, 1.0, 3.0 + seed))
    }
    for seed in (0, 1):
        results[tool.Run('camvid', 'recommended', seed)]['hierarchy'] = hierarchy
    first, third = (tool.Run('camvid', 'plain', seed) for seed in (0, 2))
    results[third] = results[first]  # not all arms have it
    text = tool.report(args, results)
    assert '| arm | seed 0 | seed 1 | mIoU | against plain | against plain blocks |' in text
    assert (
        '| recommended | 3.00 | 14.00 | 8.50 ± 5.50 | 3.50 ± 0.50 | 2.50 ± 0.50 | 5 | 1 |' in text
    )
    assert '| recommended | 0.50 | 0.25 | 3.00 |' in text


def test_no_run_begins_after_the_time(tool, tmp_path, monkeypatch):
    args = tool.parse_args(
        ['--sets', 'camvid', '--arms', 'plain', '--seeds', '0', '1', '--minutes', '1',
         '--work-dir', str(tmp_path)]
    )  # fmt: skip
    clock = iter([0.0, 10.0, 100.0])
    monkeypatch.setattr(tool, 'time', SimpleNamespace(time=lambda: next(clock)))
    monkeypatch.setattr(tool, 'result_of', lambda job, args: dict(metric=1.0))
    assert list(tool.run_all(args)) == [tool.Run('camvid', 'plain', 0)]


def test_rates_are_chosen_on_the_other_half(tool, tmp_path, monkeypatch):
    """By the seed and the images that are not reported; each arm has its own."""
    args = tool.parse_args(
        ['--sets', 'camvid', '--arms', 'plain', 'recommended', '--seeds', '0', '1', '--rates', '1',
         '4', '16', '--work-dir', str(tmp_path)]
    )  # fmt: skip
    best = {'plain': 16.0, 'recommended': 4.0}

    def result(run, args):
        metric = run.seed + (50.0 if run.rate == best[run.arm] else run.rate)
        return dict(metric=metric, parameters=5, seconds=1.0)

    monkeypatch.setattr(tool, 'result_of', result)
    results = tool.run_all(args)
    tuned = {run for run in results if run.half == 0}
    assert {run.seed for run in tuned} == {100} and len(tuned) == 6
    reported = {(run.arm, run.seed): run.rate for run in results if run.half == 1}
    assert reported == {(arm, seed): rate for arm, rate in best.items() for seed in (0, 1)}
    text = tool.report(args, results)
    assert '| plain | 50.00 | 51.00 |' in text
    assert '| plain | 101.00 | 104.00 | 150.00 | 16 |' in text
    assert '| recommended | 101.00 | 150.00 | 116.00 | 4 |' in text


@pytest.mark.parametrize('name', ['camvid', 'bccd'])
def test_halves_of_the_validation_images(tool, tmp_path, data_dir, monkeypatch, name):
    monkeypatch.setenv('HYPER_MM_DATA', str(data_dir))
    args = tool.parse_args(['--work-dir', str(tmp_path)])
    whole = tool.build_config(tool.Run(name, 'plain', 0), args)
    halves = [tool.build_config(tool.Run(name, 'plain', 0, 4.0, half), args) for half in (0, 1)]
    images = [cfg.val_dataloader.dataset.indices for cfg in halves]
    assert sorted(sum(images, [])) == list(range(tool.validation_images(name)))
    assert len({cfg.work_dir for cfg in (whole, *halves)}) == 3
    for cfg in halves:
        assert cfg.optim_wrapper.optimizer.lr == 4 * whole.optim_wrapper.optimizer.lr
        assert 'ann_file' not in cfg.val_evaluator  # of COCO's metric: it has all images
