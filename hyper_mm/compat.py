"""What differs between the versions of torch that are supported; torch alone is imported."""

from __future__ import annotations

import torch

if hasattr(torch.compiler, 'is_compiling'):
    is_compiling = torch.compiler.is_compiling
else:  # torch 2.1 and 2.2; the compiler knows this function and takes it for True
    from torch._dynamo.external_utils import is_compiling

__all__ = ['in_backward', 'is_compiling']


def in_backward() -> bool:
    """Whether autograd is at work in this thread: activation checkpointing runs a forward again."""
    return torch._C._current_graph_task_id() != -1
