"""Classification by learned prototypes: logits fall with the distance to a point a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_positive
from ...ops import lorentz
from ..common.curvature import LogParameter
from .classifier import Classifier, clip_features

POWERS = (1, 2)


class HyperbolicPrototypes(Classifier):
    r"""Logits from the distances to learned prototypes.

    .. math:: \ell_k(x) = -\frac{d(x, p_k)^n}{\tau}

    A prototype is stored as a tangent vector at the origin, so that any value is a point; distances
    of vectors keep their digits at any radius (:func:`hyper_mm.ops.lorentz.dist_tangent0`).
    Features and prototypes are clipped at the scaled radius 40, or less (``max_radius``). With
    ``power=2``, for ``c -> 0``, it is the classifier by Gaussians of one variance.

    Args:
        *args: Arguments of :class:`hyper_mm.layers.hyperbolic.classifier.Classifier`.
        power: ``n``, 1 or 2.
        tau: Initial temperature of the logits, trained.
        spread: Standard deviation of each number of the initial prototypes, over ``sqrt(dim)``.
        **kwargs: As above; ``init='from_linear'`` and ``logit_scale`` are refused.

    Raises:
        ValueError: For numbers outside their range.

    Source: Khrulkov et al., Hyperbolic Image Embeddings (CVPR 2020), there with means of a support
    set in place of learned points.
    """

    farthest = 40.0  # of features and of prototypes: their distances overflow in float32 at 88

    def __init__(
        self, *args, power: int = 2, tau: float = 1.0, spread: float = 1.0, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        check_choice(POWERS, power=power)
        check_positive(tau=tau, spread=spread)
        if self.logit_scale is not None:
            raise ValueError('logit_scale is 1 / tau here: give tau')
        if self.init == 'from_linear':
            raise ValueError("init='from_linear' needs hyperplanes, and prototypes are points")
        self.power = power
        self.prototype = nn.Parameter(
            torch.randn(self.num_classes, self.dim) * (spread * self.dim**-0.5)
        )
        self.tau = LogParameter(tau, (1e-4, 1e4), name='tau')

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(..., num_classes)`` of features ``(..., in_features)``."""
        c = self.c()
        u = self.tangent(x, c)
        rows = u.reshape(-1, self.dim)
        prototype = clip_features(self.prototype.to(rows.dtype), self.farthest / c**0.5)
        distance = lorentz.pairwise_dist_tangent0(rows, prototype, c)
        if self.power == 2:
            distance = distance.square()
        return (-distance / self.tau()).view(*x.shape[:-1], self.num_classes)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, power={self.power}'
