"""Checks of arguments: each raises an error with the name, the value and what is allowed.

Values are passed by their names, what is allowed comes first:

    check_positive(scale=scale, eps=eps)
    check_count(1, steps=steps)
    check_range('(0, 1]', top_p=top_p)
    check_choice(GEOMETRIES, geometry=geometry)

This module needs no other one, so :mod:`hyper_mm.ops`, :mod:`hyper_mm.layers` and all that is built
on them use it.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable, Sequence


def check_choice(allowed: Iterable[object], /, **values: object) -> None:
    """Refuses values that are not allowed.

    Args:
        allowed: All allowed values.
        **values: Values by their names.

    Raises:
        ValueError: If a value is not allowed.
    """
    listed = allowed if isinstance(allowed, (list, tuple)) else tuple(allowed)
    for name, value in values.items():
        if value not in listed:
            raise ValueError(f'{name} must be one of {listed}, got {value!r}')


def check_subset(allowed: Iterable[object], /, **values: Sequence[object]) -> None:
    """Refuses sequences that are empty, or hold a value twice, or one that is not allowed.

    Args:
        allowed: All allowed values.
        **values: Sequences by their names.

    Raises:
        ValueError: If a sequence is refused.
    """
    listed = tuple(allowed)
    for name, value in values.items():
        if not value or len(set(value)) < len(value) or set(value) - set(listed):
            raise ValueError(f'{name} must be some of {listed}, got {value!r}')


def check_positive(**values: object) -> None:
    """Refuses numbers that are not above zero, among them NaN.

    Args:
        **values: Numbers by their names.

    Raises:
        ValueError: If a number is not positive.
        TypeError: If a value is no number.
    """
    for name, value in values.items():
        if not _holds(lambda x: x > 0, name, value):
            raise ValueError(f'{name} must be positive, got {value}')


def check_not_negative(**values: object) -> None:
    """Refuses numbers below zero and NaN.

    Args:
        **values: Numbers by their names.

    Raises:
        ValueError: If a number is negative.
        TypeError: If a value is no number.
    """
    for name, value in values.items():
        if not _holds(lambda x: x >= 0, name, value):
            raise ValueError(f'{name} must not be negative, got {value}')


def check_at_least(least: float, /, **values: object) -> None:
    """Refuses numbers below a bound and NaN.

    Args:
        least: The bound.
        **values: Numbers by their names.

    Raises:
        ValueError: If a number is below the bound.
        TypeError: If a value is no number.
    """
    for name, value in values.items():
        if not _holds(lambda x: x >= least, name, value):
            raise ValueError(f'{name} must be at least {least}, got {value}')


def check_count(least: int, /, **values: object) -> None:
    """Refuses what is no integer of at least a bound; a bool is none.

    Args:
        least: The bound.
        **values: Integers by their names.

    Raises:
        ValueError: If a value is no integer, or below the bound.
    """
    for name, value in values.items():
        integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not integer or not _holds(lambda x: x >= least, name, value):
            raise ValueError(f'{name} must be an integer of at least {least}, got {value!r}')


def check_range(interval: str, /, **values: object) -> None:
    """Refuses numbers outside of an interval and NaN.

    Args:
        interval: In mathematical notation, ``'[0, 1)'`` or ``'(0, inf)'``; round brackets exclude
            the bound.
        **values: Numbers by their names.

    Raises:
        ValueError: If a number is outside of the interval.
        TypeError: If a value is no number.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(','))
    opened, closed = interval[0] == '(', interval[-1] == ')'
    for name, value in values.items():
        above = _holds(lambda x: x > low if opened else x >= low, name, value)
        if not (above and _holds(lambda x: x < high if closed else x <= high, name, value)):
            raise ValueError(f'{name} must be in {interval}, got {value}')


def _holds(condition: Callable, name: str, value: object) -> bool:
    try:
        return bool(condition(value))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f'{name} must be a number, got {value!r}') from error
