"""Options of Hi-Mapper: groups, recipes, and the flat names of before."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

GROUPS = {
    'tree': (
        'num_leaves',
        'num_levels',
        'probabilistic',
        'mixture',
        'max_samples',
        'init',
        'spread',
        'sigma',
        'bottom_up',
    ),
    'lift': ('hyp_dim', 'manifold', 'curvature', 'alpha_init', 'max_radius', 'radii'),
    'loss': (
        'contrastive',
        'sign',
        'tau',
        'include_positive',
        'level_weights',
        'across_images',
        'kl',
        'kl_reduction',
        'reconstruction',
        'balance',
        'containment',
        'entailment',
    ),
}
"""Names of the options of each group."""

PAPER: dict[str, Any] = dict(
    competition=False,
    zero_init_out=False,
    tree=dict(init='pairs', probabilistic=True, bottom_up=False),
    lift=dict(radii='free'),
    loss=dict(contrastive=0.1, kl=0.01, across_images=False, balance=0.0),
)
RECOMMENDED: dict[str, Any] = dict(
    competition=True,
    zero_init_out=True,
    tree=dict(init='tree', probabilistic=False, bottom_up=True),
    lift=dict(radii='level'),
    loss=dict(contrastive=0.1, kl=0.01, across_images=True, balance=0.1),
)
RECIPES = {'paper': PAPER, 'recommended': RECOMMENDED}
"""What the recipes set; everything else is the same in both."""

_FLAT_LOSS = {
    'contrastive_weight': 'contrastive',
    'kl_weight': 'kl',
    'kl_reduction': 'kl_reduction',
}


def grouped_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Moves flat options to their groups, where they are now, with a DeprecationWarning.

    Args:
        options: Options of :class:`HierarchyMapper`, some of them by their names of before:
            ``num_leaves=8`` for ``tree=dict(num_leaves=8)``, ``contrastive_weight=0.2`` for
            ``loss=dict(contrastive=0.2)``, ``contrastive=dict(tau=0.5)`` for
            ``loss=dict(tau=0.5)``, ``structure=dict(balance=1.0)`` for ``loss=dict(balance=1.0)``.

    Returns:
        The options, all by their names of now; the given ones are not changed.

    Raises:
        TypeError: If an option is there under both names, or a group is no dict.
        ValueError: If a group has an option that it does not know.
    """
    rest = dict(options)
    groups = {name: rest.pop(name, None) or {} for name in GROUPS}
    for name, group in groups.items():
        if not isinstance(group, Mapping):
            raise TypeError(f'{name} must be a dict of options, got {group!r}')
        unknown = sorted(set(group) - set(GROUPS[name]))
        if unknown:
            raise ValueError(f'{name} must have options among {GROUPS[name]}, got {unknown}')
    found = {name: dict(group) for name, group in groups.items()}
    moved: list[str] = []

    def move(old: str, group: str, values: Mapping[str, Any]) -> None:
        twice = sorted(set(values) & set(groups[group]))
        if twice:
            raise TypeError(f'{old} and {group}.{twice[0]}, its name of now, were both passed')
        found[group] |= values
        moved.append(f'{old} ({", ".join(f"{group}.{name}" for name in values) or group})')

    for name in ('tree', 'lift'):
        for option in GROUPS[name]:
            if option in rest:
                move(option, name, {option: rest.pop(option)})
    for old, new in _FLAT_LOSS.items():
        if old in rest:
            move(old, 'loss', {new: rest.pop(old)})
    for old in ('contrastive', 'structure'):
        if old in rest:
            move(old, 'loss', rest.pop(old) or {})
    if moved:
        warnings.warn(
            f'options of Hi-Mapper are grouped now: {", ".join(moved)}; the flat names will go '
            'with the next release',
            DeprecationWarning,
            stacklevel=3,
        )
    return {**rest, **{name: group for name, group in found.items() if group}}


def level_radii(radii: str | list | tuple, num_levels: int) -> tuple[float, ...] | None:
    """Scaled radii of the levels.

    Args:
        radii: ``'free'``; ``'level'`` for 1 at the top and 1 more at each level below; or a number
            for each level, leaves first.
        num_levels: Number of levels.

    Returns:
        A number for each level, leaves first; None for free radii.

    Raises:
        ValueError: For anything else.
    """
    if isinstance(radii, str):
        if radii == 'free':
            return None
        if radii == 'level':
            return tuple(float(num_levels - level) for level in range(num_levels))
    elif isinstance(radii, (list, tuple)) and len(radii) == num_levels:
        return tuple(map(float, radii))
    raise ValueError(
        f"lift.radii must be 'free', 'level' or {num_levels} numbers, one a level, got {radii!r}"
    )
