r"""Inner loop of gradient-based meta-learning, on dicts of parameters.

Sources: Finn et al., Model-Agnostic Meta-Learning, ICML 2017 (MAML and its first-order form);
Raghu et al., ANIL, ICLR 2020 (adapt a subset); Li et al., Meta-SGD, 2017 (a rate a parameter);
Nichol et al., Reptile, 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import torch
from torch import Tensor

from ...checks import check_count, check_positive

Parameters = Mapping[str, Tensor]


def adapt(
    loss: Callable[[dict[str, Tensor]], Tensor],
    parameters: Parameters,
    lr: float | Parameters,
    steps: int = 1,
    first_order: bool = False,
    clip: float | None = None,
    names: Iterable[str] | None = None,
    retain_graph: bool = False,
) -> dict[str, Tensor]:
    r"""Gradient steps :math:`\theta \leftarrow \theta - \alpha \operatorname{clamp}(\nabla L)`.

    The result depends on ``parameters`` by differentiable operations; nothing is changed in place.
    In second order, the losses are computed with attention that has second derivatives.

    Args:
        loss: Support loss of a dict of parameters, for example through
            :func:`torch.func.functional_call`.
        parameters: theta, by name.
        lr: alpha, or one a parameter that broadcasts with it (Meta-SGD).
        steps: Number of steps, at least 1.
        first_order: Take the gradients as constants (FOMAML).
        clip: Limit of each entry of a gradient, None for no limit.
        names: The adapted parameters (ANIL); all if None.
        retain_graph: Keep the graphs of the losses for further use, also in first order.

    Returns:
        All parameters, adapted ones updated. One that the loss does not use stays as it is.

    Raises:
        ValueError: If an argument is out of range, or no adapted parameter has a gradient.
    """
    if not isinstance(lr, Mapping) and not lr > 0:
        raise ValueError(f'lr must be positive, got {lr}')
    check_count(1, steps=steps)
    if clip is not None:
        check_positive(clip=clip)
    adapted, chosen = dict(parameters), list(parameters if names is None else names)
    unknown = sorted(set(chosen) - set(adapted))
    if unknown or not chosen:
        raise ValueError(f'names must be some of the parameters, got {unknown or chosen}')
    attention = nullcontext() if first_order else differentiable_attention()
    with torch.enable_grad(), attention:
        frozen = [n for n in chosen if not adapted[n].requires_grad]
        adapted.update({n: adapted[n].detach().requires_grad_() for n in frozen})
        for _ in range(steps):
            value, values = loss(adapted), [adapted[n] for n in chosen]
            grads: tuple[Tensor | None, ...] = (None,) * len(chosen)
            if value.requires_grad:
                grads = torch.autograd.grad(
                    value,
                    values,
                    retain_graph=retain_graph or not first_order,
                    create_graph=not first_order,
                    allow_unused=True,
                )
            if all(grad is None for grad in grads):
                raise ValueError(f'the loss has no gradient for the adapted parameters {chosen}')
            for name, grad in zip(chosen, grads):
                if grad is not None:
                    grad = grad if clip is None else grad.clamp(-clip, clip)
                    rate = lr[name] if isinstance(lr, Mapping) else lr
                    adapted[name] = adapted[name] - rate * grad
    return adapted


def differentiable_attention() -> AbstractContextManager:
    """Context in which scaled dot-product attention has second derivatives."""
    try:
        from torch.nn.attention import SDPBackend, sdpa_kernel
    except ImportError:  # torch < 2.3
        return torch.backends.cuda.sdp_kernel(enable_flash=False, enable_mem_efficient=False)
    return sdpa_kernel(SDPBackend.MATH)


def reptile_loss(parameters: Parameters, adapted: Parameters) -> Tensor:
    r"""A loss with Reptile's pseudo-gradient: :math:`\tfrac12 \lVert \theta - \phi \rVert^2`.

    Args:
        parameters: theta.
        adapted: phi of one task, taken as constant.

    Returns:
        The loss, whose gradient is :math:`\theta - \phi`; average it over the tasks.
    """
    terms = ((p - adapted[n].detach()).square().sum() for n, p in parameters.items())
    return cast(Tensor, sum(terms)) / 2
