"""Functional geometry on tensors. Needs torch alone.

:mod:`~hyper_mm.ops.lorentz` (hyperboloid, space parts), :mod:`~hyper_mm.ops.poincare` (ball),
:mod:`~hyper_mm.ops.entailment` (angles and cones), :mod:`~hyper_mm.ops.stable` (building blocks).
"""

from . import entailment, lorentz, poincare, stable

__all__ = ['entailment', 'lorentz', 'poincare', 'stable']
