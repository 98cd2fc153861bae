"""One model of several tasks, adapted to a new set of one of them; ``tools/adapt.py --task``."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import Progress

from hyper_mm.datasets.files import read_json
from hyper_mm.datasets.image_folders import class_folders
from hyper_mm.models.meta.meta_learner import MetaLearner, batch_norms
from hyper_mm.registry import DATASETS, METRICS, MODELS

from . import steps
from .views import Part, Views

TASKS = ('cls', 'det', 'seg')
MIXED = 'hyper_mm.MultiTaskModel'
METRICS_OF = dict(
    cls=dict(type='mmpretrain.Accuracy', topk=(1,)),
    det=dict(type='mmdet.VOCMetric', metric='mAP', eval_mode='area'),
)
MAIN = dict(cls='accuracy/top1', det='pascal_voc/mAP')
"""Score by which the rate is chosen."""


def task_names(cfg: Config) -> list[str]:
    """Tasks of the model of a config; none if it is a model of one task.

    Args:
        cfg: The config.
    """
    inside = cfg.model.get('model', cfg.model)
    return [*inside.tasks] if inside.get('type') == MIXED else []


def single_task(cfg: Config, checkpoint: str, task: str, folder: Path) -> tuple[Config, str]:
    """A model of several tasks as one of a single task, with its weights.

    Args:
        cfg: Config of a :class:`hyper_mm.MultiTaskModel`, alone or in a ``MetaLearner``.
        checkpoint: Its weights.
        task: The task.
        folder: Where the weights of the task are written.

    Returns:
        Config with the model and the test data of the task, and the file of its weights.

    Raises:
        ValueError: If the model does not have the task, the test data are not of several tasks, or
            the model has learned rates of its own, which belong to all tasks together.
    """
    from hyper_mm.checkpoints import load_from_local

    names = task_names(cfg)
    if task not in names:
        raise ValueError(f'--task must be one of {names or "a model of several tasks"}, got {task}')
    sets = cfg.test_dataloader.dataset.get('datasets', {})
    if task not in sets:
        raise ValueError(f'test_dataloader must have data of {task}, got {[*sets]}')
    found, wrapped = copy.deepcopy(cfg), 'model' in cfg.model
    inside = found.model.model if wrapped else found.model
    model = dict(inside.tasks[task], backbone=inside.backbone)
    found.model = dict(found.model, model=model) if wrapped else model
    found.test_dataloader.dataset = sets[task].dataset
    for name in ('train_dataloader', 'val_dataloader', 'val_cfg', 'val_evaluator'):
        found.pop(name, None)
    own = [m.metric for m in cfg.get('test_evaluator', []) if m.get('task') == task]
    found.test_evaluator = own
    state = load_from_local(checkpoint, map_location='cpu')['state_dict']
    if any(name.startswith('rates.') for name in state):
        raise ValueError(
            f'{checkpoint} has learned a rate for each weight of all tasks together (algorithm='
            "'metasgd'), which a model of one task has no place for: --task takes another algorithm"
        )
    prefix = ('model.' if wrapped else '') + f'tasks.{task}.'
    kept = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if wrapped:
        kept = {f'model.{k}': v for k, v in kept.items()}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f'{task}_of_mixed.pth'
    torch.save(dict(state_dict=kept), file)
    return found, str(file)


def heads_of(model: dict, task: str) -> list[dict]:
    """Configs of the heads of a model that know the number of classes.

    Args:
        model: Config of a classifier or detector.
        task: ``'cls'`` or ``'det'``.
    """
    if task == 'cls':
        return [model['head']]
    heads = model.get('bbox_head') or model['roi_head']['bbox_head']
    return list(heads) if isinstance(heads, (list, tuple)) else [heads]


class TaskAdaptation:
    """A classifier or detector of a model of several tasks, and the labeled images of a new set.

    A folder of ``cls`` has one folder of images a class; one of ``det`` has ``images`` and
    ``annotations.json`` (COCO). Where the classes are not as many as those of the model, the layers
    that depend on them are new ones.

    Args:
        cfg: Config of the single task, of :func:`single_task`.
        checkpoint: Its weights.
        task: ``'cls'`` or ``'det'``.
        options: See :class:`hyper_mm.engine.adaptation.site_adaptation.Options`.
        console: Where it is told.

    Raises:
        ValueError: If support and query have other classes, there are fewer than two images, the
            weights are those of another model, or the model has learned the rates that are given.
    """

    def __init__(self, cfg: Config, checkpoint: str, task: str, options, console: Console):
        self.cfg, self.task, self.options, self.console = copy.deepcopy(cfg), task, options, console
        self.classes = classes_of(options.support, task)
        if options.query is not None and classes_of(options.query, task) != self.classes:
            raise ValueError(
                f'{options.query} must have the classes of the support, {list(self.classes)}, got '
                f'{list(classes_of(options.query, task))}'
            )
        self.support = self._data(options.support)
        self.query = None if options.query is None else self._data(options.query)
        if len(self.support) < 2:
            raise ValueError(f'{options.support} must hold at least two images')
        self.plain = 'model' not in self.cfg.model
        model = self.cfg.model if self.plain else self.cfg.model.model
        for head in heads_of(model, task):
            head['num_classes'] = len(self.classes)
        self.learner, self.new = self._build(checkpoint)
        steps.check_rates(self.learner, options.rate, options.rates)
        self.learner.to(options.device)

    def _build(self, checkpoint: str) -> tuple[MetaLearner, list[str]]:
        """The model, and the names of its weights that are new."""
        cfg = copy.deepcopy(self.cfg.model)
        (cfg if self.plain else cfg.model).backbone.init_cfg = None  # its weights are loaded below
        model = MODELS.build(cfg)
        model.init_weights()
        state = torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict']
        own = model.state_dict()
        fit = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
        parts = ('backbone.', 'neck.') if self.plain else ('model.backbone.', 'model.neck.')
        wrong = {*own} ^ {*state} | {k for k in {*own} - {*fit} if k.startswith(parts)}
        if wrong:  # only layers that depend on the classes may be new
            raise ValueError(
                f'{checkpoint} holds other weights than the model of the config: {len(wrong)} '
                f'differ, such as {min(wrong)}'
            )
        model.load_state_dict(fit, strict=False)
        if self.plain:
            norms = 'frozen' if batch_norms(model) else 'batch'
            steps_, rate = steps.PLAIN_STEPS, steps.PLAIN_RATES[1]
            model = MetaLearner(model, 'fomaml', rate, test_steps=steps_, norms=norms)
        new = sorted(set(own) - set(fit))
        return model, new if self.plain else [name.removeprefix('model.') for name in new]

    def _data(self, folder: Path) -> BaseDataset:
        load, *others = [dict(step) for step in self.cfg.test_dataloader.dataset.pipeline]
        marks = [step for step in others if step['type'].endswith('LoadAnnotations')]
        # boxes are resized with the image: they are learned from; score() takes them back
        pipeline = [load, *marks, *(step for step in others if step not in marks)]
        common: dict[str, Any] = dict(data_root=str(folder.resolve()), pipeline=pipeline)
        if self.task == 'cls':
            return DATASETS.build(dict(_scope_='mmpretrain', type='CustomDataset', **common))
        info = dict(classes=self.classes)
        files = dict(ann_file='annotations.json', data_prefix=dict(img='images/'))
        return DATASETS.build(
            dict(
                _scope_='mmdet',
                type='CocoDataset',
                metainfo=info,
                test_mode=True,
                **files,
                **common,
            )
        )

    def score(self, samples: Sequence) -> dict[str, float]:
        """Scores of predictions.

        Args:
            samples: Data samples with predictions and labels.
        """
        metric = METRICS.build(METRICS_OF[self.task])
        metric.dataset_meta = dict(classes=self.classes)
        metric.process({}, [_original(sample) for sample in samples])
        return {k: float(v) for k, v in metric.evaluate(len(samples)).items() if _is_number(v)}

    def _judge(self, learner: MetaLearner, state: steps.State | None, items) -> list[float]:
        return [self.score([*steps.predict(learner, state, items)])[MAIN[self.task]]]

    def run(self) -> dict[str, Any]:
        """Adapts, judges, and writes ``metrics.json``, ``adapted.py`` and ``adapted.pth``.

        Returns:
            What ``metrics.json`` holds.
        """
        options, learner = self.options, self.learner
        options.out.mkdir(parents=True, exist_ok=True)
        if self.new:
            self.console.print(f'new, since the classes differ: {", ".join(self.new)}')
        views = dict(crop=None, seed=options.seed)
        number = options.steps or learner.test_steps or learner.inner_steps
        with Progress(console=self.console) as progress:
            if options.rate is None:
                choice = self._choose(number, views, progress)
            else:
                choice = steps.Choice(options.rate, number, {})
            adapt: Callable = lambda items: steps.fit(  # noqa: E731
                learner, Views(items, learner.model.data_preprocessor, **views), choice.steps,
                choice.rate,
            )  # fmt: skip
            state, losses, _ = adapt(self.support)
            if self.query is not None:
                pairs = [(state, self.query)]
            else:
                pairs = [
                    (adapt(Part(self.support, learn))[0], Part(self.support, left))
                    for learn, left in steps.folds(len(self.support), 10)
                ]
            before = [s for _, items in pairs for s in steps.predict(learner, None, items)]
            after = [s for own, items in pairs for s in steps.predict(learner, own, items)]
        steps.commit(learner, state)
        scores: dict[str, Any] = dict(
            before=self.score(before), after=self.score(after), losses=losses, rate=choice.rate,
            steps=choice.steps, new=self.new, classes=list(self.classes), task=self.task,
            how='left out' if self.query is None else 'query',
            tried=[dict(rate=r, steps=n, score=s) for (r, n), s in choice.table.items()
                   if math.isfinite(s)],
        )  # fmt: skip
        text = json.dumps(scores, indent=2) + '\n'
        (options.out / 'metrics.json').write_text(text, encoding='utf-8')
        self._write_model()
        return scores

    def _choose(self, number: int, views: dict, progress: Progress) -> steps.Choice:
        rates = self.options.rates or steps.rates_of(self.learner, self.plain)
        total = min(len(self.support), self.options.folds) * len(rates) * number
        bar = progress.add_task('choosing the rate', total=total)
        return steps.choose(
            self.learner, self.support, rates, number, views, self.options.folds,
            lambda: progress.advance(bar), self._judge,
        )  # fmt: skip

    def _write_model(self) -> None:
        """Writes the adapted model as a plain one."""
        from mmengine.runner import save_checkpoint

        cfg, options = copy.deepcopy(self.cfg), self.options
        cfg.model = cfg.model if self.plain else cfg.model.model
        for key in [k for k in cfg if k.startswith(('train_', 'test_', 'optim_', 'param_'))]:
            cfg.pop(key)
        cfg.default_scope = dict(cls='mmpretrain', det='mmdet')[self.task]
        cfg.dump(options.out / 'adapted.py')
        state = {name: value.cpu() for name, value in self.learner.model.state_dict().items()}
        meta = dict(dataset_meta=dict(classes=self.classes))
        save_checkpoint(dict(meta=meta, state_dict=state), str(options.out / 'adapted.pth'))
        MMLogger.get_current_instance().info(f'wrote {options.out / "adapted.pth"}')


def classes_of(folder: Path, task: str) -> tuple[str, ...]:
    """Names of the classes of a folder.

    Args:
        folder: See :class:`TaskAdaptation`.
        task: ``'cls'`` or ``'det'``.

    Raises:
        ValueError: If there are fewer than two classes (``cls``) or none.
        FileNotFoundError: If there is no such folder or no ``annotations.json``.
    """
    if task == 'cls':
        names = tuple(path.name for path in class_folders(folder))
        if len(names) < 2:
            raise ValueError(f'{folder} must have a folder for each of two classes, got {names}')
        return names
    file = folder / 'annotations.json'
    if not file.is_file():
        raise FileNotFoundError(f'no {file}: boxes in the format of COCO')
    categories = read_json(file).get('categories', [])
    if not categories:
        raise ValueError(f'{file} must have categories')
    return tuple(category['name'] for category in sorted(categories, key=lambda c: c['id']))


def _original(sample: Any) -> dict:
    """A data sample as a dict, its labeled boxes at the size of the file, as predictions are."""
    found = sample.to_dict()
    scale = sample.metainfo.get('scale_factor')
    if 'gt_instances' in found and scale is not None:
        boxes = getattr(found['gt_instances']['bboxes'], 'tensor', found['gt_instances']['bboxes'])
        scaled = boxes / boxes.new_tensor([*scale] * 2)
        found['gt_instances'] = dict(found['gt_instances'], bboxes=scaled)
    return found


def _is_number(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
