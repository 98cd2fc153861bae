"""Fully sharded training of language models."""

from __future__ import annotations

from functools import partial

import torch
from mmengine.device import get_device
from mmengine.model.wrappers import MMFullyShardedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.distributed.fsdp._common_utils import FSDP_WRAPPED_MODULE
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from hyper_mm.layers.lorentz.block import LorentzBlock
from hyper_mm.layers.lorentz.euclidean import EuclideanBlock
from hyper_mm.registry import MODEL_WRAPPERS

BLOCKS = {LorentzBlock, EuclideanBlock}


@MODEL_WRAPPERS.register_module()
class ShardedModel(MMFullyShardedDataParallel):
    """mmengine's wrapper of FSDP, for HELM and its baselines.

    Gradients are clipped by the norm of all shards, which mmengine's optimizer wrapper does not
    know; and every parameter carries its ``whole_shape``, for
    :class:`hyper_mm.HyperbolicOptimWrapperConstructor`. It also works on CPUs, for tests.

    Args:
        module: The model.
        device_id: Device of this process.
        auto_wrap_policy: Which modules are gathered one at a time; the blocks by default.
        **options: See ``mmengine.model.MMFullyShardedDataParallel``.

    Raises:
        ValueError: For parameters on a manifold, whose optimizer needs ambient points, or
            ``use_orig_params=False``, which mixes those with and without weight decay.
    """

    def __init__(
        self,
        module: nn.Module,
        device_id: int | torch.device | None = None,
        auto_wrap_policy=None,
        **options: object,
    ):
        if not options.get('use_orig_params', True):
            raise ValueError('use_orig_params must be True, got False')
        named = list(module.named_parameters())
        points = [name for name, parameter in named if hasattr(parameter, 'manifold')]
        if points:
            raise ValueError(
                f"parameters must not be on a manifold (embedding='projected'), got {points}"
            )
        if get_device() == 'cpu':
            device_id = torch.device('cpu')
        for _, parameter in named:
            parameter.whole_shape = parameter.shape
        if auto_wrap_policy is None:
            auto_wrap_policy = partial(transformer_auto_wrap_policy, transformer_layer_cls=BLOCKS)
        super().__init__(
            module,
            device_id=device_id,
            auto_wrap_policy=auto_wrap_policy,
            **options,
        )

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """A step of training; see ``mmengine.model.MMFullyShardedDataParallel``."""
        if getattr(optim_wrapper, 'clip_func', None) is nn.utils.clip_grad_norm_:
            optim_wrapper.clip_func = self._clip
        logs = super().train_step(data, optim_wrapper)
        return {name.replace(f'{FSDP_WRAPPED_MODULE}.', ''): value for name, value in logs.items()}

    def _clip(self, _parameters: list[nn.Parameter], **options: float) -> Tensor:
        """Clips the gradients by their norm over all processes."""
        return self.clip_grad_norm_(**options)
