"""Registered models: thin adapters of :mod:`hyper_mm.layers` to the frameworks."""

from hyper_mm.registry import lazy_attributes

__getattr__, __dir__ = lazy_attributes('model')
