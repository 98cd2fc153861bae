"""Losses of components inside a model (necks, adapters, backbones), added to its own.

Whatever belongs to one call of a model is kept in a *scope* of that call, never on a module: the
scope is open while ``loss()`` or ``predict()`` runs, in its thread alone (:mod:`contextvars`), and
is gone afterwards, also after an error. So threads may share a model, a component may run several
times in a call, and ``deepcopy`` of a model never meets the graph of an earlier one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn

from hyper_mm.compat import in_backward
from hyper_mm.layers import Hierarchy


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
            name: sum(values) if 'loss' in name or len(values) == 1 else sum(values) / len(values)
            for name, values in entries.items()
        }


class FoundHierarchy(NamedTuple):
    """The hierarchy of a batch, as a component with ``keep_hierarchy`` found it, detached.

    Attributes:
        hierarchy: Nodes and assignment.
        features: Features ``(B, M, d)``.
        size: Height and width of the feature map, if known.
    """

    hierarchy: Hierarchy
    features: Tensor
    size: tuple[int, int] | None


_LOSSES: ContextVar[LossScope | None] = ContextVar('hyper_mm_losses', default=None)
_FOUND: ContextVar[list[FoundHierarchy] | None] = ContextVar('hyper_mm_hierarchies', default=None)


@contextmanager
def collect_losses() -> Iterator[LossScope]:
    """Opens a scope for the losses that components publish in this thread.

    A model with :class:`AuxLossMixin` does so by itself. Of nested scopes the innermost collects.

    Yields:
        The scope, to be read with :meth:`LossScope.of`.

    Example:
        >>> with collect_losses() as scope:
        ...     features = neck(features)
        >>> loss = sum(value for name, value in scope.of(neck).items() if 'loss' in name)
    """
    scope = LossScope()
    token = _LOSSES.set(scope)
    try:
        yield scope
    finally:
        _LOSSES.reset(token)


@contextmanager
def collect_hierarchies() -> Iterator[list[FoundHierarchy]]:
    """Opens a scope for the hierarchies that components with ``keep_hierarchy`` find.

    Yields:
        A list, one entry a forward pass.
    """
    found: list[FoundHierarchy] = []
    token = _FOUND.set(found)
    try:
        yield found
    finally:
        _FOUND.reset(token)


def hierarchies_are_collected() -> bool:
    """Whether :func:`collect_hierarchies` is open in this thread."""
    return _FOUND.get() is not None


def hand_out_hierarchy(found: FoundHierarchy) -> None:
    """Adds a hierarchy to the open scope, if there is one."""
    scope = _FOUND.get()
    if scope is not None:
        scope.append(found)


class AuxLossSource:
    """Mixin of a component that has losses of its own.

    The component calls :meth:`publish` in its forward pass where :attr:`publishes` is true. A model
    with :class:`AuxLossMixin` adds up what is published during its ``loss()``. In any other model
    the losses would be lost: the component warns once, when it first publishes.

    Activation checkpointing runs a forward pass again within the backward pass. There:

    - Non-reentrant (``use_reentrant=False``): the losses of the first pass have a graph, whose
      tensors the second one restores. What the second publishes is the same and is ignored.
    - Reentrant: the first pass runs without gradients. The model gets a stand-in of each loss, a
      leaf with its value; the second pass back-propagates the loss with the gradient that has
      arrived at its stand-in (so with the loss scale and the weight that the model has applied).
    """

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

    def publish(self, losses: dict[str, Tensor]) -> None:
        """Hands the losses of this forward pass to the model.

        Args:
            losses: Entries for the loss dict of the model: ``loss_*`` are added up and
                back-propagated, other names are logged.
        """
        if in_backward():
            self._back_propagate(losses)
            return
        scope = _LOSSES.get()
        if scope is None:
            self._warn(sorted(name for name in losses if 'loss' in name))
            return
        if not torch.is_grad_enabled():  # the first pass of reentrant checkpointing
            stand_ins = {n: v.detach().requires_grad_() for n, v in losses.items() if 'loss' in n}
            self._stand_ins = [*(self._stand_ins or ()), stand_ins]
            losses = losses | stand_ins
        scope.add(self, losses)

    def forget_stand_ins(self) -> None:
        """Drops the stand-ins of losses that were never back-propagated."""
        self._stand_ins = None

    def _back_propagate(self, losses: dict[str, Tensor]) -> None:
        if not self._stand_ins or not torch.is_grad_enabled():
            return
        stand_ins = self._stand_ins.pop()  # the last pass is the first to run again
        pairs = [
            (losses[name], stand_in.grad)
            for name, stand_in in stand_ins.items()
            if stand_in.grad is not None and losses[name].requires_grad
        ]
        if pairs:  # the outputs of this pass need its graph, too
            torch.autograd.backward(*zip(*pairs), retain_graph=True)

    def _warn(self, lost: list[str]) -> None:
        if not lost or self._warned:
            return
        self._warned = True
        name = type(self).__name__
        warnings.warn(
            f'{name} computes {lost} but the model does not add them to its losses, so {name} is '
            'trained without them, and distributed training stops at parameters without gradient. '
            "Put hyper_mm in front of the type of the model (type='hyper_mm.EncoderDecoder' for "
            "'EncoderDecoder', 'hyper_mm.FCOS' for 'FCOS', ...), or set the weights of these "
            'losses to 0.',
            stacklevel=3,
        )


class AuxLossMixin:
    """Mixin of a model, before its stock class: adds what :class:`AuxLossSource` parts publish.

    Losses in training, and in prediction the hierarchy of a part with ``keep_hierarchy`` set.
    ``type='hyper_mm.X'`` makes such a class of any registered model X; see
    :mod:`hyper_mm.models.stock`.

    Example:
        >>> class EncoderDecoder(AuxLossMixin, mmseg.models.EncoderDecoder):
        ...     pass
    """

    def loss(self, *args, **kwargs) -> dict[str, Tensor]:
        """Losses of the stock model, with those of its components.

        Returns:
            The loss dict. The losses of a component that runs several times are added up. Two
            components that publish the same name get the path of the module in front of it.
        """
        if _LOSSES.get() is None:
            for source in aux_loss_sources(self).values():
                source.forget_stand_ins()
        with collect_losses() as scope:
            losses = super().loss(*args, **kwargs)
        paths = {module: path for path, module in self.named_modules()}
        for source in scope.sources():
            path = paths.get(source, type(source).__name__)
            for name, value in scope.of(source).items():
                losses[f'{path}.{name}' if name in losses else name] = value
        return losses

    def predict(self, *args, **kwargs) -> list[BaseDataElement]:
        """Predictions of the stock model, with the hierarchy found on the way.

        Args:
            *args: What the stock model takes: the images ``(B, 3, H, W)``, padded, come first.
            **kwargs: The same.

        Returns:
            Data samples. Those of a model with a part that keeps its hierarchy have a field
            ``hierarchy``; see :func:`attach_hierarchy`.

        Raises:
            ValueError: If several parts keep one, or prediction is by sliding windows, which have
                a hierarchy each.
        """
        keepers = [n for n, m in self.named_modules() if getattr(m, 'keep_hierarchy', False)]
        if not keepers:
            return super().predict(*args, **kwargs)
        if len(keepers) > 1:
            raise ValueError(f'keep_hierarchy may be set in one module, got {sorted(keepers)}')
        if (getattr(self, 'test_cfg', None) or {}).get('mode') == 'slide':
            raise ValueError("keep_hierarchy needs test_cfg.mode='whole', got 'slide'")
        with collect_hierarchies() as found:
            samples = super().predict(*args, **kwargs)
        if len(found) != 1:
            raise ValueError(
                f'keep_hierarchy: {keepers[0]} must run once in predict(), got {len(found)} passes'
            )
        images = args[0] if args else next(iter(kwargs.values()))
        attach_hierarchy(found[0], tuple(images.shape[-2:]), samples)
        return samples


def attach_hierarchy(
    found: FoundHierarchy, input_shape: tuple[int, int], samples: list[BaseDataElement]
) -> None:
    """Gives each data sample the hierarchy of its image, as the field ``hierarchy``.

    It is a :class:`PixelData` at the size ``(h, w)`` of the feature map, which covers the padded
    image: ``assignment_l`` ``(N_l, h, w)`` for each level (1 = leaves), ``features`` ``(d, h, w)``,
    and as metainfo ``input_shape`` (height and width of the padded image).

    Args:
        found: What the component found. Without a size, the positions are rows of a grid of the
            image's proportions.
        input_shape: Height and width of the padded image in pixels.
        samples: Data samples of the batch.

    Raises:
        ValueError: If there is no such grid, or not one hierarchy a data sample.
    """
    features, size = found.features, found.size
    if len(features) != len(samples):
        raise ValueError(
            f'keep_hierarchy: {len(features)} hierarchies for {len(samples)} data samples; '
            'test-time augmentation is not supported'
        )
    count = features.shape[1]
    if size is None:
        rows = max(round((count * input_shape[0] / input_shape[1]) ** 0.5), 1)
        size = (rows, count // rows)
    if size[0] * size[1] != count:
        raise ValueError(f'keep_hierarchy: {count} positions are no grid for images {input_shape}')
    maps = {f'assignment_{k}': x for k, x in enumerate(found.hierarchy.assignment, 1)}
    maps['features'] = features.mT
    maps = {name: x.unflatten(-1, size) for name, x in maps.items()}
    for index, sample in enumerate(samples):
        data = {name: x[index] for name, x in maps.items()}
        pixels = PixelData(metainfo=dict(input_shape=input_shape), **data)
        sample.set_field(pixels, 'hierarchy', dtype=PixelData)


def aux_loss_sources(model: nn.Module) -> dict[str, AuxLossSource]:
    """Components of a model that may publish losses, by their path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AuxLossSource)}
