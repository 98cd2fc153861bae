"""Gradient-based meta-learning of any model."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from hyper_mm.checks import check_choice, check_count, check_positive
from hyper_mm.deprecation import renamed_property
from hyper_mm.layers.meta.adapt import adapt, reptile_loss
from hyper_mm.registry import MODELS

from .episodic_model import Batch, EpisodicModel

ALGORITHMS = {'maml': False, 'fomaml': True, 'anil': False, 'metasgd': False, 'reptile': True}
"""Algorithm -> whether it is first-order by default."""

NORMS = ('batch', 'frozen', 'task')
KEPT_STATISTICS = 0.1
"""Share of the tasks of a step in the running statistics where each task has its own."""

_LEFT: ContextVar[list[dict[str, Tensor]] | None] = ContextVar('hyper_mm_buffers', default=None)
"""Buffers that the episodes of a batch have left."""


class DivergedError(ValueError):
    """The loss of an inner step is not finite."""


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
    evaluation mode. A batch norm then sees the query by statistics to which few steps bring little
    of the task: see ``norms``, or take norms without them (group, instance).

    Logged beside the losses: ``meta/support``, the loss of the support before the steps, and each
    ``gain_interval`` calls ``meta/gain``, the loss of the query without the steps minus that with
    them. Where it stays at 0, one set of weights solves all tasks, and there is nothing to learn
    from a support.

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
        norms: What batch norms do in episodes. ``'batch'``: inner steps and the query of training
            by the statistics of their batch; ``'frozen'``: all by the running ones, which stay as
            they are (of a pretrained backbone, and of supports of a few images); ``'task'``: the
            query, in training and in prediction, by the statistics of its support after the steps
            (one more forward pass).
        gain_interval: Calls between two measurements of ``meta/gain``, each of which takes a
            forward pass; 0 for none.
        data_preprocessor: See :class:`EpisodicModel`.
        init_cfg: Initialization config of mmengine.
        **kwargs: Of :class:`EpisodicModel`.

    Raises:
        ValueError: For an unknown algorithm, ``first_order`` where the algorithm fixes it, rates or
            steps that are not positive, an ``adapt`` that matches nothing, or ``norms`` of a model
            without batch norms.
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
        norms: str = 'batch',
        gain_interval: int = 50,
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
        check_count(0, test_steps=test_steps, gain_interval=gain_interval)
        check_choice(NORMS, norms=norms)
        if norms != 'batch' and not batch_norms(self.model):
            raise ValueError(
                f"norms must be 'batch' for a model without batch norms, got {norms!r}"
            )
        self.norms, self.gain_interval, self._calls = norms, gain_interval, 0
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
        frozen = self.norms == 'frozen' and self.model.training
        with norms_in(self.model, training=False) if frozen else contextlib.nullcontext():
            found = functional_call(
                self.model, tensors, (), dict(batch, mode=mode), tie_weights=False
            )
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
        device = next(iter(parameters.values())).device.type
        with torch.autocast(device, enabled=False):
            adapted = adapt(
                loss, parameters, self._rates(), steps, first_order, self.clip, names, retain_graph
            )
        self.take_statistics(support, adapted, buffers)
        return adapted, losses

    def _rates(self) -> float | dict[str, Tensor]:
        """The rate of the inner steps, or one an adapted parameter."""
        if self.rates is None:
            return self.inner_lr
        return dict(zip(self._rate_names, self.rates))

    def take_statistics(self, support: Batch, parameters: dict, buffers: dict) -> None:
        """Makes the statistics of the support those of the norms, where each task has its own.

        Args:
            support: The batch.
            parameters: Adapted parameters, by name.
            buffers: Changed in place.
        """
        if self.norms == 'task':
            with torch.no_grad(), norms_in(self.model, training=True, momentum=1.0):
                self.call(parameters, buffers, support, 'loss')

    def step(
        self, batches: Iterable[Batch], parameters: dict[str, Tensor], buffers: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], float]:
        """One inner step whose gradient is the mean over several batches, a batch at a time.

        Memory is that of one batch; nothing is differentiated through.

        Args:
            batches: Parts of the support; each counts by its number of images.
            parameters: Parameters before the step, by name.
            buffers: Changed in place.

        Returns:
            The parameters after the step, detached, and the mean loss before it.

        Raises:
            DivergedError: If the loss is not finite.
            ValueError: If there are no batches.
        """
        names, rates = self._names(), self._rates()
        current = {n: p.detach().requires_grad_(n in names) for n, p in parameters.items()}
        total = {n: torch.zeros_like(current[n]) for n in names}
        count, value = 0, 0.0
        for batch in batches:
            images = len(batch['inputs'])
            loss = self.model.parse_losses(self.call(current, buffers, batch, 'loss'))[0]
            if not loss.isfinite():
                raise DivergedError(
                    f'the loss of a step is {loss.item()}: a smaller rate, or an image with values '
                    'that are not finite'
                )
            grads = torch.autograd.grad(loss, [current[n] for n in names], allow_unused=True)
            for name, grad in zip(names, grads):
                if grad is not None:
                    total[name] += images * grad
            count, value = count + images, value + images * loss.item()
        if not count:
            raise ValueError('batches must be at least one, got none')
        adapted = {n: p.detach() for n, p in current.items()}
        for name in names:
            grad = total[name] / count
            grad = grad if self.clip is None else grad.clamp(-self.clip, self.clip)
            rate = rates[name].detach() if isinstance(rates, Mapping) else rates
            adapted[name] = adapted[name] - rate * grad
        return adapted, value / count

    def query_call(self, parameters: dict, buffers: dict, query: Batch) -> dict[str, Tensor]:
        """Losses of the query in training.

        Args:
            parameters: Adapted parameters, by name.
            buffers: Those that the support has left; changed in place.
            query: The batch.
        """
        if self.norms == 'task':
            with norms_in(self.model, training=False):
                return self.call(parameters, buffers, query, 'loss')
        return self.call(parameters, buffers, query, 'loss')

    def gain(self, buffers: dict, query: Batch, after: Tensor) -> dict[str, Tensor]:
        """``meta/gain`` of an episode, empty in calls that do not measure it.

        Args:
            buffers: Those that the query was judged with.
            query: The batch.
            after: Its loss after the inner steps.
        """
        if not self.gain_interval or (self._calls - 1) % self.gain_interval:
            return {}
        cuda = [after.device] if after.device.type == 'cuda' else []
        copies = {n: b.clone() for n, b in buffers.items()}
        with torch.no_grad(), torch.random.fork_rng(cuda):
            losses = self.query_call(dict(self.model.named_parameters()), copies, query)
            before = self.model.parse_losses(losses)[0]
        return {'meta/gain': before - after.detach()}

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
        self._calls += 1
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
                    if self.norms == 'task' and buffer.is_floating_point():
                        kept = buffer.lerp(kept, KEPT_STATISTICS)
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
            ``loss_meta`` (``loss_reptile``), ``meta/support`` (before the inner steps), the terms
            of the query's loss as ``query/*``, and now and then ``meta/gain``.
        """
        parameters, buffers = self.initial_state()
        adapted, before = self.inner(
            support, parameters, buffers, self.inner_steps, self.first_order
        )
        logged = {'meta/support': before[0].detach()}
        if self.algorithm == 'reptile':
            self.leave(buffers)
            return dict(loss_reptile=reptile_loss(parameters, adapted), **logged)
        losses = self.query_call(adapted, buffers, query)
        self.leave(buffers)
        total, terms = self.model.parse_losses(losses)
        for name, value in terms.items():
            if name != 'loss':
                logged['query/' + re.sub('[._]loss$|loss_', '', name)] = value.detach()
        return dict(loss_meta=total, **logged, **self.gain(buffers, query, total))

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


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Modules of a model with running statistics of batches.

    Args:
        model: The model.
    """
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


@contextlib.contextmanager
def norms_in(model: nn.Module, training: bool, momentum: float | None = None) -> Iterator[None]:
    """Context in which the batch norms of a model are in a mode of their own.

    Args:
        model: The model.
        training: By statistics of the batch, or by the running ones.
        momentum: Share of a batch in the running ones; as it is if None.
    """
    norms = batch_norms(model)
    before = [(norm.training, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            norm.training = training
            norm.momentum = norm.momentum if momentum is None else momentum
        yield
    finally:
        for norm, (mode, share) in zip(norms, before):
            norm.training, norm.momentum = mode, share


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
