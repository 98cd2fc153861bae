"""Models of several tasks with one backbone."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.model import BaseModel
from torch import Tensor, nn

from hyper_mm.checks import check_choice
from hyper_mm.registry import MODELS

from .episodic_model import check_none


class TaskPreprocessor(nn.Module):
    """Runs the data preprocessor of the task of a batch.

    Args:
        models: Models of the tasks.
    """

    def __init__(self, models: Mapping[str, BaseModel]):
        super().__init__()
        self.each = nn.ModuleDict({name: m.data_preprocessor for name, m in models.items()})

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares a batch.

        Args:
            data: A batch, with the name of its ``task``.
            training: Prepare it for training.

        Raises:
            ValueError: If there is no such task.
        """
        task, rest = data.get('task'), {k: v for k, v in data.items() if k != 'task'}
        if task not in self.each:
            raise ValueError(f"a batch must have a 'task' of {[*self.each]}, got {task!r}")
        return dict(self.each[task](rest, training), task=task)


@MODELS.register_module()
class MultiTaskModel(BaseModel):
    """Models of classification, segmentation and detection that share one backbone.

    Each batch is of one task and goes to its model; losses are named ``<task>.<loss>``. Within
    :class:`hyper_mm.MetaLearner` it learns from the episodes of
    :class:`hyper_mm.MixedEpisodeDataset`::

        model = dict(
            type='hyper_mm.MultiTaskModel',
            backbone=dict(type='mmpretrain.ResNet', ...),
            tasks=dict(
                seg=dict(_scope_='mmseg', type='EncoderDecoder', decode_head=...),
                cls=dict(_scope_='mmpretrain', type='ImageClassifier', neck=..., head=...)))

    Distributed, different ranks see different tasks: set ``find_unused_parameters=True``.

    Args:
        backbone: Config of the backbone.
        tasks: Name -> config of the model without a backbone, with its own ``data_preprocessor``.
        data_preprocessor: Must be None.
        init_cfg: Initialization config of mmengine.
        pretrained: Must be None, as mmseg's ``init_model`` sets it.
        train_cfg: Must be None, likewise.

    Raises:
        ValueError: If there are no tasks, one has a backbone, or what must be None is not.
    """

    def __init__(
        self,
        backbone: dict,
        tasks: Mapping[str, dict],
        data_preprocessor: None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
        train_cfg: None = None,
    ):
        check_none(self, pretrained=pretrained, train_cfg=train_cfg)
        if not tasks:
            raise ValueError('tasks must be at least one, got none')
        own = [name for name, cfg in tasks.items() if 'backbone' in cfg]
        if own or data_preprocessor is not None:
            raise ValueError(
                'the backbone must be that of MultiTaskModel and data_preprocessor those of the '
                f'tasks; tasks with a backbone: {own}, data_preprocessor={data_preprocessor}'
            )
        models = {n: MODELS.build(type(cfg)(backbone=backbone, **cfg)) for n, cfg in tasks.items()}
        first, *others = models.values()
        for model in others:
            model.backbone = first.backbone
        super().__init__(TaskPreprocessor(models), init_cfg)
        self.tasks = nn.ModuleDict(models)

    @property
    def backbone(self) -> nn.Module:
        """What the models share."""
        return next(iter(self.tasks.values())).backbone

    def forward(
        self,
        inputs: Tensor,
        data_samples: list | None = None,
        mode: str = 'tensor',
        task: str | None = None,
    ):
        """Runs the model of a task.

        Args:
            inputs: Images.
            data_samples: Their data samples.
            mode: As in mmengine.
            task: Name of the task.

        Returns:
            What that model returns.

        Raises:
            ValueError: If there is no such task.
        """
        check_choice(self.tasks, task=task)
        found = self.tasks[task](inputs, data_samples, mode=mode)
        if mode == 'loss':
            return {f'{task}.{name}': value for name, value in found.items()}
        return found
