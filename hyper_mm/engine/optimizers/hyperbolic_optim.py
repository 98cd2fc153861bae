"""Optimization of models with points among their parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

from hyper_mm.checks import check_choice, check_range
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
        paramwise_cfg: ``custom_keys``, as mmengine's: multipliers ``lr_mult`` and ``decay_mult`` of
            the parameters whose names contain a key, such as
            ``dict(custom_keys={'decoder.embedding': dict(lr_mult=2.0)})``. Where several keys
            match, the longest one that sets a multiplier counts. What has no weight decay gets
            none.

    Raises:
        ValueError: If ``paramwise_cfg`` has another entry or a multiplier is negative,
            ``optimizer`` is missing, or ``hyp_optimizer`` is unknown; on use also if it has no
            parameters, points have no ``hyp_optimizer``, a key matches no parameter, or there is
            nothing to multiply.
        ImportError: If ``hyp_optimizer`` is given and geoopt is not installed.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.keys = custom_keys(paramwise_cfg)
        cfg = copy.deepcopy(dict(optim_wrapper_cfg))
        if 'optimizer' not in cfg:
            raise ValueError(f'optim_wrapper must have an optimizer, got {optim_wrapper_cfg}')
        self.optimizer, self.hyp_optimizer = cfg.pop('optimizer'), cfg.pop('hyp_optimizer', None)
        self.wrapper = {'type': 'OptimWrapper', **cfg}
        if self.hyp_optimizer is not None:
            self.hyp_type = geoopt_optimizer(self.hyp_optimizer.get('type'))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer, or both, and the wrapper."""
        named = list(unwrap_model(model).named_parameters())
        decayed, plain, points = sort_parameters(named)
        if bool(points) != (self.hyp_optimizer is not None):
            raise ValueError(
                f'hyp_optimizer must be given for points and for nothing else: the model has '
                f'{len(points)} parameters on a manifold, hyp_optimizer is {self.hyp_optimizer}'
            )
        rules = multipliers(named, self.keys)
        groups = grouped(decayed, rules, self.optimizer)
        groups += grouped(plain, rules, {**self.optimizer, 'weight_decay': 0.0}, weight_decay=0.0)
        optimizer = accept_old_state(OPTIMIZERS.build(dict(self.optimizer, params=groups)))
        if points:
            options = {key: value for key, value in self.hyp_optimizer.items() if key != 'type'}
            of_points = grouped(points, rules, {'weight_decay': 0.0, **options})
            optimizer = JointOptimizer(optimizer, self.hyp_type(of_points, **options))
        return OPTIM_WRAPPERS.build(self.wrapper, default_args=dict(optimizer=optimizer))


def custom_keys(paramwise_cfg: dict | None) -> dict[str, dict[str, float]]:
    """Checks ``paramwise_cfg`` and returns its ``custom_keys``; see the constructor."""
    cfg = dict(paramwise_cfg or {})
    keys = cfg.pop('custom_keys', {})
    if cfg:
        raise ValueError(f'paramwise_cfg must have custom_keys alone, got {sorted(cfg)}')
    for key, rule in keys.items():
        if not {*rule} <= {'lr_mult', 'decay_mult'}:
            raise ValueError(
                f'paramwise_cfg.custom_keys[{key!r}] must have lr_mult and decay_mult, got '
                f'{sorted(rule)}'
            )
        for name, value in rule.items():
            check_range('[0, inf)', **{f'{key}.{name}': value})
    return {key: dict(rule) for key, rule in keys.items()}


def multipliers(
    named: Iterable[tuple[str, nn.Parameter]], keys: dict[str, dict[str, float]]
) -> dict[int, tuple[float, float]]:
    """Multipliers of the learning rate and of weight decay, by the ids of parameters.

    Args:
        named: Parameters with their names.
        keys: See :func:`custom_keys`.

    Raises:
        ValueError: If a key matches no parameter.
    """
    found, unused = {}, set(keys)
    for name, parameter in named:
        matching = sorted((k for k in keys if k in f'.{name}'), key=lambda k: (len(k), k))
        unused -= {*matching}
        rule: dict[str, float] = {}
        for key in matching:
            rule |= keys[key]
        if rule:
            found[id(parameter)] = rule.get('lr_mult', 1.0), rule.get('decay_mult', 1.0)
    if unused:
        raise ValueError(
            f'paramwise_cfg.custom_keys must be in names of parameters, got {sorted(unused)}'
        )
    return found


def grouped(
    parameters: list[nn.Parameter],
    rules: dict[int, tuple[float, float]],
    options: dict,
    **common: float,
) -> list[dict]:
    """Groups of parameters with equal multipliers.

    Args:
        parameters: The parameters.
        rules: See :func:`multipliers`.
        options: Options of the optimizer, with the values that are multiplied.
        **common: Entries of all groups.

    Raises:
        ValueError: If ``options`` lack a value that is to be multiplied.
    """
    parts: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        parts.setdefault(rules.get(id(parameter), (1.0, 1.0)), []).append(parameter)
    groups = []
    for factors, members in parts.items():
        group: dict = {'params': members, **common}
        for name, factor in zip(('lr', 'weight_decay'), factors):
            if factor == 1:
                continue
            if options.get(name) is None:
                raise ValueError(f'optimizer must have {name} for multipliers of it, got {options}')
            group[name] = options[name] * factor
        groups.append(group)
    return groups


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
            if parameter.shape == (1,):
                state.update(with_dimension(state))

    optimizer.register_load_state_dict_post_hook(upgrade)
    return optimizer


def with_dimension(state: dict) -> dict:
    """State of one parameter, moments of shape ``()`` as ``(1,)``."""
    return {
        name: value.reshape(1)
        if isinstance(value, torch.Tensor) and not value.ndim and name != 'step'
        else value
        for name, value in state.items()
    }


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
