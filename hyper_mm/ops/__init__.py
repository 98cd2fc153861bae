"""Functional geometry on tensors. Needs torch alone.

:mod:`~hyper_mm.ops.lorentz` (hyperboloid, space components), :mod:`~hyper_mm.ops.poincare` (ball),
:mod:`~hyper_mm.ops.entailment` (angles and cones); their building blocks are in
:mod:`~hyper_mm.ops.stable` and :mod:`~hyper_mm.ops.chord`.
"""

from . import entailment, lorentz, poincare, stable

__all__ = ['entailment', 'lorentz', 'poincare', 'stable']
