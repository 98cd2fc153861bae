"""The table of the six open-vocabulary benchmarks: configs, missing data, what is kept."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip('mmseg')

from hyper_mm.engine import runs  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402

CONFIG = REPO / 'configs' / 'hyperclip/cat-seg_vit-l14_coco-stuff164k.py'


@pytest.fixture
def tool():
    return load_tool('analysis_tools/open_vocab_table.py')


@pytest.mark.parametrize('name', ['ade847', 'pc459', 'ade150', 'pc59', 'voc20', 'voc20b'])
def test_configs(tool, name):
    cfg = tool.test_config(CONFIG, name, {'model.clip.pretrained': None})
    assert cfg.model.clip == dict(model='ViT-L-14-336-quickgelu', pretrained=None, image_size=336)
    assert cfg.model.vocabulary == name
    assert 'adapter' not in cfg.model
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_dataloader.dataset.type != 'COCOStuffDataset'


def arguments(folder, sets):
    checkpoint = folder / 'a.pth'
    checkpoint.touch()
    return argparse.Namespace(
        config=CONFIG,
        checkpoint=checkpoint,
        sets=sets,
        work_dir=folder / 'work',
        threads=1,
        cfg_options={'test_dataloader.dataset.data_root': str(folder / 'data')},
    )


def test_missing_data_are_named(tool, tmp_path):
    found = tool.test(arguments(tmp_path, ['ade150']), 'ade150')
    assert found == f'left out, no {tmp_path}/data/images/validation'
    assert tool.table('cat', {'ade150': found}).splitlines()[-1] == '| cat |  |  |  |  |  |  |'


def test_runs_the_stock_script_and_keeps_results(tool, tmp_path, monkeypatch):
    args, commands = arguments(tmp_path, ['ade150']), []
    for folder in ('images', 'annotations'):
        (tmp_path / 'data' / folder / 'validation').mkdir(parents=True)

    def run(script, arguments, log, threads, lock):
        commands.append((script.name, arguments))
        score = 31.84 + len(commands) - 1
        log.write_text(f'Iter(test) [2/2]  aAcc: 50.0  mIoU: {score:.2f}  mAcc: 40.0\n')

    monkeypatch.setattr(runs, 'run_script', run)
    assert tool.test(args, 'ade150') == tool.test(args, 'ade150') == 31.84
    ((script, given),) = commands
    assert script == 'test.py' and given[1] == args.checkpoint
    first, args.checkpoint = args.checkpoint, tmp_path / 'b' / 'a.pth'
    args.checkpoint.parent.mkdir()
    args.checkpoint.write_text('another')
    assert tool.test(args, 'ade150') == tool.test(args, 'ade150') == 32.84
    args.cfg_options['model.vocabulary'] = 'voc20'
    assert tool.test(args, 'ade150') == 33.84
    del args.cfg_options['model.vocabulary']
    args.checkpoint = first  # a figure for each is kept
    assert tool.test(args, 'ade150') == 31.84 and len(commands) == 3
    first.write_text('trained further')
    assert tool.test(args, 'ade150') == 34.84
    text = tool.table('cat', {'ade150': 31.84, 'pc59': 'left out'})
    assert text.splitlines()[0] == '| model | A-847 | PC-459 | A-150 | PC-59 | PAS-20 | PAS-20b |'
    assert text.splitlines()[2] == '| cat |  |  | 31.8 |  |  |  |'
