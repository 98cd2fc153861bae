"""How the tables of experiments are made: commands, resuming, averages. No training here."""

from __future__ import annotations

import argparse
import json
import re
import sys

import pytest
import torch

pytest.importorskip('mmseg')

from hyper_mm.engine import runs  # noqa: E402
from hyper_mm.engine.records import claim, key_of, safe_name  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture
def tool(monkeypatch):
    module = load_tool('experiments/compare_arms.py')
    monkeypatch.chdir(REPO)
    return module


@pytest.fixture
def commands(tool, monkeypatch):
    """What would have run; each run leaves the files that a real one leaves."""
    found = []

    def run(script, arguments, log, threads, lock):
        assert lock.fileno() > 0
        found.append((script.name, [str(a) for a in arguments]))
        folder = log.parent
        if script.name == 'train.py':
            (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
            (folder / 'now' / 'vis_data').mkdir(parents=True, exist_ok=True)
            steps = [dict(loss=1.0, time=t, step=i) for i, t in enumerate((9.0, 0.2, 0.4))]
            text = '\n'.join(map(json.dumps, steps))
            (folder / 'now' / 'vis_data' / 'scalars.json').write_text(text)
        log.write_text(f'mIoU: {10 + len(found):.4f}  aAcc: 1.0  lex/rho: -0.{len(found)}\n')
        return runs.Finished(None, 1.5, 1.0)

    monkeypatch.setattr(runs, 'run_script', run)
    return found


def arguments(folder, *arms, seeds=(0, 1)):
    return argparse.Namespace(
        arm=list(arms),
        seeds=list(seeds),
        work_dir=folder,
        metric=None,
        jobs=1,
        threads=1,
        cfg_options=['train_cfg.max_iters=2'],
    )


CONFIG = 'configs/himapper/deit-t_camvid.py'


def test_seed_and_checkpoint_of_an_arm(tool, commands, tmp_path):
    arm = ['tuned', CONFIG, 'load_from=runs/seed{seed}/epoch_1.pth', 'model.x=1']
    tool.compare(arguments(tmp_path, arm, seeds=[3]))
    (_, train), (_, test) = commands
    assert 'load_from=runs/seed3/epoch_1.pth' in train and 'randomness.seed=3' in train
    assert '--resume' not in train
    assert not any(a.startswith('load_from') for a in test)  # it would be tested instead
    assert str(tmp_path / 'tuned' / 'seed3' / 'iter_2.pth') in test
    assert {'model.x=1', 'train_cfg.max_iters=2'} <= set(train) & set(test)


def test_started_run_is_resumed_and_finished_run_is_kept(tool, commands, tmp_path):
    folder = tool.run_folder(tmp_path, 'tuned', 0)
    options = ['randomness.seed=0', 'train_cfg.max_iters=2', 'load_from=a.pth']
    with claim(folder, key_of(tool.resolved(CONFIG, options))):
        (folder / 'last_checkpoint').write_text('iter_1.pth')
    args = arguments(tmp_path, ['tuned', CONFIG, 'load_from=a.pth'], seeds=[0])
    first = tool.compare(args)
    train = commands[0][1]
    assert '--resume' in train and not any(a.startswith('load_from') for a in train)
    assert tool.compare(args) == first and len(commands) == 2


def test_run_of_other_options_is_neither_resumed_nor_reported(tool, commands, tmp_path):
    first = tool.compare(arguments(tmp_path, ['a', CONFIG, 'model.x=1'], seeds=[0]))
    with pytest.warns(UserWarning, match='was of another config: it is kept as'):
        second = tool.compare(arguments(tmp_path, ['a', CONFIG, 'model.x=2'], seeds=[0]))
    assert second != first and len(commands) == 4
    assert '--resume' not in commands[2][1] and 'model.x=2' in commands[2][1]


def test_names_that_differ_in_a_space_have_folders_of_their_own(tool, commands, tmp_path):
    arms = [[name, CONFIG] for name in ('a b', 'a/b', 'a-b')]
    text = tool.compare(arguments(tmp_path, *arms, seeds=[0]))
    assert len(commands) == 6
    values = [line.split('|')[2].strip() for line in text.splitlines()[2:]]
    assert values == ['12.00', '14.00', '16.00']
    parser = argparse.ArgumentParser()
    tool.check_names(parser, ['a b', 'a/b'])
    with pytest.raises(SystemExit):
        tool.check_names(parser, ['a', 'b', 'a'])


def test_a_changed_checkpoint_is_trained_on_again(tool, commands, tmp_path):
    start = tmp_path / 'start.pth'
    start.write_text('one')
    args = arguments(tmp_path, ['tuned', CONFIG, f'load_from={start}'], seeds=[0])
    tool.compare(args)
    start.write_text('another')
    with pytest.warns(UserWarning, match='another config'):
        tool.compare(args)
    assert [name for name, _ in commands] == ['train.py', 'test.py'] * 2


def test_a_metric_that_is_no_number_leaves_the_table(tool, tmp_path):
    log = tmp_path / 'log'
    log.write_text('mIoU: 3.1000  loss: 1e-05\nmIoU: nan  aAcc: -inf  loss: 2.5e-07\n')
    found = tool.measured(log, ['mIoU', 'aAcc', 'loss'])
    assert str(found) == "{'mIoU': nan, 'aAcc': -inf, 'loss': 2.5e-07}"
    args = arguments(None, ['plain', CONFIG], ['other', CONFIG])
    values = {('plain', 0): 20.0, ('plain', 1): 30.0, ('other', 0): 25.0}
    values['other', 1] = found['mIoU']
    results = {key: dict(seconds=1.0, metrics=dict(mIoU=value)) for key, value in values.items()}
    lines = tool.table(args, results, 'mIoU').splitlines()
    assert lines[2].startswith('| plain | 20.00 | 30.00 | 25.00 ± 5.00 |')
    assert lines[3].startswith('| other | 25.00 | nan | nan | nan |')


def test_table(tool, commands, tmp_path):
    text = tool.compare(arguments(tmp_path, ['plain', CONFIG], ['other', CONFIG]))
    lines = text.splitlines()
    assert lines[0].startswith(
        '| arm | seed 0 | seed 1 | mIoU, mean ± standard error '
        '| against plain, paired ± standard error | s/iter |'
    )
    # tests are the runs 2, 4, 6, 8: plain 12 and 16, other 14 and 18
    assert lines[2].startswith('| plain | 12.00 | 16.00 | 14.00 ± 2.00 |  | 0.300 | 1.50')
    assert '| 16.00 ± 2.00 | 2.00 ± 0.00 |' in lines[3]
    single = tool.compare(arguments(tmp_path, ['plain', CONFIG], seeds=[0]))
    assert '| plain | 12.00 | 12.00 |' in single


def test_finished_runs_are_read_again_for_another_metric(tool, commands, tmp_path):
    args = arguments(tmp_path, ['plain', CONFIG], seeds=[0])
    assert '| plain | 12.00 |' in tool.compare(args)
    args.metric = ['lex/rho', 'aAcc']
    rho, accuracy = tool.compare(args).split('\n\n')
    assert rho.startswith('| arm | seed 0 | lex/rho |') and '| plain | -0.200 |' in rho
    assert accuracy.startswith('| arm | seed 0 | aAcc |') and '| plain | 1.000 |' in accuracy
    assert 's/iter' in rho and 's/iter' not in accuracy  # costs are of the runs, not of a metric
    args.metric = ['rho']
    with pytest.raises(RuntimeError, match='no rho in'):
        tool.compare(args)
    assert len(commands) == 2


def test_costs_that_are_not_known_have_no_column(tool):
    run = dict(seconds=0.5, metrics=dict(mIoU=20.0))
    args = arguments(None, ['plain', CONFIG], ['other', CONFIG], seeds=[0])
    text = tool.table(args, {('plain', 0): run, ('other', 0): run}, 'mIoU')
    assert text.splitlines()[0].endswith('| against plain | s/iter |')
    known = dict(run, memory=1.0, trained=1234)
    text = tool.table(args, {('plain', 0): run, ('other', 0): known}, 'mIoU')
    assert text.splitlines()[0].endswith('| s/iter | GiB | trained |')
    assert text.splitlines()[2].endswith('| 0.500 |  |  |')
    assert text.splitlines()[3].endswith('| 0.500 | 1.00 | 1,234 |')
    short = dict(run, seconds=None)  # ended before its first line in the log
    text = tool.table(args, {('plain', 0): short, ('other', 0): short}, 'mIoU')
    assert text.splitlines()[0].endswith('| against plain |')
    text = tool.table(args, {('plain', 0): short, ('other', 0): run}, 'mIoU')
    assert text.splitlines()[2].endswith('|  |') and text.splitlines()[3].endswith('| 0.500 |')


def test_written_table(tool, tmp_path):
    file = tmp_path / 'tables' / 'a.md'
    tool.write_table(file, 'a', '| 1 ± 2 |\n')
    assert file.read_text(encoding='utf-8') == '<!-- a -->\n\n| 1 ± 2 |\n\n<!-- end of a -->\n'


@pytest.mark.parametrize('prose', ['# Title\n\nProse, see <!-- a --> .\n', '# Title\n\nProse'])
def test_table_is_added_to_prose(tool, tmp_path, prose):
    file = tmp_path / 'a.md'
    file.write_text(prose)
    tool.write_table(file, 'a', '| 1 |')
    assert file.read_text() == f'{prose.rstrip()}\n\n<!-- a -->\n\n| 1 |\n\n<!-- end of a -->\n'
    file.write_text('\n')
    tool.write_table(file, 'a', '| 1 |')
    assert file.read_text() == '<!-- a -->\n\n| 1 |\n\n<!-- end of a -->\n'


def test_two_tables_in_one_file(tool, tmp_path):
    file = tmp_path / 'a.md'
    file.write_text('# Title\n')
    for name in ('a', 'a b'):
        tool.write_table(file, name, f'| {name} |')
    text = file.read_text().replace('<!-- a b -->', 'Between.\n\n<!-- a b -->') + '\nLast: \\1.\n'
    file.write_text(text)
    for name in ('a', 'a b'):
        tool.write_table(file, name, f'| {name} |')
        assert file.read_text() == text  # the same table, the same file
    tool.write_table(file, 'a', '| new \\1 |\n\n`command`')
    assert file.read_text() == text.replace('| a |', '| new \\1 |\n\n`command`')


@pytest.mark.parametrize(
    'text',
    ['<!-- a -->\n', '<!-- end of a -->\n\n<!-- a -->\n', '<!-- a -->\n<!-- end of a -->\n' * 2],
)
def test_broken_marks_are_said_and_nothing_is_written(tool, tmp_path, text):
    file = tmp_path / 'a.md'
    file.write_text(text)
    with pytest.raises(ValueError, match='must hold <!-- a --> and <!-- end of a --> once'):
        tool.write_table(file, 'a', '| 1 |')
    assert file.read_text() == text


def test_command_writes_between_the_marks_of_its_work_dir(tool, commands, tmp_path, monkeypatch):
    file = tmp_path / 'a.md'
    file.write_text('# Title\n\n<!-- runs -->\n<!-- end of runs -->\n\nProse.\n')
    call = ['compare_arms.py', f'--work-dir={tmp_path / "runs"}', f'--out={file}', '--seeds=0']
    monkeypatch.setattr(sys, 'argv', [*call, '--arm', 'plain', CONFIG])
    tool.main()
    before, table, after = re.split('<!-- (?:end of )?runs -->', file.read_text())
    assert (before, after) == ('# Title\n\n', '\n\nProse.\n')
    assert '| plain | 12.00 |' in table and f'`python {" ".join(sys.argv)}`' in table


def test_trained_parameters(tool, commands, tmp_path):
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / 'iter_2.pth'
    torch.save(dict(state_dict={}, optimizer=optimizer.state_dict()), path)
    assert tool.trained_parameters(path) == 6
    assert tool.trained_parameters(tmp_path / 'missing.pth') is None
    text = tool.compare(arguments(tmp_path, ['plain', CONFIG], seeds=[0]))
    assert text.splitlines()[0].endswith('| s/iter | GiB |')  # nothing is known of it
    assert text.splitlines()[2].endswith('| 0.300 | 1.50 |')


def test_arms_of_the_miniature(tmp_path, monkeypatch):
    tool = load_tool('experiments/run_miniature.py')
    monkeypatch.chdir(REPO)
    args = argparse.Namespace(work_dir=tmp_path, seeds=[0, 1], arms=list(tool.ARMS))
    with pytest.raises(FileNotFoundError, match='run the stage before this first'):
        tool.stage_arms('finetune', args)
    for folder in (
        'pretrain/pretrained',
        *(f'finetune/{safe_name(name)}' for name in tool.ARMS),
    ):
        path = tmp_path / folder / 'seed0'
        path.mkdir(parents=True)
        for epoch in (9, 10):
            (path / f'epoch_{epoch}.pth').touch()
    tuned = tool.stage_arms('finetune', args)
    assert [arm[0] for arm in tuned] == list(tool.ARMS)
    assert all(
        arm[-1] == f'load_from={tmp_path}/pretrain/pretrained/seed0/epoch_10.pth' for arm in tuned
    )
    arms = {arm[0]: arm for arm in tool.stage_arms('camvid', args)}
    assert not any('load_from' in option for option in arms['scratch'])
    expected = f'load_from={tmp_path}/finetune/hi-mapper/seed{{seed}}/epoch_10.pth'
    assert expected in arms['hi-mapper, A'] and expected in arms['hi-mapper, B']
    assert arms['hi-mapper, A'][1] == arms['plain, A'][1] != arms['hi-mapper, B'][1]
    assert 'model.neck.lift.manifold=euclidean' in arms['euclidean, B']
    for arm in (*tuned, *arms.values()):
        assert ' ' not in ''.join(arm[1:])  # --cfg-options lose them
        assert (REPO / arm[1]).is_file()


@pytest.mark.parametrize('name, own', [('part-scenes', ('32', '4')), ('camvid', ('16', '3'))])
def test_arms_of_the_ablation(name, own, monkeypatch):
    monkeypatch.chdir(REPO)
    tool = load_tool('experiments/run_ablation.py')
    arms = {arm[0]: arm for arm in tool.arms_of(tool.CONFIGS[name], list(tool.ARMS))}
    assert set(tool.ARMS) - set(arms) == {f'N = {own[0]}', f'L = {own[1]}'}
    assert arms['default'][1:] == [f'configs/himapper/himapper_{tool.CONFIGS[name]}']
    assert arms['tau = 5'][2:] == ['model.neck.loss.tau=5.0']
    assert list(arms)[-1] == 'without Hi-Mapper'
    assert all((REPO / arm[1]).is_file() for arm in arms.values())
