"""Backbones of timm whose batch norms keep their statistics."""

from __future__ import annotations

from mmpretrain.models.backbones import TIMMBackbone
from torch.nn.modules.batchnorm import _BatchNorm

from hyper_mm.registry import MODELS


@MODELS.register_module()
class NormEvalTIMMBackbone(TIMMBackbone):
    """mmpretrain's ``TIMMBackbone`` with batch norms in evaluation mode (``norm_eval`` of ResNet).

    Batches of a few crops of several sites have statistics of their own; the pretrained ones stay.
    The weights of the norms train.

    Args:
        norm_eval: Keep the statistics.
        **kwargs: Of ``mmpretrain.TIMMBackbone``.
    """

    def __init__(self, norm_eval: bool = True, **kwargs):
        super().__init__(**kwargs)
        self.norm_eval = norm_eval

    def train(self, mode: bool = True) -> NormEvalTIMMBackbone:
        """Sets the mode of all but the batch norms.

        Args:
            mode: Training or evaluation.
        """
        super().train(mode)
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
