"""mmseg's segmentors, with the losses of their components."""

from mmseg.models import CascadeEncoderDecoder as _CascadeEncoderDecoder
from mmseg.models import EncoderDecoder as _EncoderDecoder

from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.registry import MODELS


@MODELS.register_module()
class EncoderDecoder(AuxLossMixin, _EncoderDecoder):
    """mmseg's ``EncoderDecoder``; adds the losses that its neck or backbone publishes."""


@MODELS.register_module()
class CascadeEncoderDecoder(AuxLossMixin, _CascadeEncoderDecoder):
    """mmseg's ``CascadeEncoderDecoder``; adds the losses that its neck or backbone publishes."""
