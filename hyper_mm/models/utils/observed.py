"""Tensors that a hook wants to see of a forward pass, without a place in the model for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_WANTED: ContextVar[dict[str, Tensor] | None] = ContextVar('observed tensors', default=None)


def observe(**tensors: Tensor) -> None:
    """Passes tensors to the :func:`observing` that is open in this thread, if there is one.

    Args:
        **tensors: By name; kept without their graph.
    """
    wanted = _WANTED.get()
    if wanted is not None:
        wanted.update((name, tensor.detach()) for name, tensor in tensors.items())


@contextmanager
def observing() -> Iterator[dict[str, Tensor]]:
    """Collects what :func:`observe` is given in this thread.

    Example:
        >>> with observing() as found:
        ...     model(images)
        >>> found['pixels']

    Yields:
        The tensors by name, filled meanwhile.
    """
    found: dict[str, Tensor] = {}
    token = _WANTED.set(found)
    try:
        yield found
    finally:
        _WANTED.reset(token)
