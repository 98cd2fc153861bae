"""Head of open-vocabulary segmentors that needs no training: cosines of pixels and class names."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.checks import check_range
from hyper_mm.layers.open_vocab.dense_clip import DenseFeatures
from hyper_mm.registry import MODELS


def similarity_logits(features: Tensor, text: Tensor, scale: float) -> Tensor:
    """Log-odds of the classes by the cosines of positions and texts.

    Args:
        features: Dense features ``(B, D, h, w)``.
        text: Text features ``(T, P, D)``; P of them are averaged.
        scale: Inverse temperature.

    Returns:
        ``(B, T, h, w)``, float32; their sigmoids are a softmax over T.
    """
    text = F.normalize(F.normalize(text.float(), dim=-1).mean(1), dim=-1)  # (T, D)
    pixels = F.normalize(features.float(), dim=1)
    cosines = (text @ pixels.flatten(2)).unflatten(2, pixels.shape[2:])
    chosen = (scale * cosines).log_softmax(1)
    return chosen - (-chosen.clamp(max=-1e-7).expm1()).log()


@MODELS.register_module()
class TextSimilarityHead(BaseModule):
    r"""Scores dense features against the texts as they are (the idea of MaskCLIP, ECCV 2022).

    .. math:: p_{tp} = \operatorname{softmax}_t\, s \cos(v_p, e_t),\qquad
        \text{logit}_{tp} = \log p_{tp} - \log (1 - p_{tp})

    so that the sigmoid of a logit, which is the score of :class:`hyper_mm.OpenVocabSegmentor`, is
    the probability of the class among all of the vocabulary.

    Args:
        scale: Inverse temperature s, positive. It changes no best class at the positions of the
            tower, but what lies between them, and what test-time augmentation, windows and the
            threshold of the background average or compare.
        init_cfg: Initialization config of mmengine; there is nothing to initialize.

    Raises:
        ValueError: If ``scale`` is not positive.
    """

    num_prompts = 1

    def __init__(self, scale: float = 100.0, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        check_range('(0, inf)', scale=scale)
        self.scale = scale

    def forward(self, dense: DenseFeatures, text: Tensor) -> Tensor:
        """Logits of every class.

        Args:
            dense: Features ``(B, D, h, w)``; the maps of the tower are not used.
            text: Text features ``(T, P, D)``; P of them are averaged.

        Returns:
            ``(B, T, h, w)``.
        """
        return similarity_logits(dense.features, text, self.scale)

    def loss(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """There is none.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            'TextSimilarityHead has nothing to train: test it, or train '
            "decode_head=dict(type='hyper_mm.CostAggregationHead', ...)"
        )
