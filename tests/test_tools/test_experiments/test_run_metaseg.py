"""The tables of left-out domains: budgets, configs, what is kept, and one whole short run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('mmseg')

from PIL import Image  # noqa: E402

from hyper_mm.engine import runs  # noqa: E402
from hyper_mm.engine.launch import innermost_datasets  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Images of 64 x 64 with a bright square as foreground."""
    root = tmp_path / 'data'
    draw = np.random.default_rng(0)
    for name in ('fluorescence', 'stained_light', 'brightfield', 'stained_tissue'):
        for part, count in (('train', 4), ('val', 9)):
            for kind in ('images', 'annotations'):
                (root / 'nuclei' / name / kind / part).mkdir(parents=True)
            for i in range(count):
                label = np.zeros((64, 64), np.uint8)
                y, x = draw.integers(0, 40, 2)
                label[y : y + 24, x : x + 24] = 1
                image = draw.integers(0, 60, (64, 64, 3)) + 150 * label[..., None]
                folder = root / 'nuclei' / name
                Image.fromarray(image.astype(np.uint8)).save(folder / f'images/{part}/{i}.jpg')
                Image.fromarray(label).save(folder / f'annotations/{part}/{i}.png')
    site = root / 'fundus_vessel' / 'drive' / 'images'
    site.mkdir(parents=True)
    (site / '1.jpg').touch()
    monkeypatch.setenv('HYPER_MM_DATA', str(root))
    return root


@pytest.fixture
def tool():
    return load_tool('experiments/run_metaseg.py')


def arguments(tool, folder, *options):
    args = tool.parse_args(['--work-dir', str(folder), *options])
    args.banks = {target: folder / 'bank.npz' for target in tool.DOMAINS}
    args.trivial = dict.fromkeys(tool.DOMAINS, 33.3)
    return args


@pytest.mark.parametrize(
    'options', [['--targets', 'moon'], ['--arms', 'magic'], ['--iterations', '0'], ['--jobs', '0']]
)
def test_bad_arguments(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(options)
    assert options[0] in capsys.readouterr().err


def test_no_target_is_trained_on_and_another_structure_only_adapted_to(tool):
    assert all(target not in sources for target, sources in tool.DOMAINS.items())
    args = tool.parse_args(['--targets', 'membrane', 'drive', '--seeds', '5'])
    jobs = tool.jobs_of(args)
    assert [arm for target, arm, _ in jobs if target == 'membrane'] == ['plain', *tool.ADAPTED]
    # one training domain is no distribution of tasks: no arm that is adapted
    assert not set(tool.ADAPTED) & {arm for target, arm, _ in jobs if target == 'drive'}
    jobs = tool.jobs_of(tool.parse_args(['--targets', 'stained_tissue', '--seeds', '5']))
    assert [arm for _, arm, _ in jobs] == list(tool.ARMS)
    assert {seed for *_, seed in jobs} == {5}


@pytest.mark.parametrize('target', ['stained_tissue', 'membrane', 'chasedb1'])
def test_equal_budgets(tool, data, tmp_path, target):
    args = arguments(tool, tmp_path, '--iterations', '7')
    for arm in tool.ARMS:
        cfg = tool.build_config(target, arm, 3, args)
        batch, episode = cfg.train_dataloader.batch_size, cfg.train_dataloader.dataset
        if arm.startswith('episodes'):
            batch *= cfg.model.get('inner_steps', 1) + 2
        elif arm == 'prototypes':
            batch *= episode.k_shot + episode.n_query
        elif arm in tool.ADAPTED:
            query = 0 if arm == 'Reptile' else episode.n_query
            batch *= episode.k_shot * cfg.model.inner_steps + query
        assert batch == 6, arm
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == 7
        assert cfg.randomness.seed == 3
        trained = {s for _, part in innermost_datasets(episode, '') for s in part.sites}
        assert trained == set(tool.DOMAINS[target])
        tests = tool.test_configs(cfg, target, arm, 3, args)
        adapted = arm in tool.ADAPTED
        assert ('0-shot' in tests) == (not adapted and target != 'membrane')
        assert any('5-shot' in name for name in tests) == (adapted or arm == 'plain')
        for name, test in tests.items():
            parts = innermost_datasets(test.test_dataloader.dataset, '')
            assert [part.sites for _, part in parts] == [[target]]
            if name != '0-shot':
                assert test.test_cfg.seeds == [3]


def test_tables(tool, data, tmp_path, monkeypatch):
    arms = ['--arms', 'plain', 'episodes', 'FOMAML', '--seeds', '0', '1']
    args = arguments(tool, tmp_path, '--targets', 'stained_tissue', 'chasedb1', *arms)
    made = []

    def call(function, target, arm, seed, args, log, name, threads, preload, lock):
        made.append((target, arm, seed))
        dice = {'plain': 50.0, 'episodes': 60.0, 'FOMAML': 70.0}[arm] + 2 * seed
        tests = {'plain': 'plain, fine-tuned at 0.1', 'FOMAML': 'FOMAML'}
        found = {f'{tests[arm]}, {k}-shot': dice + k for k in (1, 5)} if arm in tests else {}
        if arm != 'FOMAML':
            found['0-shot'] = dice + seed
        value = dict(dice=found, train_seconds=1.0, test_seconds=1.0)
        return runs.Finished(value, 1.0, 2.0)

    monkeypatch.setattr(runs, 'call', call)
    results = tool.run_all(args)
    assert sorted(made) == sorted(tool.jobs_of(args)) == sorted(results)
    assert tool.run_all(args) == results and len(made) == len(results)  # nothing is left to do
    text = tool.report(args, results)
    assert '| plain | 51.50 ± 2.12 |  | 51.50 ± 2.12 |  |' in text
    assert '| episodes | 61.50 ± 2.12 | 10.00 ± 0.00 | 61.50 ± 2.12 | 10.00 ± 0.00 |' in text
    assert '| all foreground | 33.30 |  | 33.30 |  |' in text
    assert '| FOMAML | 72.00 ± 1.41 | 20.00 ± 0.00 |' in text  # not on vessels: one domain
    assert '| FOMAML | 76.00 ± 1.41 | 20.00 ± 0.00 |' in text
    assert '250 steps' in tool.protocol(args)
    args.episodes = 9  # counts for the tests alone: where there are none, nothing changes
    with pytest.warns(UserWarning, match='another tests: it is kept as'):
        tool.run_all(args)
    assert len(made) == len(results) + sum(arm in ('plain', 'FOMAML') for _, arm, _ in results)


@pytest.mark.slow
def test_whole_run(tool, data, tmp_path, monkeypatch):
    arms = sys.modules['metaseg_arms']
    for name, value in dict(RATES=(0.1,), SHOTS=(5,), CROP=32, TEST_CROP=32).items():
        monkeypatch.setattr(arms, name, value)
    options = ['--iterations', '1', '--steps', '1', '--episodes', '1', '--targets', 'stained_light']
    args = arguments(tool, tmp_path / 'runs', *options)
    share = 24 * 24 / 64**2
    assert tool.all_foreground('stained_light') == pytest.approx(200 * share / (1 + share))
    args.banks = {'stained_light': tool.make_bank('stained_light', args.work_dir)}
    assert args.banks['stained_light'] == tool.make_bank('stained_light', args.work_dir)
    for arm in ('plain', 'episodes, boundary'):
        found = tool.train_and_test('stained_light', arm, 0, args)
        assert len(found['dice']) == (3 if arm == 'plain' else 1)
        assert all(0 <= dice <= 100 for dice in found['dice'].values())
    bank = args.banks['stained_light']
    Image.new('RGB', (64, 64)).save(data / 'nuclei' / 'fluorescence' / 'images/train/new.jpg')
    assert tool.make_bank('stained_light', args.work_dir) != bank


@pytest.mark.slow
def test_command(data, tmp_path):
    """Its own processes, of which each knows the command's modules."""
    command = [sys.executable, str(REPO / 'tools' / 'experiments' / 'run_metaseg.py')]
    options = '--iterations 1 --steps 1 --episodes 1 --targets stained_light --arms episodes'
    options = f'{options} --seeds 0 --work-dir {tmp_path / "runs"} --out {tmp_path / "a.md"}'
    env = dict(os.environ, PYTHONPATH=str(REPO), CUDA_VISIBLE_DEVICES='')
    done = subprocess.run([*command, *options.split()], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '- episodes: ' in (tmp_path / 'a.md').read_text()
    (file,) = (tmp_path / 'runs').rglob('result.json')
    assert list(json.loads(file.read_text())['result']['dice']) == ['0-shot']
