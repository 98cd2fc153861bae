"""Functional geometry on tensors. Needs torch alone.

:mod:`~hyper_mm.ops.lorentz` (hyperboloid, space components), :mod:`~hyper_mm.ops.poincare` (ball),
and by topic, for both models: :mod:`~hyper_mm.ops.entailment` (angles and cones),
:mod:`~hyper_mm.ops.hyperplanes`, :mod:`~hyper_mm.ops.busemann` and :mod:`~hyper_mm.ops.logits`
(what classifiers measure), :mod:`~hyper_mm.ops.means`, :mod:`~hyper_mm.ops.wrapped_normal`,
:mod:`~hyper_mm.ops.riemannian_normal`, and :mod:`~hyper_mm.ops.coordinates` (other models and
libraries); for images :mod:`~hyper_mm.ops.frequency` and :mod:`~hyper_mm.ops.style`. Their building
blocks are in :mod:`~hyper_mm.ops.inputs`, :mod:`~hyper_mm.ops.stable`,
:mod:`~hyper_mm.ops.chord`, :mod:`~hyper_mm.ops.all_pairs`, :mod:`~hyper_mm.ops.motions`,
:mod:`~hyper_mm.ops.rows` and :mod:`~hyper_mm.ops.apart`.
"""

from . import (
    busemann,
    coordinates,
    entailment,
    frequency,
    hyperplanes,
    inputs,
    logits,
    lorentz,
    means,
    poincare,
    riemannian_normal,
    stable,
    style,
    wrapped_normal,
)

__all__ = [
    'busemann',
    'coordinates',
    'entailment',
    'frequency',
    'hyperplanes',
    'inputs',
    'logits',
    'lorentz',
    'means',
    'poincare',
    'riemannian_normal',
    'stable',
    'style',
    'wrapped_normal',
]
