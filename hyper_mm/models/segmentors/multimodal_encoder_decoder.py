"""mmseg's SAN with an adapter, and with the losses of its components."""

from __future__ import annotations

from mmseg.models import MultimodalEncoderDecoder as _MultimodalEncoderDecoder
from torch import nn

from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.registry import MODELS


@MODELS.register_module()
class MultimodalEncoderDecoder(AuxLossMixin, LoadsTrainedWeights, _MultimodalEncoderDecoder):
    """mmseg's ``MultimodalEncoderDecoder`` (SAN), with an adapter in CLIP's vision tower.

    The losses that its components publish are added to its own.

    SAN keeps the first layers of the tower in ``image_encoder`` and the last ones, which recognize
    masks, in ``decode_head.rec_with_attnbias``; the adapter counts them as one tower. The text
    encoder runs without gradients and remembers its features, so there is nothing to adapt.

    Args:
        adapter: Config of an adapter with ``attach(model)``: ``hyper_mm.HyperCLIPAdapter``. What is
            frozen is SAN's affair: give ``freeze=False``, or its position embedding is frozen too.
            None: no adapter.
        **kwargs: Arguments of the stock class.

    Raises:
        ValueError: See the adapter.
    """

    def __init__(self, adapter: dict | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        if adapter is None:
            return
        tower = dict(encoder=self.image_encoder, recognition=self.decode_head.rec_with_attnbias)
        self.adapter = MODELS.build(adapter).attach(nn.ModuleDict(tower))
