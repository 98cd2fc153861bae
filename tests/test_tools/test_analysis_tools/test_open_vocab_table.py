"""The table of the six open-vocabulary benchmarks: configs, missing data, what is kept."""

from __future__ import annotations

import argparse
import sys

import pytest

pytest.importorskip('mmseg')

from tests.conftest import REPO  # noqa: E402
from tests.test_tools.test_experiments.test_compare_arms import load  # noqa: E402

TOOLS = REPO / 'tools' / 'analysis_tools'
CONFIG = REPO / 'configs' / 'hyperclip/cat-seg_vit-l14_coco-stuff164k.py'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS.parent / 'experiments')
    monkeypatch.delitem(sys.modules, 'compare_arms', raising=False)
    return load(TOOLS / 'open_vocab_table.py')


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

    def run(script, arguments, log, threads):
        commands.append((script.name, arguments))
        log.write_text('Iter(test) [2/2]  aAcc: 50.0  mIoU: 31.84  mAcc: 40.0\n')

    monkeypatch.setattr(tool, 'run', run)
    assert tool.test(args, 'ade150') == tool.test(args, 'ade150') == 31.84
    ((script, given),) = commands
    assert script == 'test.py' and given[1] == args.checkpoint
    text = tool.table('cat', {'ade150': 31.84, 'pc59': 'left out'})
    assert text.splitlines()[0] == '| model | A-847 | PC-459 | A-150 | PC-59 | PAS-20 | PAS-20b |'
    assert text.splitlines()[2] == '| cat |  |  | 31.8 |  |  |  |'
