"""Parameters that are ambient points, and Riemannian optimizers for them, by geoopt.

Points by their space components, and tangent vectors at the origin, need none of this: any values
are points, and any optimizer keeps them so. What differs is the metric in which a step is steepest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .checks import check_choice, check_count, check_positive
from .ops import lorentz
from .ops.coordinates import to_geoopt

if TYPE_CHECKING:
    from torch.optim import Optimizer

KINDS = ('adam', 'sgd')


def ambient_parameter(x: Tensor, c: float = 1.0) -> nn.Parameter:
    """Points as a parameter that a Riemannian optimizer moves along geodesics.

    Args:
        x: Points ``(..., d)``, by their space components.
        c: Curvature.

    Returns:
        ``geoopt.ManifoldParameter`` of ambient points ``(..., 1 + d)``, time first;
        :func:`hyper_mm.ops.lorentz.from_ambient` returns the space components, through which
        gradients flow.

    Raises:
        ModuleNotFoundError: If geoopt is not installed.
    """
    geoopt = _geoopt()
    ambient, k = to_geoopt(x.detach(), c)
    return geoopt.ManifoldParameter(ambient, manifold=geoopt.Lorentz(k))


def riemannian_optimizer(
    parameters: Iterable[Any], kind: str = 'adam', lr: float = 1e-3, **options: Any
) -> Optimizer:
    """Riemannian Adam or SGD; parameters that are no points are trained as by the plain ones.

    Args:
        parameters: Parameters, or groups of them.
        kind: ``'adam'`` or ``'sgd'``.
        lr: Learning rate.
        **options: Arguments of ``geoopt.optim.RiemannianAdam`` or ``RiemannianSGD``. ``stabilize``,
            the number of steps after which points are put back on the hyperboloid, is 10 here.

    Raises:
        ValueError: If ``kind`` is unknown or ``lr`` is not positive.
        ModuleNotFoundError: If geoopt is not installed.
    """
    check_choice(KINDS, kind=kind)
    check_positive(lr=lr)
    geoopt = _geoopt()
    made = {'adam': geoopt.optim.RiemannianAdam, 'sgd': geoopt.optim.RiemannianSGD}[kind]
    return made(parameters, lr=lr, **{'stabilize': 10, **options})


class AmbientEmbedding(nn.Module):
    """As :class:`hyper_mm.layers.HyperbolicEmbedding`, of ambient points for such optimizers.

    Args:
        num: Number of items.
        dim: Dimension of the space.
        c: Curvature.
        spread: Standard deviation of the tangent vectors of the points at initialization.

    Raises:
        ValueError: For numbers outside their range.
        ModuleNotFoundError: If geoopt is not installed.
    """

    def __init__(self, num: int, dim: int, c: float = 1.0, spread: float = 0.01):
        super().__init__()
        check_count(1, num=num, dim=dim)
        check_positive(c=c, spread=spread)
        self.c = c
        self.points = ambient_parameter(lorentz.expmap0(spread * torch.randn(num, dim), c), c)

    def forward(self, index: Tensor | None = None) -> Tensor:
        """Returns points ``(..., dim)`` of items ``(...)``; of all items if None."""
        points = self.points if index is None else self.points[index]
        return lorentz.from_ambient(points)

    def pairwise(self) -> Tensor:
        """Distances ``(num, num)`` of all items."""
        x = self()
        return lorentz.pairwise_dist(x, x, self.c)


def _geoopt():
    try:
        import geoopt
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'ambient points and Riemannian optimizers need geoopt: pip install geoopt'
        ) from error
    return geoopt
