"""Old names that still work for one release, with a DeprecationWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

_F = TypeVar('_F', bound=Callable[..., Any])


def renamed_arguments(**renamed: str) -> Callable[[_F], _F]:
    """Decorator of a function or constructor whose arguments were renamed.

    Args:
        **renamed: The new name by the old one: ``renamed_arguments(normalise='normalize')``.

    Returns:
        The decorator. The function takes the old keywords too, each with a DeprecationWarning, and
        raises TypeError for an argument that is passed under both names.
    """

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            for old in renamed.keys() & kwargs.keys():
                new = renamed[old]
                if new in kwargs:
                    raise TypeError(
                        f'{function.__qualname__}: {old!r} is the old name of {new!r}, and both '
                        f'are given. Set {new!r} alone; a config that changes one of ours inherits '
                        f'{new}={kwargs[new]!r} and needs {new}={kwargs[old]!r} in place of '
                        f'{old}=...'
                    )
                _warn(f'{function.__qualname__}: argument {old!r}', repr(new))
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return wrapper  # type: ignore[return-value]

    return decorate


def renamed_value(name: str, value: Any, **renamed: Any) -> Any:
    """Replaces an old value of an argument by the new one, with a DeprecationWarning.

    Args:
        name: Name of the argument.
        value: Its value.
        **renamed: The new value by the old one: ``learnt='learned'``.

    Returns:
        The new value; ``value`` itself if it is no old one.
    """
    if not isinstance(value, str) or value not in renamed:
        return value
    _warn(f'{name}={value!r}', repr(renamed[value]))
    return renamed[value]


def renamed_property(new: str) -> property:
    """Property of a class that reads an attribute under its old name.

    Args:
        new: Name of the attribute now.

    Returns:
        A property, to be assigned to the old name in the class.
    """

    def read(self: Any) -> Any:
        _warn(f'an old name of {type(self).__name__}.{new}', repr(new))
        return getattr(self, new)

    return property(read)


def renamed_attributes(module: str, **renamed: str) -> Callable[[str], Any]:
    """``__getattr__`` of a module whose functions or classes were renamed or moved.

    Args:
        module: ``__name__`` of the module.
        **renamed: Where each old name is now: the full name, ``'package.module.name'``.

    Returns:
        A function to be assigned to ``__getattr__`` in the module.
    """

    def __getattr__(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        _warn(f'{module}.{name}', renamed[name])
        place, _, new = renamed[name].rpartition('.')
        return getattr(import_module(place), new)

    return __getattr__


def _warn(old: str, new: str) -> None:
    message = f'{old} is deprecated and will go with the next release; use {new}'
    warnings.warn(message, DeprecationWarning, stacklevel=3)
