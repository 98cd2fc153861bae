"""mmseg's segmentors, with the losses of their components."""

from mmseg.models import CascadeEncoderDecoder as _CascadeEncoderDecoder
from mmseg.models import EncoderDecoder as _EncoderDecoder

from hyper_mm.models.segmentors.embedding_radius import EmbeddingRadiusMixin
from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.registry import MODELS


@MODELS.register_module()
class EncoderDecoder(AuxLossMixin, EmbeddingRadiusMixin, _EncoderDecoder):
    """mmseg's ``EncoderDecoder``; adds the losses that its neck or backbone publishes.

    ``test_cfg=dict(mode='whole', radius=True)``: predictions hold the radii of the embeddings, see
    :class:`hyper_mm.models.segmentors.embedding_radius.EmbeddingRadiusMixin`.
    """


@MODELS.register_module()
class CascadeEncoderDecoder(AuxLossMixin, EmbeddingRadiusMixin, _CascadeEncoderDecoder):
    """mmseg's ``CascadeEncoderDecoder``; adds the losses that its neck or backbone publishes.

    ``test_cfg.radius`` as for :class:`EncoderDecoder`, of the last head.
    """
