"""Registered metrics."""

from importlib.util import find_spec

if find_spec('mmengine') is not None:
    from hyper_mm.registry import lazy_attributes

    __getattr__, __dir__ = lazy_attributes('metric')
