"""Radii of embeddings in the predictions of a segmentor."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import PixelData
from torch import Tensor, nn

from hyper_mm.models.heads.hosted_classifier import ClassifierMixin, watched_classifiers


class EmbeddingRadiusMixin:
    """In front of a segmentor: ``test_cfg=dict(mode='whole', radius=True)``.

    Predictions then hold ``embedding_radius`` ``(1, H, W)``, the distance of each pixel's embedding
    from the origin, small where the head is uncertain, at the place of the logits: without padding,
    turned back and in the size of the image.
    """

    test_cfg: Any
    decode_head: Any

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not (self.test_cfg or {}).get('radius', False):
            return
        if self.test_cfg.get('mode') != 'whole':
            raise ValueError(
                "test_cfg.radius needs test_cfg.mode='whole', got "
                f'{self.test_cfg.get("mode")!r}: windows have no radius that adds up'
            )
        head = self._last_head()
        if not isinstance(head, ClassifierMixin) or not hasattr(
            getattr(head, head.layer), 'radius'
        ):
            raise ValueError(
                'test_cfg.radius needs a decode head of ours with classifier=... or taxonomy=..., '
                f'got {type(head).__name__}'
            )

    def _last_head(self) -> Any:
        head = self.decode_head
        return head[-1] if isinstance(head, nn.ModuleList) else head

    def predict(self, inputs: Tensor, data_samples: Any = None) -> Any:
        """Predictions of the stock segmentor, with the radii where they are asked for."""
        if not (self.test_cfg or {}).get('radius', False):
            return super().predict(inputs, data_samples)  # type: ignore[misc]
        with watched_classifiers() as seen:
            found = super().predict(inputs, data_samples)  # type: ignore[misc]
        head = self._last_head()
        radius = head.embedding_radius(seen[-1][1])[:, None]
        metas = [sample.metainfo for sample in found] if data_samples is not None else None
        # two channels: of one the host makes a probability
        both = torch.cat([radius, radius], 1)
        both = head.predict_by_feat(
            both, metas or [dict(img_shape=inputs.shape[2:], pad_shape=inputs.shape[2:])]
        )
        blank = None if metas is None else [type(s)(metainfo=s.metainfo) for s in found]
        resized = self.postprocess_result(both, blank)  # type: ignore[attr-defined]
        for sample, other in zip(found, resized):
            sample.set_data(dict(embedding_radius=PixelData(data=other.seg_logits.data[:1])))
        return found
