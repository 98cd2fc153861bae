"""Multinomial logistic regression: logits are signed distances to a hyperplane a class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...checks import check_choice
from ...ops import logits, lorentz
from ...ops.stable import safe_norm, unit
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
        points = self.points(x, c)
        return logits.lorentz_logits(points, self.scaled(self.weight), self.offset, c)

    def _adopt(self, weight: Tensor, bias: Tensor) -> None:
        self.weight.copy_(weight)
        self.offset.copy_(_offsets(weight.norm(dim=1), bias))


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
        points = self.points(x, c)
        if self.form == 'unidirectional':
            return logits.lorentz_logits(points, weight, self.offset, c)
        through = lorentz.expmap0(2 * self.point, c)
        return logits.lorentz_gyroplane_logits(points, through, weight, c)

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
