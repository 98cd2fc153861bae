"""What hyperbolic classifiers share: features become tangent vectors at the origin, then points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_count, check_positive, check_range
from ...ops.inputs import is_readable
from ...ops.logits import Points, clipped_points
from ...ops.stable import large_norm, safe_norm
from ..common.curvature import Curvature, LogParameter, curvature_options

INITS = ('random', 'from_linear')
FLAT_SCALE = 0.01
"""Scale of features at which a space of curvature -1 is nearly flat."""

NEAR = 8.0
"""Scaled radius up to which float32 products have five digits of a logit."""


def clip_features(x: Tensor, radius: float | Tensor) -> Tensor:
    r"""Shortens vectors to a length, :math:`\min(1, r / \lVert x \rVert)\, x`.

    Args:
        x: Vectors ``(..., d)``.
        radius: Largest length, positive: a number, or a tensor that broadcasts with ``(..., 1)``.

    Returns:
        Vectors ``(..., d)``; those that are not longer are unchanged.

    Raises:
        ValueError: If ``radius`` is not positive; of a tensor, where its values can be read at once
            (on a processor, in eager code).

    Source: Guo et al., Clipped Hyperbolic Classifiers Are Super-Hyperbolic Classifiers (CVPR 2022).
    """
    if not isinstance(radius, Tensor):
        check_positive(radius=radius)
    elif is_readable(radius):
        check_positive(radius=radius.detach().min().item())
    norm = large_norm(x, keepdim=True)
    far = norm > radius
    return x * torch.where(far, radius / torch.where(far, norm, 1), 1)


def check_width(x: Tensor, width: int, name: str = 'features') -> None:
    """Refuses vectors of another width than that of a layer.

    Args:
        x: Vectors ``(..., d)``.
        width: What ``d`` must be.
        name: What messages call the vectors.

    Raises:
        TypeError: If they are not of a floating point type.
        ValueError: If the last dimension is another one, or there is none.
    """
    if not x.is_floating_point():
        raise TypeError(f'{name} must be of a floating point type, got {x.dtype}')
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(f'{name} must be of shape (..., {width}), got {tuple(x.shape)}')


class Classifier(nn.Module):
    r"""Features to logits by way of a space of constant curvature; base class.

    Features are multiplied by a matrix (where ``embed_dims`` is given) and by a positive number,
    and are then tangent vectors at the origin, in the coordinates of the model.

    Args:
        in_features: Width of the features.
        num_classes: Number of classes.
        embed_dims: Dimension of the space; that of the features, and no matrix, if None.
        curvature: Initial ``c``, or arguments of :class:`hyper_mm.layers.Curvature`.
        max_radius: Largest scaled distance from the origin ``sqrt(c) d(0, x)``; points further out
            are brought to it along their ray (feature clipping). Guo et al.'s ``r = 1`` in the ball
            is 2 here. If None, and at most, :attr:`farthest`; without curvature there is no limit.
        scale: Initial factor of the features; ``embed_dims ** -0.5`` if None, or 0.01 with
            ``init='from_linear'``, and half of that in the ball, where coordinates count double.
        learn_scale: Train the factor.
        init: ``'random'``, or ``'from_linear'``: weights of a linear classifier, with a ``bias`` or
            without, are accepted on load and taken over (:meth:`adopt_linear`).
        logit_scale: Initial value of a trained factor of the logits; none if None. ``max_radius``
            limits logits, too, to the order of that radius times the weights, which grow slowly:
            with a factor they become as sharp as those of a linear classifier.

    Raises:
        ValueError: For numbers outside their range, or ``init='from_linear'`` with ``embed_dims``
            or ``max_radius``, with which no linear classifier can be taken over; in
            :meth:`forward`, for features of another width.
    """

    unit_radius = 1.0
    """Distance from the origin of the tangent vector of length 1, in the model's coordinates."""

    farthest = 80.0
    """Largest scaled distance of a point from the origin: coordinates overflow in float32 at 88."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        embed_dims: int | None = None,
        curvature: float | Mapping[str, Any] | None = None,
        max_radius: float | None = None,
        scale: float | None = None,
        learn_scale: bool = True,
        init: str = 'random',
        logit_scale: float | None = None,
    ):
        super().__init__()
        check_count(1, in_features=in_features, num_classes=num_classes)
        check_choice(INITS, init=init)
        if embed_dims is not None:
            check_count(1, embed_dims=embed_dims)
        if max_radius is not None:
            check_positive(max_radius=max_radius)
            if self.unit_radius:
                check_range(f'(0, {self.farthest:g}]', max_radius=max_radius)
        if init == 'from_linear' and (embed_dims is not None or max_radius is not None):
            raise ValueError(
                "init='from_linear' takes over a classifier of the features as they are: "
                f'embed_dims and max_radius must be None, got {embed_dims} and {max_radius}'
            )
        self.in_features, self.num_classes, self.init = in_features, num_classes, init
        self.dim = in_features if embed_dims is None else embed_dims
        self.max_radius = max_radius
        self.proj: nn.Module = nn.Identity()
        if embed_dims is not None:
            self.proj = nn.Linear(in_features, embed_dims, bias=False)
        if scale is None:
            scale = FLAT_SCALE if init == 'from_linear' else self.dim**-0.5
            scale /= self.unit_radius or 1.0
        self.scale = LogParameter(scale, (1e-6, 1e3), learn_scale, name='scale')
        self.logit_scale: LogParameter | None = None
        if logit_scale is not None:
            self.logit_scale = LogParameter(logit_scale, (1e-4, 1e4), name='logit_scale')
        self.curvature: Curvature | None = None
        if self.unit_radius:
            self.curvature = Curvature(**curvature_options(curvature))

    def c(self) -> Tensor | float:
        """Returns the curvature ``c``: a number where that costs nothing, or a tensor ``()``."""
        assert self.curvature is not None
        return self.curvature.constant()

    def scaled(self, weight: Tensor) -> Tensor:
        """Weights times the factor of the logits: cheaper than the logits themselves."""
        return weight if self.logit_scale is None else weight * self.logit_scale()

    @property
    def _limit(self) -> float | None:
        """Largest scaled distance of a point from the origin; None for none."""
        if self.max_radius is None and self.unit_radius:
            return self.farthest
        return self.max_radius

    def _projected(self, x: Tensor) -> Tensor:
        check_width(x, self.in_features)
        return self.proj(x)

    def tangent(self, x: Tensor, c: Tensor | float) -> Tensor:
        """Tangent vectors at the origin ``(..., d)`` of features ``(..., in_features)``."""
        u = self._projected(x)
        u = (u if u.dtype == torch.float64 else u.float()) * self.scale()
        if self._limit is None:
            return u
        return clip_features(u, self._limit / (c**0.5 * (self.unit_radius or 1.0)))

    def points(self, x: Tensor, c: Tensor | float) -> Points:
        """Points ``(..., d)`` of features ``(..., in_features)``, for :mod:`hyper_mm.ops.logits`.

        Products with them are computed in float64 unless ``max_radius`` is at most 8.
        """
        factor = self.unit_radius * self.scale()
        wide = self.max_radius is None or self.max_radius > NEAR
        return clipped_points(self._projected(x), factor, c, self._limit, wide)

    def radius(self, x: Tensor) -> Tensor:
        """Distances of the embeddings from the origin: small where the classifier is uncertain.

        Args:
            x: Features ``(..., in_features)``.

        Returns:
            Distances ``(...)``.
        """
        c = self.c() if self.curvature is not None else 1.0
        return (self.unit_radius or 1.0) * safe_norm(self.tangent(x, c))

    def adopt_linear(self, weight: Tensor, bias: Tensor | None) -> None:
        """Takes over a linear classifier.

        Near the origin the space is flat, and the logits are those of the linear classifier up to a
        relative error of the order of ``c (scale |x|)^2``.

        Args:
            weight: ``(num_classes, in_features)``, with further dimensions of size 1 or not.
            bias: ``(num_classes,)``; zeros if None.

        Raises:
            ValueError: If shapes do not fit, the features are not taken as they are, or a class has
                a bias and no weight, which no hyperplane has.
        """
        weight = weight.detach().flatten(1)
        if bias is None:
            bias = weight.new_zeros(len(weight))
        expected = (self.num_classes, self.in_features)
        if tuple(weight.shape) != expected or tuple(bias.shape) != expected[:1]:
            raise ValueError(
                f'weight and bias must be of shape {expected} and {expected[:1]}, got '
                f'{tuple(weight.shape)} and {tuple(bias.shape)}'
            )
        if not isinstance(self.proj, nn.Identity) or self.max_radius is not None:
            raise ValueError(
                'a linear classifier can be taken over only with embed_dims=None and '
                'max_radius=None'
            )
        empty = (weight == 0).all(1) & (bias != 0)
        if empty.any():
            raise ValueError(
                f'classes {empty.nonzero().flatten().tolist()} have a bias and no weight: no '
                'hyperplane is at a finite distance'
            )
        with torch.no_grad():
            factor = 1.0 if self.logit_scale is None else self.logit_scale()
            self._adopt(weight / (self.scale() * factor), bias.detach() / factor)

    def _adopt(self, weight: Tensor, bias: Tensor) -> None:
        """Takes over a linear classifier of tangent vectors."""
        raise NotImplementedError

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, metadata: dict, strict: bool, missing_keys: list,
        unexpected_keys: list, error_msgs: list,
    ) -> None:  # fmt: skip
        weight, bias = f'{prefix}weight', f'{prefix}bias'
        # a linear classifier has a bias or nothing beside its weight
        own = (f'{prefix}{key}' for key in self.state_dict() if key != 'weight')
        linear = bias in state_dict or not any(key in state_dict for key in own)
        if self.init == 'from_linear' and weight in state_dict and linear:
            try:
                self.adopt_linear(state_dict[weight], state_dict.get(bias))
            except ValueError as error:
                error_msgs.append(f'{prefix}: {error}')
                return
            for key in (weight, bias):
                state_dict.pop(key, None)
            state_dict.update(self.state_dict(prefix=prefix))
        super()._load_from_state_dict(
            state_dict, prefix, metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self) -> str:
        return f'{self.in_features}, {self.num_classes}, dim={self.dim}, init={self.init!r}'


def random_weight(num_classes: int, dim: int) -> nn.Parameter:
    """Weights of the usual linear layer."""
    bound = dim**-0.5
    return nn.Parameter(torch.empty(num_classes, dim).uniform_(-bound, bound))
