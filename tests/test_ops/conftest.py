"""Hypothesis profile and strategies of the geometry tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from ..conftest import no_half_autocast

settings.register_profile('hyper_mm', derandomize=True, deadline=None, max_examples=30)
settings.load_profile('hyper_mm')

DIM = 5
FLOATS = [torch.float32, torch.float64]
HALVES = [torch.float16, torch.bfloat16]
AUTOCAST = [pytest.param(torch.float16, marks=no_half_autocast), torch.bfloat16]

curvatures = st.floats(0.05, 20.0)
seeds = st.integers(0, 2**16)


def radii(low: float, high: float) -> st.SearchStrategy[float]:
    """Lengths, as likely in every order of magnitude."""
    exponents = st.floats(0.0, 1.0)
    return exponents.map(lambda e: min(high, max(low, low * (high / low) ** e)))


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal float64 numbers, the same in every run."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def vectors_of_length(radius: float, *shape: int, seed: int = 0) -> Tensor:
    """Random directions ``(*shape)`` of one length, float64."""
    v = randn(*shape, seed=seed)
    return radius * v / v.norm(dim=-1, keepdim=True)


def vectors(low: float = 1e-6, high: float = 20.0) -> st.SearchStrategy[Tensor]:
    """float64 vectors ``(DIM,)`` of random direction with a length from ``low`` to ``high``."""
    return st.builds(lambda r, seed: vectors_of_length(r, DIM, seed=seed), radii(low, high), seeds)


def rotation(seed: int) -> Tensor:
    """A random orthogonal matrix ``(DIM, DIM)``."""
    return torch.linalg.qr(randn(DIM, DIM, seed=seed)).Q


rotations = st.builds(rotation, seeds)
