"""Learning rates and weight decay of components, wherever in a model they are."""

from __future__ import annotations

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from hyper_mm.checks import check_positive
from hyper_mm.near_misses import suggestion
from hyper_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .hyperbolic_optim import accept_old_state, custom_keys, whole_shape

PARAMWISE = (
    *('custom_keys', 'component_lr_mult', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult'),
    *('flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate'),
)
"""Entries of ``paramwise_cfg``: mmengine's and ours."""
WRAPPERS = ('module', '_fsdp_wrapped_module', '_checkpoint_wrapped_module', '_orig_mod')
"""Names that wrappers put into the paths of parameters."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ComponentOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, in which components of ours bring their own rules.

    A component declares ``optim_rules``, a dict from the path of a part inside of it to multipliers
    (``lr_mult``, ``decay_mult``); the longest path that sets a multiplier counts. So they hold
    wherever the component is: as the neck, in a list of necks, around an inner neck, inside of a
    meta-learner. Vectors and single numbers of these parts (biases, norms, gates, geometry) have no
    weight decay.

    ``custom_keys`` of the config come before the rules of components. Where several match a
    parameter, the longest one *that sets the multiplier* counts; with mmengine's constructor the
    longest one resets what it does not mention.

    Args:
        optim_wrapper_cfg: Config of the wrapper and its optimizer, as for mmengine's constructor.
        paramwise_cfg: As for mmengine's constructor, and ``component_lr_mult``: the ``lr_mult`` of
            all components that declare one (Hi-Mapper: 10, as it is new beside a pretrained
            backbone). A config of a model that is new as a whole sets it to 1.

    Raises:
        ValueError: If ``component_lr_mult`` is not positive, the optimizer has no ``lr``, or
            ``paramwise_cfg`` has an entry, or a custom key a multiplier, that nothing reads.

    Example:
        >>> optim_wrapper = dict(
        ...     constructor='hyper_mm.ComponentOptimWrapperConstructor',
        ...     optimizer=dict(type='AdamW', lr=6e-5, weight_decay=0.01))
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        paramwise_cfg = {'custom_keys': {}, **(paramwise_cfg or {})}
        unknown = sorted(set(paramwise_cfg) - {*PARAMWISE})
        if unknown:
            raise ValueError(
                f'paramwise_cfg must be of {PARAMWISE}, got {unknown}'
                f'{suggestion(unknown[0], PARAMWISE)}'
            )
        custom_keys(dict(custom_keys=paramwise_cfg['custom_keys']))  # refuses other multipliers
        self.component_lr_mult = paramwise_cfg.pop('component_lr_mult', None)
        if self.component_lr_mult is not None:
            check_positive(component_lr_mult=self.component_lr_mult)
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if self.base_lr is None:
            raise ValueError(f'optimizer must have an lr, got {self.optimizer_cfg}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer and its wrapper.

        Args:
            model: The model, or a wrapper of it.
        """
        wrapper = super().__call__(model)
        accept_old_state(wrapper.optimizer)
        return wrapper

    def add_params(self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs) -> None:
        """Adds a group for each parameter; see mmengine.

        Args:
            params: Groups, which it appends to.
            module: The model, or a part of it.
            prefix: Path of the part.
            **kwargs: See mmengine.
        """
        super().add_params(params, module, prefix, **kwargs)
        if prefix:
            return
        rules = {id(p): rule for p, rule in self._rules(module)}
        for group in params:
            rule = rules.get(id(group['params'][0]))
            if rule is not None:
                group.update(rule, lr=self.base_lr * rule.get('lr_mult', 1.0))
                if self.base_wd is not None:
                    group['weight_decay'] = self.base_wd * rule.get('decay_mult', 1.0)

    def _rules(self, model: nn.Module) -> list[tuple[nn.Parameter, dict]]:
        """Trained parameters that the rules of mmengine do not suffice for, with their own."""
        keys = self.paramwise_cfg['custom_keys']
        components = component_rules(model)
        found = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            matching = sorted((k for k in keys if k in f'.{name}'), key=lambda k: (len(k), k))
            if name not in components and len(matching) < 2:
                continue
            rule = dict(components.get(name, {}))
            if self.component_lr_mult is not None and 'lr_mult' in rule:
                rule['lr_mult'] = self.component_lr_mult
            for key in matching:
                rule |= keys[key]
            found.append((parameter, rule))
        return found


def component_rules(model: nn.Module) -> dict[str, dict[str, float]]:
    """Multipliers that the components of a model declare; see the constructor.

    Args:
        model: Any model.

    Returns:
        ``lr_mult`` and ``decay_mult``, as far as declared, by the name of the parameter.
    """
    found = {}
    for path, module in model.named_modules():
        declared = getattr(type(module), 'optim_rules', None)
        if not declared:
            continue
        for name, parameter in module.named_parameters():
            inside = '.'.join(part for part in name.split('.') if part not in WRAPPERS)
            parts = [p for p in declared if f'{inside}.'.startswith(f'{p}.')]
            if not parts:
                continue
            rule = {'decay_mult': 0.0} if len(whole_shape(parameter)) < 2 else {}
            for part in sorted(parts, key=len):
                rule |= declared[part]
            found[f'{path}.{name}'.lstrip('.')] = rule
    return found
