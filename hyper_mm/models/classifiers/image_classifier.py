"""mmpretrain's classifier, with the losses of its components."""

from mmpretrain.models import ImageClassifier as _ImageClassifier

from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.registry import MODELS


@MODELS.register_module()
class ImageClassifier(AuxLossMixin, _ImageClassifier):
    """mmpretrain's ``ImageClassifier``; adds the losses that its neck or backbone publishes."""
