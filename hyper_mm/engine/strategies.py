"""Strategies of mmengine's FlexibleRunner."""

from __future__ import annotations

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, StateDictType
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from hyper_mm.registry import STRATEGIES


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """mmengine's FSDP with :class:`hyper_mm.ShardedModel`; checkpoints are those of one process.

    Training resumes from them: mmengine 0.10.7 hands over the state of the optimiser in the order
    of torch 2.0's arguments, and later versions of torch raise.

    Args:
        model_wrapper: Config of the wrapper; :class:`hyper_mm.ShardedModel` by default.
        state_dict_cfg: See ``mmengine._strategy.FSDPStrategy``; whole checkpoints by default.
        **options: The same.

    Example:
        >>> runner_type = 'FlexibleRunner'
        >>> strategy = dict(type='hyper_mm.ShardedStrategy')
    """

    def __init__(
        self,
        *,
        model_wrapper: dict | None = None,
        state_dict_cfg: str | dict | None = None,
        **options: object,
    ):
        if state_dict_cfg is None:
            # torch frees what it has offloaded, also where that is the model itself
            whole = dict(rank0_only=True, offload_to_cpu=get_device() != 'cpu')
            state_dict_cfg = dict(
                state_dict_type=StateDictType.FULL_STATE_DICT,
                state_dict_config=FullStateDictConfig(**whole),
                optim_state_dict_config=FullOptimStateDictConfig(**whole),
            )
        super().__init__(
            model_wrapper=model_wrapper or dict(type='hyper_mm.ShardedModel'),
            state_dict_cfg=state_dict_cfg,
            **options,
        )

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Loads the state of the optimiser; see ``mmengine._strategy.FSDPStrategy``."""
        state = FSDP.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(state)
