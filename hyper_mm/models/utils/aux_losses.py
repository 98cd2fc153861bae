"""Losses of components inside a model (necks, adapters, backbones), added to its own.

Whatever belongs to one call of a model is kept in a *scope* of that call, never on a module: the
scope is open while ``loss()`` or ``predict()`` runs, in its thread alone (:mod:`contextvars`), and
is gone afterwards, also after an error. So threads may share a model, a component may run several
times in a call, and ``deepcopy`` of a model never meets the graph of an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor

from hyper_mm.layers import Hierarchy
from hyper_mm.layers.common.aux_losses import collect_losses
from hyper_mm.models.utils.added_neck import load_listed_necks


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


_FOUND: ContextVar[list[FoundHierarchy] | None] = ContextVar('hyper_mm_hierarchies', default=None)


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


class AuxLossMixin:
    """Mixin of a model, before its stock class: adds what its parts publish.

    Losses of an :class:`~hyper_mm.layers.common.aux_losses.AuxLossSource` in training, and in
    prediction the hierarchy of a part with ``keep_hierarchy`` set. Checkpoints of the stock model
    find their place where a neck was added to a list of necks. ``type='hyper_mm.X'`` makes such a
    class of any registered model X; see :mod:`hyper_mm.models.stock`.

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
        with collect_losses(self) as scope:
            losses = super().loss(*args, **kwargs)
        paths = {module: path for path, module in self.named_modules()}
        return losses | scope.total(paths, losses)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        load_listed_necks(self, state_dict, prefix)  # type: ignore[arg-type]  # a model, beside it
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]

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
