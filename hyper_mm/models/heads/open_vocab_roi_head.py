"""Heads of two-stage detectors that classify regions by the names of classes."""

from __future__ import annotations

from mmcv.ops import batched_nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import bbox2roi, scale_boxes
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from hyper_mm.checks import check_count
from hyper_mm.layers.open_vocab.region_scores import NameClassifier, RegionScores, ScoreEnsemble
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS


@MODELS.register_module()
class OpenVocabBBoxHead(OwnInit, Shared2FCBBoxHead):
    """Two shared layers, then boxes of all classes in one and an embedding of the region.

    Args:
        embed_dims: Width of the embedding: that of CLIP's text features.
        temperature: Of the cosines of embeddings and names.
        reg_class_agnostic: True; classes that were not trained have no boxes of their own.
        **kwargs: Arguments of mmdet's ``Shared2FCBBoxHead``; ``num_classes`` is the detector's
            business.

    Raises:
        ValueError: If ``reg_class_agnostic`` is False, or a number is not positive.
    """

    def __init__(
        self,
        embed_dims: int,
        temperature: float = 0.01,
        reg_class_agnostic: bool = True,
        **kwargs,
    ) -> None:
        if not reg_class_agnostic:
            raise ValueError('reg_class_agnostic must be True, got False')
        super().__init__(reg_class_agnostic=True, **kwargs)
        self.embed_dims = embed_dims
        self.fc_cls = nn.Linear(self.cls_last_dim, embed_dims)
        self.classifier = NameClassifier(embed_dims, temperature)


@MODELS.register_module()
class OpenVocabRoIHead(StandardRoIHead):
    """RoI head of the open-vocabulary detectors.

    In training it is mmdet's, with cosines by name as logits. In testing each proposal's features
    by CLIP's image tower are pooled once, and the best pairs of a proposal and a class by the
    ensemble of both scores are decoded and suppressed, so that memory does not grow with the names.

    Args:
        ensemble: Arguments of :class:`hyper_mm.layers.open_vocab.region_scores.ScoreEnsemble`:
            exponents ``base`` and ``novel``, ``temperature`` of CLIP's cosines, ``chunk``.
        candidates: Pairs of a proposal and a class in an image that are decoded.
        **kwargs: Arguments of mmdet's ``StandardRoIHead``; ``bbox_head`` is an
            :class:`OpenVocabBBoxHead`.

    Raises:
        TypeError: If the box head is of another kind.
        ValueError: If an argument is out of its range.
    """

    def __init__(self, ensemble: dict | None = None, candidates: int = 1000, **kwargs) -> None:
        super().__init__(**kwargs)
        check_count(1, candidates=candidates)
        if not isinstance(self.bbox_head, OpenVocabBBoxHead):
            raise TypeError(
                f'bbox_head must be a hyper_mm.OpenVocabBBoxHead, got '
                f'{type(self.bbox_head).__name__}'
            )
        self.ensemble = ScoreEnsemble(**(ensemble or {}))
        self.candidates = candidates

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Logits of the classes and boxes, with the embeddings ``(N, D)`` that they come from.

        Args:
            x: :class:`hyper_mm.models.detectors.open_vocab_base.RegionPyramid`.
            rois: ``(N, 5)``.
        """
        results = super()._bbox_forward(x, rois)
        embeddings = results['cls_score']
        logits = self.bbox_head.classifier(embeddings, x.names)  # type: ignore[attr-defined]
        return dict(results, cls_score=logits)

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
    ) -> InstanceList:
        """Detects; see mmdet's ``StandardRoIHead``.

        Args:
            x: Pyramid with names.
            batch_img_metas: Metainfo of the images.
            rpn_results_list: Proposals of each image.
            rcnn_test_cfg: ``score_thr``, ``nms`` and ``max_per_img``.
            rescale: Whether boxes are to be those of the original images.

        Returns:
            Boxes, scores and labels of each image.
        """
        rois = bbox2roi([found.bboxes for found in rpn_results_list])
        if not len(rois):
            return empty_instances(batch_img_metas, rois.device, task_type='bbox')
        inputs = x[: self.bbox_roi_extractor.num_inputs]
        embeddings, deltas = self.bbox_head(self.bbox_roi_extractor(inputs, rois))
        tower = x.regions(rois)  # type: ignore[attr-defined]
        counts = [len(found) for found in rpn_results_list]
        parts = (t.split(counts) for t in (rois, embeddings, deltas, tower))
        results = []
        for meta, roi, embedding, delta, feature in zip(batch_img_metas, *parts):
            pairs = self.ensemble.best(
                self.bbox_head.classifier,
                embedding,
                feature,
                x.names,  # type: ignore[attr-defined]
                x.seen,  # type: ignore[attr-defined]
                self.candidates,
                rcnn_test_cfg.score_thr,
            )
            results.append(self._detections(pairs, roi, delta, meta, rcnn_test_cfg, rescale))
        return results

    def _detections(
        self,
        pairs: RegionScores,
        rois: Tensor,
        deltas: Tensor,
        meta: dict,
        cfg: ConfigType,
        rescale: bool,
    ) -> InstanceData:
        """What is left of the pairs of an image after non-maximum suppression."""
        boxes = self.bbox_head.bbox_coder.decode(
            rois[pairs.regions, 1:], deltas[pairs.regions], max_shape=meta['img_shape']
        )
        if not len(boxes):
            return InstanceData(bboxes=boxes, scores=pairs.scores, labels=pairs.classes)
        if rescale:
            boxes = scale_boxes(boxes, [1 / factor for factor in meta['scale_factor']])
        kept, order = batched_nms(boxes, pairs.scores, pairs.classes, cfg.nms)
        order = order[: cfg.max_per_img]
        return InstanceData(
            bboxes=kept[: cfg.max_per_img, :4],
            scores=pairs.scores[order],
            labels=pairs.classes[order],
        )
