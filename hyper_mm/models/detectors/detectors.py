"""mmdet's detectors, with the losses of their components."""

from mmdet.models import CascadeRCNN as _CascadeRCNN
from mmdet.models import FasterRCNN as _FasterRCNN
from mmdet.models import MaskRCNN as _MaskRCNN
from mmdet.models import RetinaNet as _RetinaNet

from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.registry import MODELS


@MODELS.register_module()
class FasterRCNN(AuxLossMixin, _FasterRCNN):
    """mmdet's ``FasterRCNN``; adds the losses that its neck or backbone publishes."""


@MODELS.register_module()
class MaskRCNN(AuxLossMixin, _MaskRCNN):
    """mmdet's ``MaskRCNN``; adds the losses that its neck or backbone publishes."""


@MODELS.register_module()
class CascadeRCNN(AuxLossMixin, _CascadeRCNN):
    """mmdet's ``CascadeRCNN``; adds the losses that its neck or backbone publishes."""


@MODELS.register_module()
class RetinaNet(AuxLossMixin, _RetinaNet):
    """mmdet's ``RetinaNet``; adds the losses that its neck or backbone publishes."""
