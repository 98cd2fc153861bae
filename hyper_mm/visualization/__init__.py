"""Pictures of what a model has learned. Needs numpy, torch, OpenCV and matplotlib."""

from importlib import import_module

from hyper_mm.deprecation import renamed_attributes

_MODULES = {
    'attention_summary': 'attention',
    'collapse_indicators': 'from_model',
    'draw_hierarchy': 'hierarchy',
    'draw_poincare_disk': 'poincare_disk',
    'find_mapper': 'from_model',
    'hierarchy_page': 'html_page',
    'read_hierarchies': 'from_model',
    'tree_colors': 'colors',
}

__all__ = list(_MODULES)
_renamed = renamed_attributes(__name__, tree_colours=f'{__name__}.tree_colors')


def __getattr__(name: str):
    if name not in _MODULES:
        return _renamed(name)
    return getattr(import_module(f'{__name__}.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
    return sorted(__all__)
