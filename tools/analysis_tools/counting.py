"""Counts what a computation does and keeps: multiply-accumulates, and bytes for its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn


class Ledger:
    """Storages that graphs hold, and the most bytes that they have held at a time.

    Args:
        ignored: Addresses of storages that do not count.
    """

    def __init__(self, ignored: set[int]):
        self.ignored = ignored
        self.holders: dict[int, int] = {}
        self.bytes = self.most = 0

    def pack(self, x: torch.Tensor) -> torch.Tensor | Held:
        """What a graph keeps in place of a tensor."""
        return x if x.untyped_storage().data_ptr() in self.ignored else Held(x, self)

    @staticmethod
    def unpack(x: torch.Tensor | Held) -> torch.Tensor:
        """The tensor."""
        return x.tensor if isinstance(x, Held) else x


class Held:
    """A tensor that a graph holds until it is freed."""

    def __init__(self, tensor: torch.Tensor, ledger: Ledger):
        # kept alive, so that no address comes twice; without its graph, which would hold itself
        self.tensor, self.ledger = tensor.detach(), ledger
        storage = tensor.untyped_storage()
        self.address, self.size = storage.data_ptr(), storage.nbytes()
        count = ledger.holders.get(self.address, 0)
        ledger.holders[self.address] = count + 1
        if not count:
            ledger.bytes += self.size
            ledger.most = max(ledger.most, ledger.bytes)

    def __del__(self) -> None:
        count = self.ledger.holders[self.address] - 1
        self.ledger.holders[self.address] = count
        if not count:
            self.ledger.bytes -= self.size


def kept_bytes(module: nn.Module, forward: Callable[[], object]) -> int:
    """Most bytes at a time that a forward pass keeps for a backward pass, parameters aside.

    Args:
        module: The module.
        forward: Runs it, and returns what holds its graph. What it differentiates by itself may
            be freed on the way.

    Returns:
        Bytes of distinct storages.
    """
    import torch

    ledger = Ledger({p.untyped_storage().data_ptr() for p in module.parameters()})
    with torch.autograd.graph.saved_tensors_hooks(ledger.pack, ledger.unpack):
        result = forward()
    del result
    return ledger.most


def counted_macs(forward: Callable[[], object], gradients: bool = False) -> int:
    """Multiply-accumulates of what runs, as PyTorch counts them.

    Args:
        forward: What runs.
        gradients: Whether it is differentiated; of Lorentz layers some products are then filled up
            with zeros, which saves time.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # the counter does not know the fused attention of CPUs
    counter = FlopCounterMode(display=False)
    with torch.set_grad_enabled(gradients), sdpa_kernel(SDPBackend.MATH), counter:
        forward()
    return counter.get_total_flops() // 2
