"""Gradient-based meta-learning of any model."""

from __future__ import annotations

import copy
import re
from contextvars import ContextVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.func import functional_call

from hyper_mm.checks import check_choice, check_count, check_positive
from hyper_mm.deprecation import renamed_property
from hyper_mm.layers.meta.adapt import adapt, reptile_loss
from hyper_mm.registry import MODELS

from .episodic_model import Batch, EpisodicModel

ALGORITHMS = {'maml': False, 'fomaml': True, 'anil': False, 'metasgd': False, 'reptile': True}
"""Algorithm -> whether it is first-order by default."""

_LEFT: ContextVar[list[dict[str, Tensor]] | None] = ContextVar('hyper_mm_buffers', default=None)
"""Buffers that the episodes of a batch have left."""


@MODELS.register_module()
class MetaLearner(EpisodicModel):
    r"""Trains the initial weights from which a few gradient steps on a support do best.

    .. math:: \min_\theta \sum_t L_t^{\text{query}}
        (\theta - \alpha \nabla L_t^{\text{support}}(\theta))

    The inner steps run within ``forward(mode='loss')``, so that the stock loops, optimizers, hooks,
    checkpoints and wrappers serve unchanged. They run in float32 even under autocast, and with
    attention that can be differentiated twice where the algorithm needs it.

    Buffers (running statistics) are copied for each episode; the mean of what the episodes leave is
    written back. In prediction, the inner steps run in training mode on such copies, the query in
    evaluation mode. Norms without running statistics (group, instance) suit few-shot tasks better.

    Args:
        model: Model or its config.
        algorithm: ``'maml'``, ``'fomaml'`` (gradients of the inner steps are constants),
            ``'anil'`` (inner steps on the head alone), ``'metasgd'`` (a learned rate an entry) or
            ``'reptile'`` (the loss is :func:`hyper_mm.layers.meta.adapt.reptile_loss`; the query
            plays no part, and the rate of the optimizer is Reptile's epsilon).
        inner_lr: Rate of the inner steps; initial rate for ``'metasgd'``.
        inner_steps: Number of inner steps.
        test_steps: Number of them in prediction, 0 for the model as it is; as in training if None.
        clip: Limit of each entry of the inner gradients.
        adapt: Regular expression, searched in the names of parameters, of those that the inner
            steps change; if None ``'head'`` for ``'anil'``, otherwise all.
        first_order: Take inner gradients as constants; only for ``'anil'`` and ``'metasgd'``.
        commit_buffers: Write buffers back.
        data_preprocessor: See :class:`EpisodicModel`.
        init_cfg: Initialization config of mmengine.
        **kwargs: Of :class:`EpisodicModel`.

    Raises:
        ValueError: For an unknown algorithm, ``first_order`` where the algorithm fixes it, rates or
            steps that are not positive, or an ``adapt`` that matches nothing.
    """

    def __init__(
        self,
        model: dict | BaseModel,
        algorithm: str = 'fomaml',
        inner_lr: float = 0.01,
        inner_steps: int = 1,
        test_steps: int | None = None,
        clip: float | None = None,
        adapt: str | None = None,
        first_order: bool | None = None,
        commit_buffers: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ):
        super().__init__(model, data_preprocessor, init_cfg, **kwargs)
        check_choice(ALGORITHMS, algorithm=algorithm)
        if first_order is not None and algorithm not in ('anil', 'metasgd'):
            raise ValueError(f'first_order must be None for {algorithm!r}, got {first_order}')
        test_steps = inner_steps if test_steps is None else test_steps
        check_positive(inner_lr=inner_lr, clip=1 if clip is None else clip)
        check_count(1, inner_steps=inner_steps)
        check_count(0, test_steps=test_steps)
        self.algorithm, self.inner_lr, self.clip = algorithm, inner_lr, clip
        self.inner_steps, self.test_steps = inner_steps, test_steps
        self.first_order = ALGORITHMS[algorithm] if first_order is None else first_order
        self.commit_buffers = commit_buffers
        adapt = ('head' if algorithm == 'anil' else '') if adapt is None else adapt
        try:
            self.adapt = re.compile(adapt)
        except re.error as error:
            raise ValueError(
                f'adapt must be a regular expression, got {adapt!r}: {error}'
            ) from None
        parameters = dict(self.model.named_parameters())
        if not self._names():
            raise ValueError(
                f'adapt={self.adapt.pattern!r} matches no trainable parameter of '
                f'{type(self.model).__name__}; there are {[*parameters][:5]} ...'
            )
        self.rates: nn.ParameterList | None = None
        if algorithm == 'metasgd':
            self._rate_names = self._names()
            self.rates = nn.ParameterList(
                torch.full_like(parameters[n], inner_lr) for n in self._rate_names
            )

    def _names(self) -> list[str]:
        named = self.model.named_parameters()
        return [n for n, p in named if p.requires_grad and self.adapt.search(n)]

    def call(self, parameters: dict, buffers: dict, batch: Batch, mode: str):
        """Runs the model with other weights.

        Args:
            parameters: Its parameters, by name.
            buffers: Its buffers, which the call may change: those of the dict are the ones that it
                leaves.
            batch: ``inputs`` and ``data_samples``, and what else the model takes.
            mode: As in mmengine.
        """
        named, held = {**parameters, **buffers}, places(self.model)
        tensors = {place: named[name] for place, name in held.items()}
        found = functional_call(self.model, tensors, (), dict(batch, mode=mode), tie_weights=False)
        # a module may have set a buffer anew instead of changing it
        buffers.update({n: tensors[place] for place, n in held.items() if n in buffers})
        return found

    def inner(
        self,
        support: Batch,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        steps: int,
        first_order: bool,
        retain_graph: bool = False,
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Adapts parameters to a support.

        Args:
            support: The batch.
            parameters: Parameters before the first step, by name.
            buffers: Changed in place.
            steps: Number of steps.
            first_order: Take the gradients as constants.
            retain_graph: Keep the graphs of the losses.

        Returns:
            The adapted parameters, and the loss before each step.
        """
        losses = []

        def loss(p: dict[str, Tensor]) -> Tensor:
            losses.append(self.model.parse_losses(self.call(p, buffers, support, 'loss'))[0])
            return losses[-1]

        names = self._names()
        lr = self.inner_lr
        if self.rates is not None:
            lr = dict(zip(self._rate_names, self.rates))
        device = next(iter(parameters.values())).device.type
        with torch.autocast(device, enabled=False):
            adapted = adapt(
                loss, parameters, lr, steps, first_order, self.clip, names, retain_graph
            )
        return adapted, losses

    def initial_state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the parameters before the inner steps, and copies of the buffers, by name."""
        buffers = {n: b.clone() for n, b in self.model.named_buffers()}
        return dict(self.model.named_parameters()), buffers

    start = renamed_property('initial_state')

    def loss(self, episodes: list[dict[str, Batch]]) -> dict[str, Tensor]:
        """Losses of the episodes, averaged; commits their buffers.

        Args:
            episodes: With ``support`` and ``query``.
        """
        batch: list[dict[str, Tensor]] = []
        token = _LEFT.set(batch)
        try:
            losses = super().loss(episodes)
        finally:
            _LEFT.reset(token)
        if self.commit_buffers:
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    values = torch.stack([left[name] for left in batch])
                    kept = values.mean(0) if buffer.is_floating_point() else values.amax(0)
                    buffer.copy_(kept)
        return losses

    def leave(self, buffers: dict[str, Tensor]) -> None:
        """Hands over the buffers at the end of an episode, for :meth:`loss` to write back.

        Args:
            buffers: By name.
        """
        batch = _LEFT.get()
        if batch is not None:
            batch.append(buffers)

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Losses of an episode.

        Args:
            support: Batch of the inner steps.
            query: Batch of the meta-loss.

        Returns:
            ``loss_meta`` (``loss_reptile``), ``meta/support`` (before the inner steps), and the
            terms of the query's loss as ``query/*``.
        """
        parameters, buffers = self.initial_state()
        adapted, before = self.inner(
            support, parameters, buffers, self.inner_steps, self.first_order
        )
        logged = {'meta/support': before[0].detach()}
        if self.algorithm == 'reptile':
            self.leave(buffers)
            return dict(loss_reptile=reptile_loss(parameters, adapted), **logged)
        losses = self.call(adapted, buffers, query, 'loss')
        self.leave(buffers)
        total, terms = self.model.parse_losses(losses)
        for name, value in terms.items():
            if name != 'loss':
                logged['query/' + re.sub('[._]loss$|loss_', '', name)] = value.detach()
        return dict(loss_meta=total, **logged)

    def episode_predict(self, support: Batch, query: list[Batch]) -> list:
        """Predicts the query with the weights adapted to the support; keeps neither.

        Args:
            support: Batch of the inner steps.
            query: Batches to predict.
        """
        parameters, buffers = self.initial_state()
        parameters = {n: p.detach() for n, p in parameters.items()}
        # other threads may run the model with its own weights, or adapt it, at the same time
        own = copy.copy(self)
        own._modules = {**self._modules, 'model': duplicate(self.model)}
        if self.test_steps:
            own.model.train()
            parameters, _ = own.inner(support, parameters, buffers, self.test_steps, True)
            own.model.train(self.model.training)
        with torch.no_grad():
            found = [own.call(parameters, buffers, batch, 'predict') for batch in query]
        return [sample for samples in found for sample in samples]


def duplicate(model: nn.Module) -> nn.Module:
    """A copy of a model's structure and state whose parameters and buffers are the same tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def places(model: nn.Module) -> dict[str, str]:
    """Where a model holds its parameters and buffers.

    Torch's own handling of tied weights (``tie_weights=True``) leaves a module that is reachable by
    two names, such as a shared backbone, with the weights of the call.

    Args:
        model: The model.

    Returns:
        For each place, reached by one name, the name of the tensor as ``named_parameters`` and
        ``named_buffers`` have it; several places may hold one tensor.
    """
    found, names = {}, {}
    for prefix, module in model.named_modules():
        options = dict(prefix=prefix, recurse=False, remove_duplicate=False)
        for place, tensor in (
            *module.named_parameters(**options),
            *module.named_buffers(**options),
        ):
            found[place] = names.setdefault(tensor, place)
    return found
