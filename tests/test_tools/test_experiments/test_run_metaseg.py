"""The tables of left-out domains: budgets, configs, what is kept, and one whole short run."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

pytest.importorskip('mmseg')

from PIL import Image  # noqa: E402

from hyper_mm.engine.launch import innermost_datasets  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.test_tools.test_experiments.test_compare_arms import load  # noqa: E402

TOOLS = REPO / 'tools' / 'experiments'


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
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    for name in ('compare_arms', 'metaseg_arms'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return load(TOOLS / 'run_metaseg.py')


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
    assert [arm for target, arm, _ in jobs if target == 'drive'] == list(tool.ARMS)
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


def result(dice):
    settings = dict(iterations=250, steps=10, episodes=4)
    return dict(dice=dice, train_seconds=1.0, test_seconds=1.0, settings=settings)


def test_tables(tool, tmp_path):
    arms = ['--arms', 'plain', 'episodes', 'FOMAML', '--seeds', '0', '1']
    args = arguments(tool, tmp_path, '--targets', 'stained_tissue', 'membrane', *arms)
    results = {}
    for target, arm, seed in tool.jobs_of(args):
        dice = {'plain': 50.0, 'episodes': 60.0, 'FOMAML': 70.0}[arm] + 2 * seed
        tests = {'plain': 'plain, fine-tuned at 0.1', 'FOMAML': 'FOMAML'}
        found = {f'{tests[arm]}, {k}-shot': dice + k for k in (1, 5)} if arm in tests else {}
        if arm != 'FOMAML' and target != 'membrane':
            found['0-shot'] = dice + seed
        results[target, arm, seed] = result(found)
        folder = tool.run_folder(target, arm, seed, args)
        folder.mkdir(parents=True)
        tool.write(folder / 'result.json', results[target, arm, seed])
    assert tool.run_all(args) == results  # nothing is left to do
    text = tool.report(args, results)
    assert '| plain | 51.50 ± 2.12 |  |' in text
    assert '| episodes | 61.50 ± 2.12 | 10.00 ± 0.00 |' in text
    assert '| all foreground | 33.30 |  |' in text
    assert '| FOMAML | 72.00 ± 1.41 | 20.00 ± 0.00 | 72.00 ± 1.41 | 20.00 ± 0.00 |' in text
    assert '| FOMAML | 76.00 ± 1.41 | 20.00 ± 0.00 | 76.00 ± 1.41 | 20.00 ± 0.00 |' in text
    assert '250 steps' in tool.protocol(args)
    args.iterations = 9
    with pytest.raises(ValueError, match='work-dir'):
        tool.run_all(args)


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
    for arm in ('plain', 'episodes, boundary'):
        found = tool.train_and_test('stained_light', arm, 0, args)
        kept = tool.run_folder('stained_light', arm, 0, args) / 'result.json'
        assert json.loads(kept.read_text()) == found
        assert len(found['dice']) == (3 if arm == 'plain' else 1)
        assert all(0 <= dice <= 100 for dice in found['dice'].values())
