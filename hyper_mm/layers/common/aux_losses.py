"""Losses of components inside a model: what belongs to one call is kept in a scope of that call.

The scope is open while a forward pass runs, in its thread alone (:mod:`contextvars`), and is gone
afterwards, also after an error; nothing of it is kept on a module. So threads may share a model, a
component may run several times in a call, and ``deepcopy`` of a model never meets the graph of an
earlier one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from ...compat import in_backward


class LossScope:
    """The losses that components publish while it is open; see :func:`collect_losses`."""

    def __init__(self) -> None:
        self.with_grad = torch.is_grad_enabled()
        self._entries: dict[AuxLossSource, dict[str, list[Tensor]]] = {}
        self._seen: set[int] = set()

    def add(self, source: AuxLossSource, losses: dict[str, Tensor]) -> None:
        """Adds what a forward pass of a component has published."""
        entries = self._entries.setdefault(source, {})
        for name, value in losses.items():
            entries.setdefault(name, []).append(value)

    def is_first_pass(self, source: AuxLossSource) -> bool:
        """Whether a component asks this for the first time in the scope."""
        first = id(source) not in self._seen
        self._seen.add(id(source))
        return first

    def sources(self) -> list[AuxLossSource]:
        """The components that have published, in the order of their first pass."""
        return list(self._entries)

    def of(self, source: AuxLossSource) -> dict[str, Tensor]:
        """What a component has published.

        Args:
            source: The component.

        Returns:
            Its losses, added up over its forward passes, and the means of its diagnostics.
        """
        entries = self._entries.get(source, {})
        return {
            name: torch.stack(values).sum(0) if 'loss' in name else torch.stack(values).mean(0)
            for name, values in entries.items()
        }

    def total(
        self, paths: Mapping[object, str] | None = None, taken: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """What all components have published.

        Args:
            paths: Paths of the components in the model. A name that is there already gets the path
                in front of it, and where there is none the class.
            taken: Names that are there already.

        Returns:
            Losses and diagnostics. Those of components that add up (:attr:`AuxLossSource.adds_up`)
            are one entry.
        """
        found: dict[str, Tensor] = {}
        shared: dict[str, str] = {}
        for source in self._entries:
            for name, value in self.of(source).items():
                if source.adds_up and name in shared:
                    found[shared[name]] = found[shared[name]] + value
                    continue
                key = name
                if name in taken or name in found:
                    key = f'{(paths or {}).get(source, type(source).__name__)}.{name}'
                if source.adds_up:
                    shared[name] = key
                found[key] = value
        return found


_LOSSES: ContextVar[LossScope | None] = ContextVar('hyper_mm_losses', default=None)


@contextmanager
def collect_losses(model: nn.Module | None = None) -> Iterator[LossScope]:
    """Opens a scope for the losses that components publish in this thread.

    Models of hyper_mm with a ``loss()`` do so by themselves. Of nested scopes the innermost
    collects.

    Args:
        model: What is about to run: what an earlier pass with reentrant checkpointing, which never
            came to its backward pass, has left in its components is dropped.

    Yields:
        The scope, to be read with :meth:`LossScope.of`.

    Example:
        >>> with collect_losses() as scope:
        ...     features = neck(features)
        >>> loss = sum(value for name, value in scope.of(neck).items() if 'loss' in name)
    """
    if model is not None and not losses_are_collected():
        for source in model.modules():
            if isinstance(source, AuxLossSource):
                source.forget_stand_ins()
    scope = LossScope()
    token = _LOSSES.set(scope)
    try:
        yield scope
    finally:
        _LOSSES.reset(token)


def losses_are_collected() -> bool:
    """Whether :func:`collect_losses` is open in this thread."""
    return _LOSSES.get() is not None


class _Attach(torch.autograd.Function):
    """Outputs as they are; in their first backward pass a loss is back-propagated, too.

    There are several where a later component of the pass back-propagates its losses at once.
    """

    @staticmethod
    def forward(ctx, loss: Tensor, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.grad = torch.ones_like(loss)
        return tuple(x.view_as(x) for x in outputs)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, ctx.grad = ctx.grad, None
        return grad, *grads


class AuxLossSource:
    """Mixin of a component that has losses of its own.

    The component calls :meth:`publish` in its forward pass where :attr:`publishes` is true, and
    goes on with what it returns. A model of hyper_mm adds up what is published during its
    ``loss()``. In any other model the losses would be lost, unless :func:`collect_losses` is open:
    the component says so, once, when it first publishes.

    Activation checkpointing runs a forward pass again within the backward pass. There:

    - Non-reentrant (``use_reentrant=False``): the losses of the first pass have a graph, whose
      tensors the second one restores. What the second publishes is the same and is ignored.
    - Reentrant: the first pass runs without gradients. The model gets a stand-in of each loss, a
      leaf with its value; in the second pass the loss joins the outputs of the component, with the
      gradient that has arrived at its stand-in (so with the loss scale and the weight that the
      model has applied). Each parameter gets one gradient, as distributed training needs it.
    """

    training: bool
    parameters: Callable[..., Iterator[nn.Parameter]]

    adds_up = False
    """Whether losses of one name are those of all such components, such as layers of a model."""

    _warned = False
    _stand_ins: list[dict[str, Tensor]] | None = None

    @property
    def publishes(self) -> bool:
        """Whether this forward pass is to compute and publish losses."""
        if not self.training:
            return False
        scope = _LOSSES.get()
        if torch.is_grad_enabled():
            return True  # also where nobody collects: a pass and its repetition do the same
        return scope is not None and scope.with_grad and self._is_trained()

    def _is_trained(self) -> bool:
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def is_first_pass(self) -> bool:
        """Whether this is the first question for it since the model's ``loss()`` has begun."""
        scope = _LOSSES.get()
        return scope is not None and scope.is_first_pass(self)

    def publish(self, losses: dict[str, Tensor], *outputs: Tensor) -> tuple[Tensor, ...]:
        """Hands the losses of this forward pass to the model.

        Args:
            losses: Entries for the loss dict of the model: ``loss_*`` are added up and
                back-propagated, other names are logged.
            *outputs: Tensors of the forward pass of which at least one is used further on, with a
                gradient: where the pass is a repetition, the losses are back-propagated with them.
                Without any, at once: the parameters behind the losses then get a second gradient,
                which ``DistributedDataParallel`` refuses.

        Returns:
            The outputs, to be used in place of those given.
        """
        if in_backward():
            return self._back_propagate(losses, outputs)
        scope = _LOSSES.get()
        if scope is None:
            self._warn(sorted(name for name in losses if 'loss' in name))
            return outputs
        if not torch.is_grad_enabled():  # the first pass of reentrant checkpointing
            stand_ins = {n: v.detach().requires_grad_() for n, v in losses.items() if 'loss' in n}
            self._stand_ins = [*(self._stand_ins or ()), stand_ins]
            losses = losses | stand_ins
        scope.add(self, losses)
        return outputs

    def forget_stand_ins(self) -> None:
        """Drops the stand-ins of losses that were never back-propagated."""
        self._stand_ins = None

    def _back_propagate(
        self, losses: dict[str, Tensor], outputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        if not self._stand_ins or not torch.is_grad_enabled():
            return outputs
        stand_ins = self._stand_ins.pop()  # the last pass is the first to run again
        pairs = [
            (losses[name], stand_in.grad)
            for name, stand_in in stand_ins.items()
            if stand_in.grad is not None and losses[name].requires_grad
        ]
        if not pairs:
            return outputs
        if any(x.requires_grad for x in outputs):
            return _Attach.apply(sum((x * g).sum() for x, g in pairs), *outputs)
        tensors, grads = map(list, zip(*pairs))
        torch.autograd.backward(tensors, grads, retain_graph=True)  # this pass needs its graph
        return outputs

    def _warn(self, lost: list[str]) -> None:
        if not lost or self._warned:
            return
        self._warned = True
        name = type(self).__name__
        warnings.warn(
            f'{name} computes {lost} but the model does not add them to its losses, so {name} is '
            'trained without them, and distributed training stops at parameters without gradient. '
            "Put hyper_mm in front of the type of the model (type='hyper_mm.EncoderDecoder' for "
            "'EncoderDecoder', 'hyper_mm.FCOS' for 'FCOS', ...), set the weights of these losses "
            'to 0, or in a training loop of your own open hyper_mm.layers.collect_losses().',
            stacklevel=3,
        )
