"""Backward passes of functions with gradients of their own, where others follow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..compat import is_legacy_batched


def takes_plain_backward(grad: Tensor) -> bool:
    """Whether a backward pass is to be made of plain operators, which write over nothing.

    So it is where gradients are differentiated again, and where one pass is of many gradients at
    once: ``torch.autograd.grad(is_grads_batched=True)``, ``jacobian(vectorize=True)``.

    Args:
        grad: Gradient that the pass is given.
    """
    if torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return True
    return is_legacy_batched(grad)


def recorded_gradients(
    formula: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[object],
    grad: Tensor | tuple[Tensor, ...],
) -> tuple[Tensor | None, ...]:
    """Gradients of a formula by plain operators; in grad mode they can be differentiated again.

    Args:
        formula: Function of the inputs.
        inputs: Tensors, of which some may depend on others, and numbers.
        grad: Gradient of its result, or of each where it has several.

    Returns:
        For each input its gradient, None where there is none.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # fresh names: the gradient of each must not contain paths through another
        own = [x.view_as(x) if isinstance(x, Tensor) and x.requires_grad else x for x in inputs]
        value = formula(*own)
    wanted = {i: x for i, x in enumerate(own) if isinstance(x, Tensor) and x.requires_grad}
    found = torch.autograd.grad(
        value, list(wanted.values()), grad, create_graph=again, allow_unused=True
    )
    all_of_them: list[Tensor | None] = [None] * len(own)
    for i, gradient in zip(wanted, found):
        all_of_them[i] = gradient
    return tuple(all_of_them)
