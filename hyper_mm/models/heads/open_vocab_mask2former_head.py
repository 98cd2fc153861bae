"""Mask2Former's head with classes given by name, and what makes segmentations of its masks."""

from __future__ import annotations

import torch.nn.functional as F
from mmdet.models import Mask2FormerHead
from mmdet.structures.mask import mask2bbox
from mmengine.model import BaseModule
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from hyper_mm.checks import check_at_least, check_not_negative
from hyper_mm.layers.open_vocab.region_pooling import mask_means
from hyper_mm.layers.open_vocab.region_scores import NameClassifier, ScoreEnsemble
from hyper_mm.layers.open_vocab.segments import best_instances, panoptic_map, semantic_map
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS


@MODELS.register_module()
class OpenVocabMask2FormerHead(OwnInit, Mask2FormerHead):
    """mmdet's ``Mask2FormerHead`` whose queries are classified by the names of classes.

    A query's embedding is a small network of the query itself and of the pixel decoder's features
    in its mask; its cosines with the names, beside a learned embedding of "no object", are the
    logits.

    Args:
        embed_dims: Width of the embedding: that of CLIP's text features.
        temperature: Of the cosines of embeddings and names.
        void_weight: Weight of "no object" in the classification loss.
        num_things_classes: Countable classes of training, which come first.
        num_stuff_classes: The other classes of training.
        loss_cls: Config of the classification loss, without ``class_weight``.
        **kwargs: Arguments of mmdet's class.

    Raises:
        ValueError: If a number is out of its range, or ``loss_cls`` has ``class_weight``.

    Source: Yu et al., Convolutions Die Hard: Open-Vocabulary Segmentation with Single Frozen
    Convolutional CLIP (FC-CLIP, NeurIPS 2023).
    """

    def __init__(
        self,
        embed_dims: int,
        temperature: float = 0.01,
        void_weight: float = 0.1,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        loss_cls: dict | None = None,
        **kwargs,
    ) -> None:
        check_not_negative(void_weight=void_weight)
        check_at_least(0, num_things_classes=num_things_classes)
        check_at_least(0, num_stuff_classes=num_stuff_classes)
        loss = dict(loss_cls or dict(type='mmdet.CrossEntropyLoss', loss_weight=2.0))
        if 'class_weight' in loss:
            raise ValueError('loss_cls must leave class_weight to void_weight, got both')
        loss['class_weight'] = [1.0] * (num_things_classes + num_stuff_classes) + [void_weight]
        super().__init__(
            num_things_classes=num_things_classes,
            num_stuff_classes=num_stuff_classes,
            loss_cls=_Config(loss),
            **kwargs,
        )
        queries, pixels = self.decoder_embed_dims, self.mask_embed[-1].out_features
        self.embed_dims = embed_dims
        self.cls_embed = nn.Identity()  # the stock head passes the queries on
        self.mask_pooling_proj = nn.Sequential(nn.LayerNorm(pixels), nn.Linear(pixels, queries))
        self.region_embed = nn.Sequential(
            nn.Linear(queries, queries),
            nn.ReLU(),
            nn.Linear(queries, queries),
            nn.ReLU(),
            nn.Linear(queries, embed_dims),
        )
        self.classifier = NameClassifier(embed_dims, temperature)

    def _forward_head(
        self, decoder_out: Tensor, mask_feature: Tensor, attn_mask_target_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings ``(B, Q, D)`` of the queries, their masks, and the mask of attention."""
        queries, masks, attention = super()._forward_head(
            decoder_out, mask_feature, attn_mask_target_size
        )
        pooled = self.mask_pooling_proj(mask_means(mask_feature, masks.detach()))
        return self.region_embed(queries + pooled), masks, attention

    def forward(self, x, batch_data_samples) -> tuple[list[Tensor], list[Tensor]]:
        """Logits ``(B, Q, T + 1)`` and mask logits ``(B, Q, h, w)`` after each layer.

        Args:
            x: :class:`hyper_mm.models.detectors.open_vocab_base.RegionPyramid`.
            batch_data_samples: Metainfo of the images.
        """
        embeddings, masks = super().forward(x, batch_data_samples)
        return [self.classifier(found, x.names) for found in embeddings], masks


class _Config(dict):
    """A config whose entries are attributes, as the stock head reads its loss."""

    __getattr__ = dict.__getitem__


@MODELS.register_module()
class OpenVocabFusionHead(BaseModule):
    """Makes panoptic, instance and semantic segmentations of masks and class probabilities.

    Args:
        ensemble: Arguments of :class:`hyper_mm.layers.open_vocab.region_scores.ScoreEnsemble`; the
            exponents are FC-CLIP's, 0.4 and 0.8, where none are given.
        test_cfg: ``panoptic_on``, ``instance_on``, ``semantic_on``; ``object_mask_thr`` and
            ``iou_thr`` (see :func:`hyper_mm.layers.open_vocab.segments.panoptic_map`);
            ``max_per_image`` instances.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: If an argument is out of its range, or nothing is to be made.
    """

    def __init__(
        self,
        ensemble: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.ensemble = ScoreEnsemble(**{**dict(base=0.4, novel=0.8), **(ensemble or {})})
        cfg = dict(test_cfg or {})
        self.panoptic_on = cfg.pop('panoptic_on', True)
        self.instance_on = cfg.pop('instance_on', False)
        self.semantic_on = cfg.pop('semantic_on', False)
        self.object_mask_thr = cfg.pop('object_mask_thr', 0.8)
        self.iou_thr = cfg.pop('iou_thr', 0.8)
        self.max_per_image = cfg.pop('max_per_image', 100)
        if cfg:
            raise ValueError(f'test_cfg has no entries {sorted(cfg)}')
        if not (self.panoptic_on or self.instance_on or self.semantic_on):
            raise ValueError('test_cfg must set one of panoptic_on, instance_on and semantic_on')

    def predict(
        self,
        probabilities: Tensor,
        logits: Tensor,
        things: Tensor,
        metas: list[dict],
        rescale: bool = True,
    ) -> list[dict]:
        """Segmentations of each image.

        Args:
            probabilities: ``(B, Q, T + 1)``, "no object" last.
            logits: Mask logits ``(B, Q, H, W)`` at the size of the padded images.
            things: Whether each class is countable ``(T,)``.
            metas: Metainfo of the images.
            rescale: Whether the results have the sizes of the original images.

        Returns:
            Fields of a data sample: ``pred_panoptic_seg``, ``pred_instances``, ``pred_sem_seg``.
        """
        found = []
        for own, masks, meta in zip(probabilities, logits, metas):
            height, width = meta['img_shape'][:2]
            masks = masks[:, :height, :width]
            if rescale:
                size = tuple(meta['ori_shape'][:2])
                masks = F.interpolate(masks[None], size, mode='bilinear', align_corners=False)[0]
            found.append(self._fields(own, masks, things))
        return found

    def _fields(self, probabilities: Tensor, masks: Tensor, things: Tensor) -> dict:
        fields = {}
        if self.panoptic_on:
            thresholds = self.object_mask_thr, self.iou_thr
            segments = panoptic_map(probabilities, masks, things, *thresholds)
            fields['pred_panoptic_seg'] = PixelData(sem_seg=segments[None])
        if self.instance_on:
            best = best_instances(probabilities, masks, things, self.max_per_image)
            fields['pred_instances'] = InstanceData(
                bboxes=mask2bbox(best.masks),
                labels=best.classes,
                scores=best.scores,
                masks=best.masks,
            )
        if self.semantic_on:
            fields['pred_sem_seg'] = PixelData(sem_seg=semantic_map(probabilities, masks)[None])
        return fields
