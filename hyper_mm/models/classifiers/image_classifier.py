"""mmpretrain's classifier, with the losses of its components."""

from mmpretrain.models import ImageClassifier as _ImageClassifier

from hyper_mm.models.necks.hi_mapper_pooling import HiMapperPooling
from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.registry import MODELS


@MODELS.register_module()
class ImageClassifier(AuxLossMixin, _ImageClassifier):
    """mmpretrain's ``ImageClassifier``; adds the losses that its neck or backbone publishes.

    Raises:
        ValueError: If a ``HiMapperPooling`` neck expects other prefix tokens than the backbone has.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        found = getattr(self.backbone, 'num_extra_tokens', None)
        if isinstance(self.neck, HiMapperPooling) and found is not None:
            expected = self.neck.num_prefix_tokens
            if expected not in (0, found):
                raise ValueError(
                    f'neck.num_prefix_tokens is {expected}, but the backbone has {found} tokens in '
                    f'front of its patches: set num_prefix_tokens={found} in the neck'
                )
