"""mmseg's SAN with an adapter."""

from mmseg.models import MultimodalEncoderDecoder as _MultimodalEncoderDecoder
from torch import nn

from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.registry import MODELS


@MODELS.register_module()
class MultimodalEncoderDecoder(LoadsTrainedWeights, _MultimodalEncoderDecoder):
    """mmseg's ``MultimodalEncoderDecoder`` (SAN), with an adapter in CLIP's vision tower.

    SAN keeps the first layers of the tower in ``image_encoder`` and the last ones, which recognise
    masks, in ``decode_head.rec_with_attnbias``; the adapter counts them as one tower. The text
    encoder runs without gradients and remembers its features, so there is nothing to adapt.

    Args:
        adapter: Config of an adapter with ``attach(model)``: ``hyper_mm.HyperCLIPAdapter``. What is
            frozen is SAN's affair: give ``freeze=False``, or its position embedding is frozen too.
        **kwargs: Arguments of the stock class.

    Raises:
        ValueError: See the adapter.
    """

    def __init__(self, adapter: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        tower = dict(encoder=self.image_encoder, recognition=self.decode_head.rec_with_attnbias)
        self.adapter = MODELS.build(adapter).attach(nn.ModuleDict(tower))
