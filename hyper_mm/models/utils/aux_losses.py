"""The one way out for the losses of components inside a model (necks, adapters, backbones)."""

from __future__ import annotations

import warnings

from mmengine.structures import BaseDataElement, PixelData
from torch import Tensor, nn


class AuxLossSource:
    """Mixin of a component that has losses of its own.

    The component calls :meth:`publish` in its training forward pass; a model with
    :class:`AuxLossMixin` adds the losses of the last forward pass to its own. In any other model
    they would be lost: the component then says so, once, at its second training step.
    """

    _published: dict[str, Tensor] | None = None
    _collected = False
    _warned = False

    def publish(self, losses: dict[str, Tensor]) -> None:
        """Keeps the losses of this forward pass for :meth:`aux_losses`.

        Args:
            losses: Entries for the loss dict of the model: ``loss_*`` are added up and
                back-propagated, other names are logged.
        """
        lost = sorted(n for n in self._published or () if 'loss' in n)
        if lost and not self._collected and not self._warned:
            self._warned = True
            name = type(self).__name__
            warnings.warn(
                f'{name} computes {lost} but the model does not add them to its losses, so '
                f"{name} is trained without them. Use the model's hyper_mm twin (for example "
                "type='hyper_mm.EncoderDecoder' instead of 'EncoderDecoder'), or set the weights "
                'of these losses to 0.',
                stacklevel=3,
            )
        self._published = losses

    def aux_losses(self) -> dict[str, Tensor]:
        """Hands out the losses of the last forward pass, once."""
        losses, self._published = self._published or {}, None
        self._collected = True
        return losses


class AuxLossMixin:
    """Mixin of a model, before its stock class: adds what :class:`AuxLossSource` parts publish.

    Losses in training, and in prediction the hierarchy of a part with ``keep_hierarchy`` set.

    Example:
        >>> class EncoderDecoder(AuxLossMixin, mmseg.models.EncoderDecoder):
        ...     pass
    """

    def loss(self, *args, **kwargs) -> dict[str, Tensor]:
        """Losses of the stock model, with those of its components.

        Returns:
            The loss dict. Two components that publish the same name get the path of the module in
            front of it.
        """
        for source in aux_loss_sources(self).values():
            source.aux_losses()  # drops what an earlier pass has left
        losses = super().loss(*args, **kwargs)
        for path, source in aux_loss_sources(self).items():
            for name, value in source.aux_losses().items():
                losses[f'{path}.{name}' if name in losses else name] = value
        return losses

    def predict(self, inputs: Tensor, *args, **kwargs) -> list[BaseDataElement]:
        """Predictions of the stock model, with the hierarchy found on the way.

        Args:
            inputs: Images ``(B, 3, H, W)``, padded.
            *args: What the stock model takes beside them.
            **kwargs: The same.

        Returns:
            Data samples. Those of a model with a part that keeps its hierarchy have a field
            ``hierarchy``; see :func:`attach_hierarchy`.

        Raises:
            ValueError: If several parts keep one, or prediction is by sliding windows, of which
                only the last hierarchy would stay.
        """
        keepers = {n: m for n, m in self.named_modules() if getattr(m, 'keep_hierarchy', False)}
        if len(keepers) > 1:
            raise ValueError(f'keep_hierarchy may be set in one module, got {sorted(keepers)}')
        if keepers and (getattr(self, 'test_cfg', None) or {}).get('mode') == 'slide':
            raise ValueError("keep_hierarchy needs test_cfg.mode='whole', got 'slide'")
        samples = super().predict(inputs, *args, **kwargs)
        for keeper in keepers.values():
            attach_hierarchy(keeper, tuple(inputs.shape[-2:]), samples)
        return samples


def attach_hierarchy(
    keeper: nn.Module, input_shape: tuple[int, int], samples: list[BaseDataElement]
) -> None:
    """Gives each data sample the hierarchy of its image, as the field ``hierarchy``.

    It is a :class:`PixelData` at the size ``(h, w)`` of the feature map, which covers the padded
    image: ``assignment_l`` ``(N_l, h, w)`` for each level (1 = leaves), ``features`` ``(d, h, w)``,
    and as metainfo ``input_shape`` (height and width of the padded image).

    Args:
        keeper: Neck with ``last_hierarchy``, ``last_features`` and ``last_size``. Without a size,
            the positions are rows of a grid of the image's proportions.
        input_shape: Height and width of the padded image in pixels.
        samples: Data samples of the batch.

    Raises:
        ValueError: If there is no such grid, or not one hierarchy a data sample.
    """
    features, size = keeper.last_features, keeper.last_size
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
    maps = {f'assignment_{k}': x for k, x in enumerate(keeper.last_hierarchy.assignment, 1)}
    maps['features'] = features.mT
    maps = {name: x.unflatten(-1, size) for name, x in maps.items()}
    for index, sample in enumerate(samples):
        data = {name: x[index] for name, x in maps.items()}
        found = PixelData(metainfo=dict(input_shape=input_shape), **data)
        sample.set_field(found, 'hierarchy', dtype=PixelData)


def aux_loss_sources(model: nn.Module) -> dict[str, AuxLossSource]:
    """Components of a model that may publish losses, by their path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AuxLossSource)}
