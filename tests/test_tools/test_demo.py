"""The demo: its parts, and all of it."""

from __future__ import annotations

import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

from hyper_mm.datasets.part_scenes import generate, scene_class
from tests.conftest import REPO
from tests.helpers.tools import load_tool

pytestmark = pytest.mark.mmseg


@pytest.fixture(scope='module')
def demo():
    return load_tool('demo.py')


@pytest.mark.parametrize('iters', [1, 7, 400])
def test_schedule_fits_any_length(demo, iters):
    from mmengine.config import Config

    cfg = Config.fromfile(demo.CONFIG)
    options = dict(option.split('=') for option in demo.schedule_options(iters))
    cfg.merge_from_dict({key: int(value) for key, value in options.items()})
    warmup, decay = cfg.param_scheduler
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == decay.end == iters
    assert 1 <= warmup.end == decay.begin <= iters


def test_demo_trains_as_long_as_the_config(demo):
    from mmengine.config import Config

    cfg = Config.fromfile(demo.CONFIG)
    assert cfg.train_cfg.max_iters == demo.ITERS
    assert cfg.crop_size == demo.SIZE
    options = dict(option.split('=') for option in demo.schedule_options(demo.ITERS))
    assert cfg.param_scheduler[0].end == int(options['param_scheduler.0.end'])


def test_baseline_differs_in_nothing_else():
    from mmengine.config import Config

    ours = Config.fromfile(REPO / 'configs' / 'himapper/himapper_deit-t_part-scenes.py')
    plain = Config.fromfile(REPO / 'configs' / 'himapper/deit-t_part-scenes.py')
    assert ours.model.pop('neck').type == 'hyper_mm.HiMapper'
    assert ours.model.backbone.pop('output_cls_token')
    ours.model.type = ours.model.type.replace('hyper_mm.', '')
    assert ours.to_dict() == plain.to_dict()


def test_images_are_of_different_scenes(demo):
    names = demo.different_scenes(4)
    scenes = {scene_class(demo.SEED, int(name[4:10]), 'val') for name in names}
    assert len(names) == len(scenes) == 4
    assert len(set(demo.different_scenes(demo.NUM_VAL))) == demo.NUM_VAL


def test_level_of_chance(demo, tmp_path):
    labels = np.array([[0, 1, 1, 2], [0, 1, 1, 3]], np.uint8)  # four of six are class 1, 0 is void
    cv2.imwrite(str(tmp_path / 'a.png'), labels)
    assert demo.best_guess(tmp_path, 4) == pytest.approx(100 * (4 / 6) / 4)


def test_data_is_what_the_config_reads(demo, tmp_path):
    folders = generate(tmp_path, ('ade',), 1, 1, (32, 32), demo.SEED, progress=False)
    for option in demo.data_options(folders['ade']):
        key, value = option.split('=')
        assert key.endswith('.dataset.data_root') and value == str(folders['ade'])
    assert (folders['ade'] / 'annotations_wholes' / 'validation').is_dir()
    assert (folders['ade'] / 'images' / 'validation' / 'val_000000.jpg').is_file()


def test_reads_the_last_miou(demo):
    log = 'aAcc: 50.0  mIoU: 12.5  mAcc\n ... Iter(test) [40/40] aAcc: 80.2400  mIoU: 40.1800'
    assert demo.read_miou(log) == 40.18
    with pytest.raises(ValueError, match='no mIoU'):
        demo.read_miou('nothing')


def test_progress_is_one_short_line(demo):
    line = (
        '11/21 00:31:03 - mmengine - INFO - Iter(train) [360/400]  base_lr: 1e-04 lr: 1e-04  '
        'eta: 0:00:40  time: 0.72  loss: 1.2683  decode.loss_ce: 0.7693\n'
    )
    assert demo.progress_line(line) == '[360/400]  eta: 0:00:40  loss: 1.2683'


def test_failure_shows_the_output(demo, tmp_path):
    with pytest.raises(RuntimeError, match=r'no_such_tool.py failed \(FileNotFoundError') as error:
        demo.run_tool('no_such_tool.py', log=tmp_path / 'log.txt')
    assert 'No such file' in str(error.value)
    assert 'No such file' in (tmp_path / 'log.txt').read_text()


@pytest.mark.parametrize('option', ['--iters', '--images'])
def test_bad_numbers_are_refused(demo, option, tmp_path, capsys):
    with pytest.raises(SystemExit):
        demo.main([option, '0', '--work-dir', str(tmp_path)])
    assert f'{option} must be at least 1, got 0' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_demo_learns_and_draws_and_uses_what_exists(demo, tmp_path):
    command = [sys.executable, str(REPO / 'tools' / 'demo.py'), '--work-dir', str(tmp_path)]
    command += ['--iters', '100', '--images', '2']
    first = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    drawn = {path.name for path in (tmp_path / 'pictures').glob('*.png')}
    assert len(drawn - {'by_name.png'}) == 2
    assert ('by_name.png' in drawn) != ('Left out' in first)
    assert 'Look at the pictures' in first
    miou, chance = map(float, re.findall(r'([\d.]+) %', first)[:2])
    assert miou > 5 * chance
    second = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert 'Already trained' in second


def test_fresh_stops_at_what_it_cannot_delete(demo, tmp_path, monkeypatch):
    """Or an earlier result would be shown as the new one."""
    (tmp_path / 'data' / 'x').mkdir(parents=True)

    def refuse(*args, **kwargs):
        raise PermissionError('read-only')

    def step(*args):
        raise RuntimeError('it goes on')

    monkeypatch.setattr(demo, 'step', step)
    monkeypatch.setattr(demo.os, 'rmdir', refuse)
    with pytest.raises(PermissionError):
        demo.main(['--fresh', '--work-dir', str(tmp_path)])
