"""Initializations that a model's ``init_cfg`` does not overwrite."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from mmengine.model import BaseModule
from torch import nn


class OwnInit:
    """Mixin of registered modules: what they set at construction survives the model's ``init_cfg``.

    mmengine applies the ``init_cfg`` of a model to all modules in it before it asks each for an
    initialization of its own, by :meth:`torch.nn.Module.apply`. That pass ends at a module with
    this mixin: truncated normal weights for "all linear layers" of a model open no update that
    is initialized to zero, and move no prompt, curvature or loaded tower. Stock modules inside of
    it are initialized as everywhere. The module's own ``init_cfg`` has its effect, and so have
    checkpoints (``Pretrained``), by whomever.

    Put it in front of the stock class. Outside of mmengine's initialization it does nothing.
    """

    loaded: ClassVar[tuple[str, ...]] = ()
    """Children with weights loaded at construction: not even the own ``init_cfg`` changes them."""

    _own_init = False

    def init_weights(self) -> None:
        """Initializes by the module's own ``init_cfg``; see :class:`mmengine.model.BaseModule`."""
        stock = getattr(super(), 'init_weights', None)
        if stock is None:  # a plain module is what it is
            return
        self._own_init = True
        try:
            stock()
        finally:
            self._own_init = False

    def apply(self, fn: Callable[[nn.Module], None]) -> nn.Module:
        """Applies a function to all modules, but no initialization of a parent to this one's.

        Args:
            fn: Takes a module.
        """
        if not hasattr(self, '_params_init_info'):  # mmengine sets it while it initializes
            return super().apply(fn)
        for name, child in self.named_children():
            if self._own_init and name not in self.loaded:
                child.apply(fn)
            elif not self._own_init:
                _apply_to_stock(child, fn)
        if self._own_init:
            fn(self)
        return self


def _apply_to_stock(module: nn.Module, fn: Callable[[nn.Module], None]) -> None:
    """Applies a function to the modules of mmengine in a module, which initialize themselves."""
    if isinstance(module, BaseModule):
        module.apply(fn)
        return
    for child in module.children():
        _apply_to_stock(child, fn)
