"""Pictures of what a model has learned. Needs numpy, torch, OpenCV and matplotlib."""

from importlib import import_module

_MODULES = {
    'attention_summary': 'attention',
    'collapse_indicators': 'from_model',
    'draw_hierarchy': 'hierarchy',
    'draw_poincare_disk': 'poincare_disk',
    'find_mapper': 'from_model',
    'read_hierarchies': 'from_model',
    'tree_colours': 'colours',
}

__all__ = list(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted(__all__)
