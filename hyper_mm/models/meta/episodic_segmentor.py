"""Boundary-oriented episodic learning for segmentors."""

from __future__ import annotations

from contextvars import ContextVar

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from hyper_mm.layers.meta.structures import Structures, resolve_structures, structure_masks
from hyper_mm.registry import MODELS

from .episodic_model import Batch
from .meta_learner import MetaLearner

_MAPS: ContextVar[list[Tensor] | None] = ContextVar('hyper_mm_feature_maps', default=None)
"""Feature maps that the passes of an episode have met."""


@MODELS.register_module()
class EpisodicSegmentor(MetaLearner):
    r"""Trains for images of other domains: a step on the one must help with the other.

    .. math:: L = L(x; \theta) + L(t; \hat\theta)
        + L_{\text{boundary}}(Z(x; \theta), Z(t; \hat\theta)), \qquad
        \hat\theta = \theta - \beta \operatorname{clamp}(\nabla L(x; \theta))

    x is the support of an episode and t the query: the same images in the style of another domain
    (``hyper_mm.FrequencyAmplitudeMix``, ``hyper_mm.PackEpisodicSegInputs``), or images of another
    domain (``hyper_mm.EpisodicTrainLoop``). The pass of x serves both terms. Prediction is that of
    the segmentor, without adaptation, unless it gets episodes. Sources: Liu et al., FedDG, CVPR
    2021; with other domains, Liu et al., SAML, MICCAI 2020.

    Args:
        model: Segmentor or its config; its own loss is L (FedDG: ``hyper_mm.BatchDiceLoss``).
        inner_lr: beta.
        inner_steps: Number of inner steps.
        clip: Limit of each entry of the inner gradients.
        first_order: Take the inner gradient as a constant (as in the official code).
        boundary: Config of :class:`hyper_mm.BoundaryInfoNCELoss`; None leaves the term out.
        feature: Module of the segmentor whose input is the feature map Z (of a cascade, for example
            ``'decode_head.0.conv_seg'``).
        structures: Classes of each structure of the boundary term, which may be nested; None for
            each class but ``background``.
        background: Class that is no structure, None if all are.
        ignore_index: Label of pixels without a class.
        **kwargs: ``adapt``, ``test_steps``, ``commit_buffers``, ``data_preprocessor`` and
            ``init_cfg``, as in :class:`MetaLearner`.

    Raises:
        ValueError: If ``feature`` is no module of the segmentor; also as in :class:`MetaLearner`.
    """

    def __init__(
        self,
        model: dict | BaseModel,
        inner_lr: float = 1e-3,
        inner_steps: int = 1,
        clip: float | None = 100.0,
        first_order: bool = True,
        boundary: dict | None = None,
        feature: str = 'decode_head.conv_seg',
        structures: Structures | None = None,
        background: int | None = 0,
        ignore_index: int = 255,
        **kwargs,
    ):
        algorithm = 'fomaml' if first_order else 'maml'
        super().__init__(model, algorithm, inner_lr, inner_steps, clip=clip, **kwargs)
        self.ignore_index, self.boundary = ignore_index, None
        if boundary is not None:
            head = self.model.decode_head
            head = head[-1] if isinstance(head, nn.ModuleList) else head
            self.structures = resolve_structures(structures, head.num_classes, background)
            self.boundary = MODELS.build(
                dict(dict(type='hyper_mm.BoundaryInfoNCELoss'), **boundary)
            )
            modules = dict(self.model.named_modules())
            if feature not in modules:
                raise ValueError(f'feature must be a module of the segmentor, got {feature!r}')
            modules[feature].register_forward_pre_hook(_keep)
            self.feature = feature

    def episode_loss(self, support: Batch, query: Batch) -> dict[str, Tensor]:
        """Losses of an episode.

        Args:
            support: x.
            query: t.

        Returns:
            ``loss_support``, ``loss_query``, and with ``boundary``, ``loss_boundary`` and
            ``boundary_contrast/empty``; now and then ``meta/gain`` and
            ``boundary_contrast/grad_share``, the norm of the gradient of the boundary term for Z(t)
            over the sum of its norm and that of L(t).
        """
        maps: list[Tensor] = []
        token = _MAPS.set(maps)
        try:
            parameters, buffers = self.initial_state()
            options = (self.inner_steps, self.first_order, True)
            adapted, before = self.inner(support, parameters, buffers, *options)
            after = self.model.parse_losses(self.query_call(adapted, buffers, query))[0]
            # the maps of one step each; those of a pass for statistics or the gain are without one
            gain = self.gain(buffers, query, after)
        finally:
            _MAPS.reset(token)
        self.leave(buffers)
        losses = dict(loss_support=before[0], loss_query=after, **gain)
        if self.boundary is not None:
            features = [maps[i] for i in (0, -1) if maps]
            if not features or not all(isinstance(z, Tensor) and z.ndim == 4 for z in features):
                raise ValueError(
                    'feature must be a module that the segmentor calls with a feature map '
                    f'(B, C, h, w) in training, got {self.feature!r}'
                )
            masks, valid = zip(*(self._masks(part['data_samples']) for part in (support, query)))
            found = self.boundary(features, masks, valid)
            losses['loss_boundary'] = found.loss
            losses['boundary_contrast/empty'] = found.empty.to(found.loss.dtype)
            if gain:
                losses['boundary_contrast/grad_share'] = share(found.loss, after, features[-1])
        return losses

    def _masks(self, samples: list) -> tuple[Tensor, Tensor]:
        """Masks of the structures, and the pixels that have a label."""
        labels = torch.stack([sample.gt_sem_seg.data for sample in samples])
        valid = (labels != self.ignore_index).all(1, keepdim=True)
        if labels.shape[1] > 1:  # masks of structures that overlap
            return labels == 1, valid
        return structure_masks(labels.squeeze(1), self.structures), valid


def _keep(module: nn.Module, args: tuple) -> None:
    """Pre-hook of the module that meets the feature map."""
    maps = _MAPS.get()
    if maps is not None and torch.is_grad_enabled():
        maps.append(args[0])


def share(part: Tensor, rest: Tensor, features: Tensor) -> Tensor:
    """Share of a loss in the gradients of two losses for a feature map; 0 where both have none."""
    norms = []
    for loss in (part, rest):
        (grad,) = torch.autograd.grad(loss, features, retain_graph=True, allow_unused=True)
        norms.append(features.new_zeros(()) if grad is None else grad.norm())
    total = norms[0] + norms[1]
    return norms[0] / torch.where(total > 0, total, 1)
