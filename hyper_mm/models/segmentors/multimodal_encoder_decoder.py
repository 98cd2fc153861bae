"""mmseg's SAN with an adapter."""

from mmseg.models import MultimodalEncoderDecoder as _MultimodalEncoderDecoder

from hyper_mm.registry import MODELS


@MODELS.register_module()
class MultimodalEncoderDecoder(_MultimodalEncoderDecoder):
    """mmseg's ``MultimodalEncoderDecoder`` (SAN), with an adapter in its image encoder.

    Its text encoder runs without gradients, so there is nothing to adapt there.

    Args:
        adapter: Config of an adapter with ``attach(model)``: ``hyper_mm.HyperCLIPAdapter``. What it
            freezes is SAN's affair: give ``freeze=False``, or the position embedding is frozen too.
        **kwargs: Arguments of the stock class.

    Raises:
        ValueError: See the adapter.
    """

    def __init__(self, adapter: dict, **kwargs) -> None:
        super().__init__(**kwargs)
        self.adapter = MODELS.build(adapter).attach(self.image_encoder)
