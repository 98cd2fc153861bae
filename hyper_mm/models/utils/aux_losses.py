"""The one way out for the losses of components inside a model (necks, adapters, backbones)."""

from __future__ import annotations

import warnings

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


def aux_loss_sources(model: nn.Module) -> dict[str, AuxLossSource]:
    """Components of a model that may publish losses, by their path."""
    return {n: m for n, m in model.named_modules() if isinstance(m, AuxLossSource)}
