"""What the Hi-Mapper necks of all tasks share."""

from __future__ import annotations

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from torch import Tensor

from hyper_mm.checks import check_not_negative, check_range
from hyper_mm.compat import is_compiling
from hyper_mm.layers import Hierarchy, HierarchyMapper
from hyper_mm.layers.common.aux_losses import AuxLossSource
from hyper_mm.models.utils.aux_losses import (
    FoundHierarchy,
    hand_out_hierarchy,
    hierarchies_are_collected,
)
from hyper_mm.models.utils.own_init import OwnInit


class HiMapperBase(OwnInit, AuxLossSource, BaseModule):
    """Base of the Hi-Mapper necks: the module, its losses, and the checks of its input.

    Args:
        dim: Feature width d.
        memory_grad: Factor of the gradient from the module into the backbone, in [0, 1]; 0 lets the
            module read the features without shaping them.
        loss_grad: Factor of the gradient from the losses of the hierarchy into the backbone, in
            [0, 1], on top of ``memory_grad``; the gradient of the task is not touched. A value
            other than 1 costs a second pass of the decomposer in training.
        loss_warmup: Steps of the optimizer over which the losses of the hierarchy rise from 0 to
            their weights, linearly, in a run of mmengine's runner, however many batches an
            accumulated step has, and however often the neck runs in one of them. Where parameters
            are sharded (FSDP) or fixed, its iterations; without a runner, the calls of the model's
            ``loss()``.
        encode: Build the encoder.
        keep_hierarchy: Models of ours give the hierarchy that the neck finds, detached, to the data
            samples that they predict. Elsewhere, read it with
            :func:`hyper_mm.models.utils.aux_losses.collect_hierarchies`.
        init_cfg: Initialization config of mmengine.
        **mapper: Arguments of :class:`hyper_mm.layers.HierarchyMapper`.

    Raises:
        ValueError: If ``memory_grad``, ``loss_grad`` or ``loss_warmup`` are outside their range.
    """

    # new beside a pretrained backbone: ten times its learning rate; no decay on distributions
    optim_rules = {
        'mapper': dict(lr_mult=10.0),
        'mapper.tree': dict(decay_mult=0.0),
        'fusion': dict(lr_mult=10.0),
        'norms': dict(lr_mult=10.0),
    }

    def __init__(
        self,
        dim: int,
        memory_grad: float = 1.0,
        loss_grad: float = 1.0,
        loss_warmup: int = 0,
        encode: bool = True,
        keep_hierarchy: bool = False,
        init_cfg: dict | list[dict] | None = None,
        **mapper,
    ):
        super().__init__(init_cfg)
        check_range('[0, 1]', memory_grad=memory_grad, loss_grad=loss_grad)
        check_not_negative(loss_warmup=loss_warmup)
        self.memory_grad = memory_grad
        self.loss_grad = loss_grad
        self.loss_warmup = loss_warmup
        if loss_warmup:
            self.register_buffer('loss_steps', torch.zeros((), dtype=torch.long))
            self._last_state: tuple[int, ...] | None = None
        self.mapper = HierarchyMapper(dim, encode=encode, **mapper)
        self.with_assignment = False
        self.keep_hierarchy = keep_hierarchy

    def find(
        self,
        memory: Tensor,
        token: Tensor | None = None,
        what: str = 'features',
        size: tuple[int, int] | None = None,
        **diagnostics: Tensor,
    ) -> Hierarchy:
        """Finds the hierarchy, and publishes its losses in training.

        Args:
            memory: Feature map as tokens ``(B, M, d)``.
            token: Global tokens ``(B, T, d)``; if None, the mean of the memory, or its centroid.
            what: What messages call the memory. Values that are not finite are looked for in
                training, and on CPUs.
            size: Height and width of the feature map, if known, for ``keep_hierarchy``.
            **diagnostics: More values to log.

        Returns:
            Nodes and enhanced tokens.

        Raises:
            ValueError: For features that are not finite.
        """
        self._check_finite(memory, what)
        if token is not None:
            self._check_finite(token, 'class tokens')
            token = scale_gradient(token, self.memory_grad)
        memory = scale_gradient(memory, self.memory_grad)
        if token is None:
            token = self.mapper.pool(memory)
        keep = self.keep_hierarchy and hierarchies_are_collected()
        found = self.mapper(memory, token, with_assignment=self.with_assignment or keep)
        if self.publishes:
            found = self._publish_losses(memory, found, diagnostics)
        if keep:
            hierarchy = Hierarchy(
                levels=tuple(x.detach() for x in found.levels),
                update=None,
                token=found.token.detach(),
                assignment=tuple(x.detach() for x in found.assignment),
            )
            hand_out_hierarchy(FoundHierarchy(hierarchy, memory.detach(), size))
        return found

    def _publish_losses(
        self, memory: Tensor, found: Hierarchy, diagnostics: dict[str, Tensor]
    ) -> Hierarchy:
        """Publishes the losses; returns the hierarchy with which the pass goes on."""
        judged = found
        if self.loss_grad != 1:
            memory = scale_gradient(memory, self.loss_grad)
            judged = self.mapper.decompose(memory, found.queries)
        losses, more = self.mapper.losses(judged.levels, judged.assignment, memory)
        rate = self._warmup_rate() if self.loss_warmup else 1.0
        update = () if found.update is None else (found.update,)
        count, assignment = len(found.levels), found.assignment or ()
        outputs = self.publish(
            {f'loss_hier_{name}': rate * loss for name, loss in losses.items()}
            | {f'hi_mapper/{name}': value for name, value in (more | diagnostics).items()},
            found.token,
            *found.levels,
            *assignment,
            *update,
        )
        levels, rest = outputs[1 : count + 1], outputs[count + 1 :]
        return found._replace(
            token=outputs[0],
            levels=levels,
            assignment=rest[: len(assignment)] if assignment else found.assignment,
            update=rest[-1] if update else None,
        )

    def _warmup_rate(self) -> Tensor:
        """Share of the losses' weights; equal for all passes of a step, repeated ones too."""
        if self.is_first_pass:
            hub = MessageHub.get_current_instance()
            iteration = hub.get_info('iter') if hub.get_info('loop_stage') == 'train' else None
            # a step of the optimizer writes in place; numbers, such as curvatures, are also clamped
            own = [p for p in self.parameters() if p.requires_grad and p.is_leaf and p.ndim > 1]
            state = tuple(p._version for p in own)
            if iteration is None:
                self.loss_steps += 1
            elif not own:
                self.loss_steps.fill_(iteration + 1)
            elif self._last_state is None and (iteration == 0 or not self.loss_steps):
                self.loss_steps.fill_(iteration + 1)  # not the count of another run
            elif state != self._last_state:
                self.loss_steps += 1
            self._last_state = state
        return ((self.loss_steps - 1) / self.loss_warmup).clamp(0.0, 1.0)

    def _check_finite(self, features: Tensor, what: str) -> None:
        # reading a value stalls an accelerator: in inference the features are taken as they are
        stalls = features.device.type != 'cpu' and not self.training
        if stalls or is_compiling() or not features.numel():
            return
        extremes = torch.stack(features.detach().aminmax())  # NaN if there is one
        if extremes.isfinite().all():
            return
        count = int((~torch.isfinite(features)).sum())
        raise ValueError(
            f'{type(self).__name__}: {count} of {features.numel()} input {what} are not finite: '
            'training has diverged before this neck (lower the learning rate, clip gradients with '
            'optim_wrapper.clip_grad, or look at the last good checkpoint)'
        )


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """The same values, with their gradient multiplied by a factor in [0, 1]."""
    if factor == 1:
        return x
    return x.detach() if factor == 0 else x.detach().lerp(x, factor)
