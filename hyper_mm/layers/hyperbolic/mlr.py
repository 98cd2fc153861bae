"""Multinomial logistic regression: logits are signed distances to a hyperplane a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice
from ...ops import hyperplanes, logits, lorentz
from ...ops.stable import Curvature, safe_norm, unit, wide_sqrt, widen
from .classifier import Classifier, random_weight

FORMS = ('unidirectional', 'gyroplane')
FACTORS = ('metric', 'coordinate')


class LorentzMLR(Classifier):
    r"""Multinomial logistic regression on the hyperboloid.

    .. math:: \ell_k(x) = \lVert w_k \rVert\, d(x, H_{w_k, o_k}) = \frac{\lVert w_k \rVert}{\sqrt c}
        \operatorname{arsinh}\!\big(\sqrt c\,(\cosh(\sqrt c\, o_k)\, \hat w_k \cdot x
        - \sinh(\sqrt c\, o_k)\, x_0)\big)

    with the hyperplane at the signed distance ``o`` from the origin along ``w``. For ``c -> 0`` it
    is the linear classifier ``w . x - |w| o``.

    Args:
        *args: Arguments of :class:`hyper_mm.layers.hyperbolic.classifier.Classifier`.
        **kwargs: As above.

    Source: Bdeir et al., Fully Hyperbolic Convolutional Neural Networks (ICLR 2024).
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight = random_weight(self.num_classes, self.dim)
        self.offset = nn.Parameter(torch.zeros(self.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(..., num_classes)`` of features ``(..., in_features)``."""
        c = self.c()
        weight = self.scaled(self.weight)
        if _is_near(self.max_radius):
            points = self.ambient(x, c)
            return logits.lorentz_logits(points, weight, self.offset, c, ambient=True)
        points = lorentz.expmap0(self.tangent(x, c), c)
        return _lorentz_logits(points, weight, self.offset, c)

    def _adopt(self, weight: Tensor, bias: Tensor) -> None:
        self.weight.copy_(weight)
        self.offset.copy_(_offsets(weight.norm(dim=1), bias))


NEAR = 8.0
"""Scaled radius up to which float32 products have five digits of a logit."""


def _is_near(max_radius: float | None) -> bool:
    return max_radius is not None and max_radius <= NEAR


def _lorentz_logits(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    c: Curvature,
) -> Tensor:
    """Logits ``(..., K)`` of points ``(..., d)`` at any radius."""
    points = x.reshape(-1, x.shape[-1])
    found = hyperplanes.lorentz_pairwise_hyperplane_dist(points, weight, offset, c)
    return (found * safe_norm(weight).to(found.dtype)).unflatten(0, x.shape[:-1])


class PoincareMLR(Classifier):
    r"""Multinomial logistic regression in the Poincare ball.

    The literature has two forms. ``'unidirectional'`` (Shimizu et al.): the hyperplane is
    orthogonal to the ray of ``w``, at the signed distance ``o``,

    .. math:: \ell_k(x) = \frac{s \lVert w_k \rVert}{\sqrt c} \operatorname{arsinh}\!\big(\lambda_x
        \sqrt c\, (\hat w_k \cdot x) \cosh(\sqrt c\, o_k) - (\lambda_x - 1)
        \sinh(\sqrt c\, o_k)\big)

    ``'gyroplane'`` (Ganea et al.): the hyperplane goes through any point ``p``, with a normal at
    ``p`` that is ``w``, transported there from the origin,

    .. math:: \ell_k(x) = \frac{s \lVert w_k \rVert}{\sqrt c} \operatorname{arsinh}
        \frac{2 \sqrt c\, \langle z, \hat w_k \rangle}{1 - c \lVert z \rVert^2},
        \qquad z = -p_k \oplus x

    The factor ``s`` in doubt is 2 with ``factor='metric'``: the length of the normal at ``p`` is
    :math:`\lambda_p \lVert a \rVert`, and transport from the origin keeps it at :math:`\lambda_0
    \lVert w \rVert = 2 \lVert w \rVert`. Both papers have it, one as :math:`\lambda_p \lVert a
    \rVert` and one as :math:`2 \lVert z \rVert`. ``factor='coordinate'`` leaves the 2 out, as code
    does that takes ``|w|`` from the Lorentz form, where coordinates are lengths: there and with
    ``'metric'`` the logits of :class:`LorentzMLR` and of the unidirectional form are the same
    function, of weights and features that are half as long in the ball.

    Args:
        *args: Arguments of :class:`hyper_mm.layers.hyperbolic.classifier.Classifier`.
        form: ``'unidirectional'`` or ``'gyroplane'``.
        factor: ``'metric'`` or ``'coordinate'``.
        **kwargs: As above.

    Raises:
        ValueError: For an unknown form or factor.

    Source: Ganea et al., Hyperbolic Neural Networks (NeurIPS 2018); Shimizu et al., Hyperbolic
    Neural Networks++ (ICLR 2021).
    """

    unit_radius = 2.0

    def __init__(self, *args, form: str = 'unidirectional', factor: str = 'metric', **kwargs):
        super().__init__(*args, **kwargs)
        check_choice(FORMS, form=form)
        check_choice(FACTORS, factor=factor)
        self.form, self.factor = form, factor
        self.weight = random_weight(self.num_classes, self.dim)
        if form == 'unidirectional':
            self.offset = nn.Parameter(torch.zeros(self.num_classes))
        else:  # tangent vectors at the origin: any value is a point
            self.point = nn.Parameter(torch.zeros(self.num_classes, self.dim))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(..., num_classes)`` of features ``(..., in_features)``."""
        c = self.c()
        # in coordinates of the hyperboloid: float32 has no points of the ball far out
        weight = self.scaled(self.weight) * (2 if self.factor == 'metric' else 1)
        flat, near = self.form == 'unidirectional', _is_near(self.max_radius)
        points = self.ambient(x, c) if near else lorentz.expmap0(2 * self.tangent(x, c), c)
        if flat and near:
            return logits.lorentz_logits(points, weight, self.offset, c, ambient=True)
        if flat:
            return _lorentz_logits(points, weight, self.offset, c)
        through = lorentz.expmap0(2 * self.point, c)
        if near:
            return logits.lorentz_gyroplane_logits(points, through, weight, c, ambient=True)
        distances = _gyroplane_dist(points, through, weight, c)
        return distances * safe_norm(weight).to(distances.dtype)

    def _adopt(self, weight: Tensor, bias: Tensor) -> None:
        factor = 2 if self.factor == 'metric' else 1
        weight = weight / (2 * factor)  # the distance has a factor of 2 over the coordinates, too
        self.weight.copy_(weight)
        offset = _offsets(factor * weight.norm(dim=1), bias)
        if self.form == 'unidirectional':
            self.offset.copy_(offset)
        else:
            self.point.copy_(offset.unsqueeze(1) / 2 * unit(weight))

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, form={self.form!r}, factor={self.factor!r}'


def _gyroplane_dist(x: Tensor, p: Tensor, a: Tensor, c: Curvature) -> Tensor:
    """:func:`hyper_mm.ops.hyperplanes.gyroplane_dist` of all pairs, of points of the hyperboloid.

    It is a Lorentzian product with the normal of the hyperplane at ``p``, the transport of ``a``.
    """
    x_wide, p = widen(x), widen(p)
    normal = lorentz.transport0(p, unit(widen(a)), c)  # (K, d), of length 1
    time = (p * normal).sum(-1) / lorentz.time(p, c)  # (K,)
    product = x_wide @ normal.mT - lorentz.time(x_wide, c, keepdim=True) * time
    root = wide_sqrt(c)
    return (torch.asinh(root * product) / root).to(x.dtype)


class EuclideanMLR(Classifier):
    r"""The flat baseline of equal size, :math:`\ell_k(x) = \lVert w_k \rVert\, (\hat w_k \cdot x
    - o_k)`, with the same projection, scale and clipping.

    Args:
        *args: Arguments of :class:`hyper_mm.layers.hyperbolic.classifier.Classifier`, of which
            ``curvature`` has no effect.
        **kwargs: As above.
    """

    unit_radius = 0.0

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.weight = random_weight(self.num_classes, self.dim)
        self.offset = nn.Parameter(torch.zeros(self.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits ``(..., num_classes)`` of features ``(..., in_features)``."""
        u = self.tangent(x, 1.0)
        with torch.autocast(x.device.type, enabled=False):
            weight = self.scaled(self.weight)
            return F.linear(u, weight.to(u), -(safe_norm(weight) * self.offset).to(u))

    def _adopt(self, weight: Tensor, bias: Tensor) -> None:
        self.weight.copy_(weight)
        self.offset.copy_(_offsets(weight.norm(dim=1), bias))


def _offsets(length: Tensor, bias: Tensor) -> Tensor:
    """Distances of hyperplanes from the origin; 0 for classes without a weight."""
    return torch.where(length > 0, -bias / torch.where(length > 0, length, 1), 0)
