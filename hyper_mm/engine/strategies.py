"""Strategies of mmengine's FlexibleRunner."""

from __future__ import annotations

from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, StateDictType
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp._common_utils import FSDP_WRAPPED_MODULE

from hyper_mm.engine.optimizers.hyperbolic_optim import with_dimension
from hyper_mm.registry import STRATEGIES


@STRATEGIES.register_module()
class ShardedStrategy(FSDPStrategy):
    """mmengine's FSDP with :class:`hyper_mm.ShardedModel`; checkpoints are those of one process.

    Training goes on from them, and from those of a run of one process or of DDP, whose optimizer
    counts its parameters where FSDP names them. mmengine 0.10.7 itself cannot: it hands over the
    state of the optimizer in the order of torch 2.0's arguments, and later versions raise.

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
        """Loads the state of the optimizer; see ``mmengine._strategy.FSDPStrategy``.

        Args:
            state_dict: State of a sharded run, or of a run of one process.

        Raises:
            ValueError: If its groups of parameters are not those of this optimizer.
        """
        optimizer = self.optim_wrapper.optimizer
        if counts_parameters(state_dict):
            named = {id(p): clean_name(name) for name, p in self.model.named_parameters()}
            groups = [[named[id(p)] for p in g['params']] for g in optimizer.param_groups]
            state_dict = name_parameters(state_dict, groups)
        upgraded = {name: with_dimension(own) for name, own in state_dict['state'].items()}
        state_dict = dict(state_dict, state=upgraded)
        state = FSDP.optim_state_dict_to_load(
            model=self.model, optim=optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(state)


def clean_name(name: str) -> str:
    """Returns the name of a parameter without the parts that FSDP adds."""
    return name.replace(f'{FSDP_WRAPPED_MODULE}.', '')


def counts_parameters(state: dict) -> bool:
    """Tells whether the state of an optimizer counts its parameters, as torch's own does."""
    indices = [index for group in state.get('param_groups', ()) for index in group['params']]
    return bool(indices) and all(isinstance(index, int) for index in indices)


def name_parameters(state: dict, groups: list[list[str]]) -> dict:
    """Turns the state of an optimizer that counts its parameters into one that names them.

    Args:
        state: What ``torch.optim.Optimizer.state_dict`` returns.
        groups: Names of the parameters of each group, in the order of the optimizer.

    Returns:
        The same with names in place of numbers.

    Raises:
        ValueError: If the groups differ in number or size.
    """
    sizes = [len(group['params']) for group in state['param_groups']]
    if sizes != [len(group) for group in groups]:
        raise ValueError(
            'the optimizer of the checkpoint must have the groups of parameters of this one: '
            f'{[len(group) for group in groups]} parameters, got {sizes}'
        )
    names = {}
    for saved, group in zip(state['param_groups'], groups):
        names.update(zip(saved['params'], group))
    return dict(
        state,
        state={names[index]: value for index, value in state['state'].items()},
        param_groups=[
            dict(saved, params=list(group)) for saved, group in zip(state['param_groups'], groups)
        ],
    )
