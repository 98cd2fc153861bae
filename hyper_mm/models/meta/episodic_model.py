"""What all models share that take episodes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.func import functional_call

from hyper_mm.checks import check_positive
from hyper_mm.layers.meta.task_contrast import TaskContrast
from hyper_mm.registry import MODELS

Batch = Mapping[str, object]


class EpisodePreprocessor(nn.Module):
    """Runs the data preprocessor of the model on the support and on the query of each episode.

    Args:
        model: The model that is wrapped.
    """

    def __init__(self, model: BaseModel):
        super().__init__()
        self.batch = model.data_preprocessor

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepares episodes, or an ordinary batch.

        Args:
            data: An ordinary batch; or one episode, ``support`` and ``query`` being batches; or
                the collated items of :class:`hyper_mm.EpisodeDataset`, lists of batches of which
                entry t belongs to episode t; or a list of objects with ``support`` and ``query``,
                of :class:`hyper_mm.MixedEpisodeDataset`.
            training: Prepare the query for training. The support always is.

        Returns:
            What the model's own preprocessor returns; for episodes, ``inputs`` is a list of
            ``dict(support=batch, query=batch)``, where in prediction the query is a list of batches
            of one image, since sizes may differ.
        """
        if isinstance(data, Mapping):
            if 'support' not in data:
                return self.batch(data, training)
            pairs = zip(_split(data['support']), _split(data['query']))
        else:
            pairs = ((episode.support, episode.query) for episode in data)
        episodes = []
        for support, query in pairs:
            if training:
                prepared = self.batch(query, True)
            else:
                images = zip(query['inputs'], query['data_samples'])
                single = [dict(query, inputs=[x], data_samples=[y]) for x, y in images]
                prepared = [self.batch(x, False) for x in single]
            episodes.append(dict(support=self.batch(support, True), query=prepared))
        return dict(inputs=episodes)


def _split(part: dict | list) -> list[dict]:
    """Batches of the episodes of a collated part."""
    if isinstance(part, Mapping):
        return [part]
    if not part:
        raise ValueError('support and query of an episode must hold at least one image')
    count = len(part[0]['inputs'])
    return [{k: [item[k][t] for item in part] for k in part[0]} for t in range(count)]


def check_none(wrapper: BaseModel, **settings: object) -> None:
    """Refuses settings of a segmentor that a wrapper does not have."""
    for name, value in settings.items():
        if value is not None:
            raise ValueError(
                f'{name} must be None for {type(wrapper).__name__}, got {value!r}: set it in the '
                'model inside'
            )


def group_of(batch: Batch) -> Hashable | None:
    """Which tasks are the same: kind, domain, and classes; None where nothing tells.

    Args:
        batch: With ``data_samples``, as :class:`hyper_mm.EpisodeDataset` marks them.
    """
    sample = batch['data_samples'][0]
    get = getattr(sample, 'get', lambda name: None)
    domain, classes = get('domain'), get('episode_classes')
    if domain is None and classes is None:
        return None
    return batch.get('task'), domain, classes and tuple(sorted(classes))


class EpisodicModel(BaseModel):
    """Base of the wrappers that train a model on episodes.

    Ordinary batches go to the model as it is, except in training. A list of episodes is trained
    on, or adapted to by its supports and predicted on its queries.

    Args:
        model: Model or its config, of mmseg, mmpretrain or mmdet.
        data_preprocessor: Config for the model where its own has none; the runner passes that of a
            config file's top level.
        init_cfg: Initialization config of mmengine.
        pretrained: Must be None, as mmseg's ``init_model`` sets it: weights are the model's matter.
        train_cfg: Must be None, likewise.
        task_contrast: Options of :class:`hyper_mm.layers.TaskContrast` and its ``weight`` (0.1):
            an auxiliary loss on the backbone, which brings support and query of a task together and
            tasks of a batch apart. It takes one more forward pass of the backbone; running
            statistics do not see it.

    Raises:
        ValueError: If ``pretrained`` or ``train_cfg`` is something else, or ``task_contrast`` is
            given for a model without a ``backbone``.
    """

    def __init__(
        self,
        model: dict | BaseModel,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
        train_cfg: None = None,
        task_contrast: dict | None = None,
    ):
        check_none(self, pretrained=pretrained, train_cfg=train_cfg)
        if not isinstance(model, nn.Module):
            if data_preprocessor is not None:
                model = type(model)(dict(data_preprocessor=data_preprocessor), **model)
            model = MODELS.build(model)
        super().__init__(EpisodePreprocessor(model), init_cfg)
        self.model = model
        self.task_contrast = None
        if task_contrast is not None:
            if not isinstance(getattr(model, 'backbone', None), nn.Module):
                raise ValueError(
                    f'task_contrast needs a model with a backbone, got {type(model).__name__}'
                )
            options = dict(task_contrast)
            self.contrast_weight = options.pop('weight', 0.1)
            check_positive(weight=self.contrast_weight)
            self.task_contrast = TaskContrast(**options)

    @property
    def out_channels(self) -> int:
        """Channels of a segmentor's logits, as mmseg's test-time augmentation asks for it."""
        return self.model.out_channels

    @property
    def decode_head(self) -> nn.Module:
        """Head of a segmentor, likewise."""
        return self.model.decode_head

    def forward(self, inputs, data_samples: list | None = None, mode: str = 'tensor', **options):
        """Runs the model.

        Args:
            inputs: Images of a batch, or a list of episodes of :class:`EpisodePreprocessor`.
            data_samples: Data samples of a batch; of episodes, they are inside ``inputs``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``; only the first two take episodes.
            **options: What else the model takes with a batch.

        Returns:
            As in mmengine. Losses are averaged over the episodes, predictions are those of the
            queries, episode by episode.

        Raises:
            ValueError: If a batch is no list of episodes in training, or there is no such mode.
        """
        episodes = isinstance(inputs, list) and inputs and isinstance(inputs[0], Mapping)
        if not episodes:
            if mode == 'loss':
                raise ValueError(
                    f'{type(self).__name__} is trained on episodes, got an ordinary batch: wrap '
                    'the data set in hyper_mm.EpisodeDataset, or use hyper_mm.EpisodicTrainLoop'
                )
            return self.model(inputs, data_samples, mode=mode, **options)
        if mode == 'loss':
            return self.loss(inputs)
        if mode != 'predict':
            raise ValueError(f"mode must be 'loss' or 'predict' for episodes, got {mode!r}")
        samples = []
        for episode in inputs:
            query = episode['query']
            query = query if isinstance(query, list) else [query]
            samples += self.episode_predict(episode['support'], query)
        return samples

    def loss(self, episodes: list[dict[str, Batch]]) -> dict[str, Tensor]:
        """Losses of the episodes, each averaged over those that have it.

        Args:
            episodes: With ``support`` and ``query``.
        """
        found = [self.episode_loss(e['support'], e['query']) for e in episodes]
        names = dict.fromkeys(name for losses in found for name in losses)
        losses = {n: torch.stack([x[n] for x in found if n in x]).mean() for n in names}
        if self.task_contrast is not None:
            support, query = (
                torch.stack([self.representation(e[part]) for e in episodes])
                for part in ('support', 'query')
            )
            groups = [group_of(e['query']) or i for i, e in enumerate(episodes)]
            contrast = self.task_contrast(support, query, groups)
            losses['loss_task_contrast'] = self.contrast_weight * contrast
        return losses

    def representation(self, batch: Batch) -> Tensor:
        """Mean of the last features of the backbone over positions and images ``(C,)``.

        Args:
            batch: With ``inputs``.

        Raises:
            ValueError: If the backbone returns neither maps nor vectors.
        """
        backbone = self.model.backbone
        copies = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        found = functional_call(backbone, copies, (batch['inputs'],))
        last = found[-1] if isinstance(found, (list, tuple)) else found
        last = last[0] if isinstance(last, (list, tuple)) else last  # with a class token
        if last.ndim not in (2, 4):
            raise ValueError(
                'task_contrast takes maps (B, C, H, W) or vectors (B, C) of the backbone, got '
                f'{tuple(last.shape)}'
            )
        return last.mean((0, *range(2, last.ndim)))

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Losses of an episode.

        Args:
            support: Batch to learn from.
            query: Batch to be judged by.
        """
        raise NotImplementedError

    def episode_predict(self, support: Batch, query: list[Batch]) -> list:
        """Predicts the query after learning from the support.

        Args:
            support: Batch to learn from.
            query: Batches to predict.
        """
        raise NotImplementedError
