"""What differs between the versions of torch that are supported; torch alone is imported."""

from __future__ import annotations

import sys

import torch

if hasattr(torch.compiler, 'is_compiling'):
    _is_compiling = torch.compiler.is_compiling
else:  # torch 2.1 and 2.2

    def _is_compiling() -> bool:
        dynamo = sys.modules.get('torch._dynamo')
        return dynamo is not None and dynamo.is_compiling()


__all__ = ['in_backward', 'is_autocasting', 'is_compiling', 'is_exporting', 'is_legacy_batched']


def is_compiling() -> bool:
    """Whether the code is recorded: by `torch.compile`, `torch.export` or `torch.jit.trace`.

    The recorded code must then be formulas of plain operators, without choices by values.
    """
    return _is_compiling() or torch.jit.is_tracing()


def is_exporting() -> bool:
    """Whether the code is recorded for other sizes, by `torch.export` or `torch.jit.trace`.

    Nothing compiles it again then: no choice may depend on a size either.
    """
    if torch.jit.is_tracing():
        return True
    # the flag itself (torch 2.7): dynamo takes `torch.compiler.is_exporting()` for True everywhere
    return getattr(torch.compiler, '_is_exporting_flag', False)


def in_backward() -> bool:
    """Whether autograd is at work in this thread: activation checkpointing runs a forward again."""
    # compiled code, whose passes are repeated as graphs and not as Python, cannot ask
    return not is_compiling() and torch._C._current_graph_task_id() != -1


if hasattr(torch, 'get_autocast_dtype'):
    _is_autocasting = torch.is_autocast_enabled
else:  # torch 2.1 to 2.3

    def _is_autocasting(device: str) -> bool:
        return torch.is_autocast_cpu_enabled() if device == 'cpu' else torch.is_autocast_enabled()


def is_autocasting(device: str) -> bool:
    """Whether autocast is on for a type of device."""
    return _is_autocasting(device)


if hasattr(torch._C._functorch, 'is_legacy_batchedtensor'):
    _is_legacy_batched = torch._C._functorch.is_legacy_batchedtensor
else:  # torch 2.1 and some later ones

    def _is_legacy_batched(x: torch.Tensor) -> bool:
        return torch._C._dispatch_keys(x).has(torch._C._dispatch_key_parse('Batched'))


def is_legacy_batched(x: torch.Tensor) -> bool:
    """Whether a tensor is a batch of `torch.autograd.grad(is_grads_batched=True)`.

    That is a transform of its own, older than those of `torch.func`.
    """
    return _is_legacy_batched(x)
