"""Errors for names that are almost right: types, arguments, keys of configs."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Iterable, Mapping

_UNEXPECTED = re.compile(r"^(?:([\w.<>]+)\(\) )?got an unexpected keyword argument '(\w+)'")


def suggestion(name: str, allowed: Iterable[str], cutoff: float = 0.6) -> str:
    """``", did you mean 'a' or 'b'?"`` for the allowed names next to a wrong one, or an empty text.

    Args:
        name: The wrong name.
        allowed: All right ones.
        cutoff: Smallest similarity in [0, 1], see :func:`difflib.get_close_matches`.
    """
    lower = {x.lower(): x for x in allowed}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=cutoff)
    names = ' or '.join(repr(lower[x]) for x in close)
    return f', did you mean {names}?' if names else ''


def explain_arguments(kind: type) -> type:
    """Makes the constructor of a class explain an argument that it does not know.

    Args:
        kind: The class, changed in place.

    Returns:
        The class.
    """
    initialize = kind.__init__

    @functools.wraps(initialize)
    def __init__(self, *args, **kwargs):
        try:
            initialize(self, *args, **kwargs)
        except TypeError as error:
            message = _explanation(type(self), kwargs, error)
            if message is None:
                raise
            raise TypeError(message) from error

    kind.__init__ = __init__
    return kind


def arguments_of(kind: type) -> set[str]:
    """Names that a class takes as keywords, through the ``**kwargs`` of its bases too.

    Names that only its ``**kwargs`` take are in ``more_arguments`` of the class.
    """
    names: set[str] = set(getattr(kind, 'more_arguments', ()))
    for base in kind.__mro__:
        if '__init__' not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names |= {p.name for p in parameters if p.kind in keyword}
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return names


def _explanation(kind: type, given: Mapping, error: TypeError) -> str | None:
    """What to say of an argument that is not known; None if the error is another one."""
    match = _UNEXPECTED.match(str(error))
    if match is None:
        return None
    callee, name = match.groups()
    allowed = arguments_of(_caught_class(error, callee))
    what = f'hyper_mm.{kind.__name__}' if kind.__module__.startswith('hyper_mm') else kind.__name__
    if name in given:
        allowed |= arguments_of(kind)
    else:
        holders = [k for k, v in given.items() if isinstance(v, Mapping) and name in v]
        if not holders:
            return None
        what = f'{holders[0]} of {what}'
    listed = f' It takes {", ".join(sorted(allowed))}.' if allowed else ''
    hint = suggestion(name, allowed)
    return f'{what} has no argument {name!r}{hint or "."}{listed}'


def _caught_class(error: TypeError, callee: str | None) -> type:
    """The class whose constructor has refused an argument, by its name in a calling frame.

    The last frame calls it, or the wrapper of a constructor with renamed arguments.
    """
    name = (callee or '').rpartition('.')[0]
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames if name else []):
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if isinstance(value, type) and value.__qualname__ == name:
                return value
    return object
