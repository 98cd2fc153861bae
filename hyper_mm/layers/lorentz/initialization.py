"""Initialization of the linear maps between hyperboloids, of language and vision alike."""

from __future__ import annotations

import math

from torch import nn

from ...checks import check_range
from .attention import HeadMerge
from .linear import LorentzLinear
from .mice import MiCE


def initialize_maps(module: nn.Module, std: float | None) -> None:
    r"""Draws the weights of all linear maps in a module from a normal distribution.

    Behind an RMSNorm the time of a point is about as large as all of its space components together,
    :math:`\sqrt d`, and equal for all tokens. With xavier's weights and a gain of sqrt(2), the
    official initialization, the column of the time is a bias as large as all the rest: attention is
    peaked, and two tokens leave the stack nearly parallel. Small weights avoid both.

    Args:
        module: Any module; :class:`LorentzLinear`, :class:`HeadMerge` and the experts of
            :class:`MiCE` in it are meant. Biases stay 0, and gates of experts as they are.
        std: Standard deviation; None: nothing is done.

    Raises:
        ValueError: If ``std`` is not positive.
    """
    if std is None:
        return
    check_range('(0, inf)', std=std)
    for part in module.modules():
        if isinstance(part, (LorentzLinear, HeadMerge)):
            nn.init.normal_(part.weight, std=std)
        elif isinstance(part, MiCE):
            for weight in (part.w1, part.w2, part.w3):
                nn.init.normal_(weight, std=std)


def gain_of(embed_dims: int, std: float | None, curvature: float, distance: float) -> float:
    r"""Factor between a table of deviation ``std`` and points at a distance from the origin.

    .. math:: g = \frac{\sinh(\sqrt c\, r)}{\sqrt c\; \sigma \sqrt d}

    Adam moves every number by about its learning rate. Stored small and multiplied by a fixed gain,
    a point moves as far beside its own length as the vectors of a Euclidean table do.

    Args:
        embed_dims: Space dimensions ``d``.
        std: Standard deviation of the stored numbers; None: 1 is returned.
        curvature: Curvature ``c``.
        distance: Distance ``r`` of the points.

    Returns:
        The factor.
    """
    if std is None:
        return 1.0
    root = curvature**0.5
    return math.sinh(root * distance) / (root * std * embed_dims**0.5)
