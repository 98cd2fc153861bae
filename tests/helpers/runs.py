"""Whole runs on tiny data: a drawn data set, small configs, and tools in processes of their own.

Importing OpenMMLab takes long, so the processes are forked from a server that has done it once.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests.conftest import make_runs_fast

REPO = Path(__file__).resolve().parents[2]
TRAIN, TEST = REPO / 'tools' / 'train.py', REPO / 'tools' / 'test.py'
TIMEOUT = 600
SIZE = 64
ENVIRONMENT = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', PYTHONPATH=str(REPO))
"""Of all processes here: no GPU, one thread, and these helpers within reach."""

TINY = f"""
_base_ = {str(REPO / 'configs' / '_base_' / 'default_runtime.py')!r}
custom_imports = dict(imports=['hyper_mm', 'tests.helpers.runs'], allow_failed_imports=False)
env_cfg = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo'))
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=2, by_epoch=False),
    record=dict(type='RecordHook'))
log_processor = dict(window_size=1)
norm_cfg = dict(type='GN', num_groups=4)
model = dict(
    type='hyper_mm.EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor', size=({SIZE}, {SIZE}), bgr_to_rgb=True, seg_pad_val=255,
        mean=[120.0] * 3, std=[60.0] * 3),
    backbone=dict(
        type='VisionTransformer', img_size=({SIZE}, {SIZE}), patch_size=16, embed_dims=32,
        num_layers=2, num_heads=2, mlp_ratio=2, out_indices=(0, 1), drop_rate=0.1,
        drop_path_rate=0.1, output_cls_token=True, norm_cfg=dict(type='LN')),
    neck=dict(type='hyper_mm.HiMapper', in_channels=32, tree=dict(num_leaves=8, num_levels=3),
        width=16, num_heads=2, lift=dict(hyp_dim=8), gate_init=0.1),
    decode_head=dict(
        type='FCNHead', in_channels=32, in_index=1, channels=16, num_convs=1, dropout_ratio=0.1,
        num_classes={{classes}}, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
load, labels, pack = (
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs'))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='hyper_mm.PartScenesDataset', data_root={{root!r}},
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[load, labels, dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion'), pack]))
val_dataloader = dict(
    batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='hyper_mm.PartScenesDataset', data_root={{root!r}},
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=[load, labels, pack]))
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = [dict(type='PolyLR', power=1.0, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
"""


@HOOKS.register_module(force=True)
class RecordHook(Hook):
    """Writes the losses of every step, on every rank."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        losses = {name: float(value) for name, value in outputs.items()}
        with open(Path(runner.work_dir) / f'losses{get_rank()}.jsonl', 'a') as file:
            file.write(json.dumps(losses) + '\n')


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Kills the process, as a crash or a scheduler does, before a step."""

    def __init__(self, step: int, rank: int = 0):
        self.step, self.rank = step, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == self.step and get_rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


def make_data(folder: Path) -> Path:
    """Draws eight training and three validation images in ADE20K layout."""
    from hyper_mm.datasets.part_scenes import generate

    return generate(folder, ['ade'], 8, 3, (SIZE, SIZE), progress=False)['ade']


def write_config(folder: Path, root: Path, **changes) -> Path:
    """Writes the tiny config with changes on top.

    Args:
        folder: Where to.
        root: Data set of :func:`make_data`.
        **changes: Values merged into the config.
    """
    from hyper_mm.datasets.part_scenes import PART_CLASSES

    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'tiny.py').write_text(TINY.format(classes=len(PART_CLASSES), root=str(root)))
    lines = ["_base_ = 'tiny.py'", *(f'{name} = {value!r}' for name, value in changes.items())]
    config = folder / 'config.py'
    config.write_text('\n'.join(lines) + '\n')
    return config


def with_batch_size(size: int) -> dict:
    """Changes that leave nothing to chance in a batch of that size."""
    steps = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
    pipeline = [dict(type=step) for step in steps]
    return dict(
        model=dict(
            backbone=dict(drop_rate=0.0, drop_path_rate=0.0),
            neck=dict(dropout=0.0),
            decode_head=dict(dropout_ratio=0.0),
        ),
        train_dataloader=dict(
            batch_size=size, sampler=dict(shuffle=False), dataset=dict(pipeline=pipeline)
        ),
    )


def random_batch(size: int, classes: int) -> tuple[torch.Tensor, list]:
    """Two random images ``(2, 3, size, size)`` and the data samples of their label maps."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    meta = dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size))
    labels = [PixelData(data=torch.randint(classes, (1, size, size))) for _ in range(2)]
    samples = [SegDataSample(gt_sem_seg=label, metainfo=meta) for label in labels]
    return torch.randn(2, 3, size, size), samples


DETECTION = """
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py', 'mmdet::_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py', 'mmdet::_base_/default_runtime.py']
model = dict(
    backbone=dict(depth=18, init_cfg=None, norm_eval=False),
    neck=dict(
        _delete_=True, type='hyper_mm.HiMapper', in_channels=[64, 128, 256, 512],
        tree=dict(num_leaves=8, num_levels=3), width=16, loss=dict(contrastive=0.0, kl=0.0),
        neck=dict(type='FPN', in_channels=[64, 128, 256, 512], out_channels=256, num_outs=5)),
    roi_head=dict(bbox_head=dict(num_classes={things}), mask_head=dict(num_classes={things})))
resize = dict(type='Resize', scale=(96, 96), keep_ratio=True)
keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pack = dict(type='PackDetInputs', meta_keys=keys)
load, labels = dict(type='LoadImageFromFile'), dict(
    type='LoadAnnotations', with_bbox=True, with_mask=True)
meta = dict(classes={names!r})
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    data_root={root!r}, ann_file='annotations/instances_train.json', metainfo=meta,
    data_prefix=dict(img='train/'), pipeline=[load, labels, resize, dict(type='PackDetInputs')]))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(
    data_root={root!r}, ann_file='annotations/instances_val.json', metainfo=meta,
    data_prefix=dict(img='val/'), pipeline=[load, resize, pack]))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={root!r} + '/annotations/instances_val.json')
test_evaluator = val_evaluator
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2, val_interval=10)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(_delete_=True, type='CheckpointHook', interval=2,
    by_epoch=False))
"""
CLASSIFICATION = """
_base_ = [
    'mmpretrain::_base_/models/resnet18.py', 'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py', 'mmpretrain::_base_/default_runtime.py']
model = dict(
    head=dict(num_classes={classes}, topk=(1,)))
data_preprocessor = dict(num_classes={classes})
load, resize, pack = (
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=64), dict(type='PackInputs'))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    _delete_=True, type='CustomDataset', data_root={root!r}, data_prefix='train',
    pipeline=[load, resize, pack]))
val_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    _delete_=True, type='CustomDataset', data_root={root!r}, data_prefix='val',
    pipeline=[load, resize, pack]))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1)
"""


def write_detection_config(folder: Path) -> Path:
    """Writes a small Mask R-CNN with Hi-Mapper, and its data set."""
    from hyper_mm.datasets.part_scenes import THING_CLASSES, generate

    root = generate(folder / 'data', ['coco'], 4, 2, (SIZE, SIZE), progress=False)['coco']
    names = tuple(THING_CLASSES)
    config = folder / 'detection.py'
    config.write_text(DETECTION.format(root=f'{root}', things=len(names), names=names))
    return config


def write_classification_config(folder: Path) -> Path:
    """Writes a small ResNet classifier, and its data set."""
    from hyper_mm.datasets.part_scenes import generate

    root = generate(folder / 'data', ['imagenet'], 24, 12, (SIZE, SIZE), progress=False)['imagenet']
    classes = len(list((root / 'train').iterdir()))
    config = folder / 'classification.py'
    config.write_text(CLASSIFICATION.format(root=f'{root}', classes=classes))
    return config


class Run:
    """A tool in a process of its own.

    Args:
        tool: The script.
        *args: Its arguments.
        log: File for what it prints.
        env: Environment variables to set.
        cwd: Folder that it runs in.
    """

    def __init__(
        self,
        tool: Path,
        *args: object,
        log: Path,
        env: dict | None = None,
        cwd: Path | str | None = None,
    ):
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        place = str(cwd or os.getcwd())
        arguments = (str(tool), [str(arg) for arg in args], str(log.resolve()), env or {}, place)
        self.process = _server().Process(target=_run_tool, args=arguments, daemon=False)
        self.process.start()

    def wait(self) -> tuple[int, str]:
        """Exit code (minus the signal, if killed) and what was printed."""
        self.process.join(TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f'no end after {TIMEOUT} s: {self.log.read_text()[-2000:]}')
        return self.process.exitcode, self.log.read_text()


def run(tool: Path, *args: object, log: Path, env: dict | None = None) -> str:
    """Runs a tool to its end, which must be a good one; returns what it printed."""
    code, text = Run(tool, *args, log=log, env=env).wait()
    assert code == 0, text[-4000:]
    return text


def ranks(target: Callable, *args: object, count: int = 2) -> None:
    """Calls ``target(rank, *args)``, a function of a module, in processes that must end well."""
    processes = [_server().Process(target=target, args=(k, *args)) for k in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * count, codes


def free_port() -> int:
    with contextlib.closing(socket.socket()) as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def losses(work_dir: Path, rank: int = 0) -> list[dict[str, float]]:
    """What :class:`RecordHook` wrote."""
    return [json.loads(line) for line in (work_dir / f'losses{rank}.jsonl').open()]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights of a checkpoint, and the state of its optimizer."""
    from hyper_mm.checkpoints import load_from_local

    loaded = load_from_local(str(checkpoint))
    tensors = {f'weight {name}': value for name, value in loaded['state_dict'].items()}
    for index, state in loaded['optimizer']['state'].items():
        tensors.update({f'optimizer {index} {name}': value for name, value in state.items()})
    return tensors


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    """Names of the entries that are not equal to the last bit."""
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


def _server() -> multiprocessing.context.BaseContext:
    context = multiprocessing.get_context('forkserver')
    preload = ['mmseg.models', 'mmseg.datasets', 'mmseg.engine', 'tests.helpers.runs']
    if 'mmpretrain' in sys.modules:  # tests of it are about to run
        preload += ['mmpretrain.models', 'mmpretrain.datasets']
    context.set_forkserver_preload(preload)
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _run_tool(tool: str, args: list[str], log: str, env: dict[str, str], cwd: str) -> None:
    os.environ.update(env)
    os.chdir(cwd)
    make_runs_fast()
    with open(log, 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    np.random.seed()  # the server's state would be the same in every run without a seed
    sys.argv = [tool, *args]
    sys.path.insert(0, str(Path(tool).parent))  # as Python does for a script
    runpy.run_path(tool, run_name='__main__')  # hyper_mm is not imported before it
