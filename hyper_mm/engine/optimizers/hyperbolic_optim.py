"""Optimization of models with points among their parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from hyper_mm.checks import check_choice
from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

BIASES = ('bias', 'b1', 'b2', 'b3')
"""Last names of biases; those of all experts of a mixture are one matrix."""


class JointOptimizer(torch.optim.Optimizer):
    """Several optimizers that step as one; schedulers and clipping see the groups of all.

    Args:
        optimizers: Optimizers of different parameters.
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        # the groups are taken over as they are: a rate set here is set there
        super().__init__([group for o in optimizers for group in o.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:
        """Steps all; closures are not supported."""
        if closure is not None:
            raise ValueError('closure must be None: the optimizers would each call it')
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict:
        """State of each optimizer."""
        return dict(optimizers=[optimizer.state_dict() for optimizer in self.optimizers])

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads the state of each optimizer.

        Raises:
            ValueError: If it is of another number of optimizers.
        """
        states = state_dict.get('optimizers', ())
        if len(states) != len(self.optimizers):
            raise ValueError(
                f'the state must be of {len(self.optimizers)} optimizers, got {len(states)}: was '
                'the checkpoint trained with another optim_wrapper?'
            )
        for optimizer, state in zip(self.optimizers, states):
            optimizer.load_state_dict(state)
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HyperbolicOptimWrapperConstructor:
    """Sorts parameters: matrices, those without weight decay, and points of a manifold.

    Without weight decay are biases, weights of norms, and single numbers: temperatures, weights of
    residual connections, curvatures, whose neutral value weight decay does not know. (The
    ``flat_decay_mult`` of mmengine leaves decay on numbers and on the biases of experts.) Points,
    parameters with a ``manifold`` (see ``embedding='manifold'`` of :class:`hyper_mm.HelmDecoder`),
    go to an optimizer of their own, without weight decay.

    Args:
        optim_wrapper_cfg: Config of the wrapper. ``optimizer`` is for everything but the points;
            ``hyp_optimizer``, such as ``dict(type='RiemannianAdam', lr=4e-4, stabilize=1)``, names
            an optimizer of geoopt for them.
        paramwise_cfg: Not supported: the sorting is its place.

    Raises:
        ValueError: If ``paramwise_cfg`` is given, ``optimizer`` is missing, or ``hyp_optimizer``
            is unknown; on use also if it has no parameters, or points have no ``hyp_optimizer``.
        ImportError: If ``hyp_optimizer`` is given and geoopt is not installed.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        if paramwise_cfg:
            raise ValueError(f'paramwise_cfg must be left out, got {paramwise_cfg}')
        cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        if 'optimizer' not in cfg:
            raise ValueError(f'optim_wrapper must have an optimizer, got {optim_wrapper_cfg}')
        self.optimizer, self.hyp_optimizer = cfg.pop('optimizer'), cfg.pop('hyp_optimizer', None)
        self.wrapper = {'type': 'OptimWrapper', **cfg}
        if self.hyp_optimizer is not None:
            self.hyp_type = geoopt_optimizer(self.hyp_optimizer.get('type'))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer, or both, and the wrapper."""
        decayed, plain, points = sort_parameters(unwrap_model(model).named_parameters())
        if bool(points) != (self.hyp_optimizer is not None):
            raise ValueError(
                f'hyp_optimizer must be given for points and for nothing else: the model has '
                f'{len(points)} parameters on a manifold, hyp_optimizer is {self.hyp_optimizer}'
            )
        groups = [dict(params=decayed), dict(params=plain, weight_decay=0.0)]
        groups = [group for group in groups if group['params']]
        optimizer = accept_old_state(OPTIMIZERS.build(dict(self.optimizer, params=groups)))
        if points:
            options = {key: value for key, value in self.hyp_optimizer.items() if key != 'type'}
            optimizer = JointOptimizer(optimizer, self.hyp_type(points, **options))
        return OPTIM_WRAPPERS.build(self.wrapper, default_args=dict(optimizer=optimizer))


def sort_parameters(
    named: Iterable[tuple[str, nn.Parameter]],
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Sorts trained parameters: with weight decay, without it, points of a manifold."""
    decayed, plain, points = [], [], []
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        if hasattr(parameter, 'manifold'):
            points.append(parameter)
        elif len(whole_shape(parameter)) < 2 or name.rsplit('.', 1)[-1] in BIASES:
            plain.append(parameter)
        else:
            decayed.append(parameter)
    return decayed, plain, points


def accept_old_state(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Lets an optimizer read states of before single numbers became vectors of shape ``(1,)``."""

    def upgrade(loaded: torch.optim.Optimizer) -> None:
        for parameter, state in loaded.state.items():
            for name, value in state.items():
                number = isinstance(value, torch.Tensor) and not value.ndim and name != 'step'
                if number and parameter.shape == (1,):
                    state[name] = value.reshape(1)

    optimizer.register_load_state_dict_post_hook(upgrade)
    return optimizer


def whole_shape(parameter: nn.Parameter) -> torch.Size:
    """Shape of a parameter; of a sharded one (:class:`hyper_mm.ShardedModel`), that of all."""
    return getattr(parameter, 'whole_shape', parameter.shape)


def geoopt_optimizer(name: str | None) -> type[torch.optim.Optimizer]:
    """An optimizer of geoopt.

    Raises:
        ImportError: If geoopt is not installed.
        ValueError: If it has no such optimizer.
    """
    try:
        from geoopt import optim
    except ImportError as error:
        raise ImportError(
            f'hyp_optimizer {name} needs geoopt, which is not installed: pip install geoopt'
        ) from error
    known = sorted(key for key in vars(optim) if key.startswith('Riemannian'))
    check_choice(known, **{'hyp_optimizer.type': name})
    return getattr(optim, name)
