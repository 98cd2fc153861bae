"""Stock models that collect the losses of their components, and heads, made on demand.

``type='hyper_mm.X'`` finds a registered model X and puts :class:`AuxLossMixin` in front of it; see
:meth:`hyper_mm.registry.LazyRegistry.get`. Such a class can be pickled: it is importable from this
module under the full name of the stock class, as ``mmdet.models.detectors.fcos.FCOS``.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from types import ModuleType

from hyper_mm.models.heads.hosted_classifier import mixin_of
from hyper_mm.models.utils.aux_losses import AuxLossMixin
from hyper_mm.near_misses import explain_arguments


def is_model(kind: object) -> bool:
    """Whether this is the class of a whole model: one with ``loss()`` that a runner can train."""
    names = ('loss', 'train_step')
    return isinstance(kind, type) and all(callable(getattr(kind, n, None)) for n in names)


@cache
def collecting(stock: type) -> type:
    """The class of a model with the losses of its components.

    Args:
        stock: Class of a model, see :func:`is_model`.

    Returns:
        A subclass of it and of :class:`AuxLossMixin`, always the same; the class itself if it is
        one already.
    """
    if issubclass(stock, AuxLossMixin):
        return stock
    summary = f'``{stock.__name__}``, with the losses that its components publish.'
    attributes = {
        '__module__': __name__,
        '__qualname__': f'{stock.__module__}.{stock.__qualname__}',
        '__doc__': f'{summary}\n\n{stock.__doc__ or ""}',
    }
    return explain_arguments(type(stock)(stock.__name__, (AuxLossMixin, stock), attributes))


@cache
def hosting(stock: type) -> type:
    """The class of a head whose classifier can be replaced.

    Args:
        stock: Class of a head, for which :func:`hyper_mm.models.heads.hosted_classifier.mixin_of`
            returns a mixin.

    Returns:
        A subclass of it and of that mixin, always the same; the class itself if it is one already.
    """
    mixin = mixin_of(stock)
    assert mixin is not None, stock
    if issubclass(stock, mixin):
        return stock
    summary = f'``{stock.__name__}``, with ``classifier`` and ``taxonomy``.'
    attributes = {
        '__module__': __name__,
        '__qualname__': f'{stock.__module__}.{stock.__qualname__}',
        '__doc__': f'{summary}\n\n{mixin.__doc__ or ""}\n\n{stock.__doc__ or ""}',
    }
    return explain_arguments(type(stock)(stock.__name__, (mixin, stock), attributes))


def can_adapt(stock: object) -> bool:
    """Whether a class is made of this one: that of a model or of a head."""
    return is_model(stock) or mixin_of(stock) is not None


def adapted(stock: type) -> type:
    """The class made of a stock model or head."""
    return collecting(stock) if is_model(stock) else hosting(stock)


class _Path:
    """A part of the full name of a stock class, for the unpickler to walk along."""

    def __init__(self, path: str):
        self._path = path

    def __getattr__(self, name: str) -> object:
        path = f'{self._path}.{name}'
        try:
            found = pkgutil.resolve_name(path)
        except (ImportError, AttributeError, ValueError):
            raise AttributeError(f'there is no {path}') from None
        if can_adapt(found):
            return adapted(found)
        if isinstance(found, (ModuleType, type)):
            return _Path(path)
        raise AttributeError(f'{path} is no model and no head')


def __getattr__(name: str) -> object:
    if name.startswith('__') and name != '__main__':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, ValueError):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}') from None
    return _Path(name) if isinstance(found, ModuleType) else found
