"""What differs between the versions of torch that are supported; torch alone is imported."""

from __future__ import annotations

import sys

import torch

if hasattr(torch.compiler, 'is_compiling'):
    is_compiling = torch.compiler.is_compiling
else:  # torch 2.1 and 2.2

    def is_compiling() -> bool:
        """Whether a compiler traces the code."""
        dynamo = sys.modules.get('torch._dynamo')
        return dynamo is not None and dynamo.is_compiling()


__all__ = ['in_backward', 'is_compiling']


def in_backward() -> bool:
    """Whether autograd is at work in this thread: activation checkpointing runs a forward again."""
    return torch._C._current_graph_task_id() != -1
