"""hyper_mm: hyperbolic geometry and meta-learning for OpenMMLab 2.x.

Importing the package is cheap: components load when a config names them (``type='hyper_mm.X'``)
or when they are asked for as attributes of :mod:`hyper_mm.models` and its siblings.
:mod:`hyper_mm.ops` and :mod:`hyper_mm.layers` need torch alone.
"""

from importlib import import_module
from importlib.util import find_spec

from .version import __version__

_LAZY = {
    'apply_hyperclip': 'layers.hyperclip.adapter',
    'lite_clip': 'models.utils.lite_clip',
}

if find_spec('torch') and find_spec('mmengine'):
    from .registry import register_all_modules  # noqa: F401

    __all__ = ['__version__', 'apply_hyperclip', 'lite_clip', 'register_all_modules']
else:
    __all__ = ['__version__', 'apply_hyperclip', 'lite_clip']


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f'{__name__}.{_LAZY[name]}'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
