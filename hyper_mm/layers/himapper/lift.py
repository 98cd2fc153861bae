"""Lift of a hierarchy's nodes to the hyperboloid, with the distances between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_positive
from ...ops import entailment, lorentz
from ...ops.stable import safe_norm
from ..common.curvature import Curvature, LogParameter, curvature_options

MANIFOLDS = ('lorentz', 'euclidean')


class LorentzLift(nn.Module):
    r"""Lifts node features to the hyperboloid.

    .. math:: u = \alpha W s,\qquad h = \exp_0(u) = \frac{\sinh(\sqrt c \lVert u \rVert)}
        {\sqrt c \lVert u \rVert} u

    It returns the tangent vectors ``u``: distances are exact from them
    (:func:`hyper_mm.ops.lorentz.pairwise_dist_tangent0`) where points have already lost their
    digits. The scale ``alpha``, which the paper does not have, brings the radii at initialization
    near 0.5; without it those of ``W s`` are near 6, where all distances saturate.

    With ``radii`` the scaled radius of each node is given and its direction alone is learned,
    :math:`u = r\, W s / (\sqrt c \lVert W s \rVert)`: distances are then bounded, so that a loss
    cannot be lowered by scale, and the radius tells the depth of a node (not in the paper).

    Nodes that are points already, by their space components, are not lifted: ``u = log_0(s)``.

    Args:
        dim: Feature width d.
        hyp_dim: Width of ``W s``; no ``W`` if None, as the paper writes it.
        manifold: ``'lorentz'``, or ``'euclidean'`` to take ``u`` as flat points, without curvature.
        curvature: Initial ``c``, or arguments of :class:`hyper_mm.layers.Curvature`.
        alpha_init: Initial scale in (0, 1]; ``hyp_dim ** -0.5`` if None.
        learn_alpha: Train the scale.
        radii: Scaled radius of each node, in the order in which :meth:`forward` gets them; the
            scale is left out then, ``alpha_init``, ``learn_alpha`` and ``max_radius`` are ignored,
            and the curvature is fixed by default, as it would be a mere factor of all distances.
            Free radii if None.
        max_radius: Largest scaled radius ``sqrt(c) |u|``; longer vectors are shortened to it, and
            :meth:`forward` returns which fraction. No limit if None.
        points: Nodes are space components of points of curvature ``-c``: ``W`` and the scale are
            left out, and ``hyp_dim``, ``alpha_init`` and ``learn_alpha`` are ignored.

    Raises:
        ValueError: For an unknown manifold, or numbers outside their range.
    """

    radii: Tensor | None

    def __init__(
        self,
        dim: int,
        hyp_dim: int | None = 128,
        manifold: str = 'lorentz',
        curvature: float | dict | None = None,
        alpha_init: float | None = None,
        learn_alpha: bool = True,
        max_radius: float | None = 6.0,
        points: bool = False,
        radii: Sequence[float] | None = None,
    ):
        super().__init__()
        check_choice(MANIFOLDS, manifold=manifold)
        if points and radii is not None:
            raise ValueError('radii must be None for points=True: these have radii already')
        if points and manifold != 'lorentz':
            raise ValueError(f"points=True needs manifold='lorentz', got {manifold!r}")
        if max_radius is not None:
            check_positive(max_radius=max_radius)
        self.manifold = manifold
        self.max_radius = max_radius
        self.points = points
        if not points:
            self.proj: nn.Module = nn.Identity()
            if hyp_dim is not None:
                linear = nn.Linear(dim, hyp_dim, bias=False)
                nn.init.kaiming_uniform_(linear.weight, mode='fan_out')
                self.proj = linear
        given = None
        if radii is not None:
            for radius in radii:
                check_positive(radii=radius)
            given = torch.tensor([radii], dtype=torch.float32).mT  # (nodes, 1)
        self.register_buffer('radii', given, persistent=False)
        if radii is None and not points:
            alpha_init = (hyp_dim or dim) ** -0.5 if alpha_init is None else alpha_init
            self.alpha = LogParameter(alpha_init, (1e-6, 1.0), learn_alpha, name='alpha')
        self.curvature: Curvature | None = None
        if manifold == 'lorentz':
            fixed = {} if radii is None else dict(learnable=False)
            self.curvature = Curvature(**curvature_options(curvature, **fixed))

    def c(self) -> Tensor:
        """Returns the curvature ``c``, a 0-dimensional tensor; for ``manifold='lorentz'``."""
        assert self.curvature is not None
        return self.curvature()

    def forward(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the tangent vectors at the origin.

        Args:
            nodes: Node features ``(..., d)``; ``(..., len(radii), d)`` where radii are given.

        Returns:
            Tangent vectors ``(..., hyp_dim)`` of at least float32, and the fraction ``()`` of them
            that ``max_radius`` shortened, without gradient.
        """
        if self.points:
            u = lorentz.logmap0(nodes, self.c())
        else:
            u = self.proj(nodes)
            u = u if u.dtype == torch.float64 else u.float()
        c = self.curvature() if self.curvature is not None else 1.0
        if self.radii is not None:
            length = safe_norm(u, keepdim=True)  # (..., 1)
            away = length > 0
            scale = self.radii.to(u.dtype) / torch.where(away, length, 1) / c**0.5
            return u * torch.where(away, scale, 1), u.new_zeros(())
        if not self.points:
            u = u * self.alpha()
        if self.max_radius is None:
            return u, u.new_zeros(())
        radius = c**0.5 * safe_norm(u, keepdim=True)  # (..., 1)
        far = radius > self.max_radius
        u = u * torch.where(far, self.max_radius / torch.where(far, radius, 1), 1)
        return u, far.detach().to(u.dtype).mean()

    def pairwise_dist(self, u: Tensor, v: Tensor) -> Tensor:
        """Distances of all pairs ``(..., n, m)`` of lifted nodes."""
        if self.manifold == 'euclidean':
            return euclidean_pairwise_dist(u, v)
        return lorentz.pairwise_dist_tangent0(u, v, self.c())

    def cone_energies(self, u: Tensor, nodes: tuple[int, ...]) -> Tensor:
        """How far the nodes are outside the entailment cones of their parents.

        Args:
            u: Lifted nodes of all levels ``(B, sum(N_l), hyp_dim)``, leaves first.
            nodes: Nodes of each level.

        Returns:
            Violations ``(B, sum(N_l) - N_L)`` in radians, 0 inside the cone.
        """
        # parents (B, sum(N_l) - N_L, hyp_dim): each node's parent, in the order of the nodes
        levels = u.split(nodes, 1)
        children = torch.cat(levels[:-1], 1)
        parents = torch.cat(
            [
                above.repeat_interleave(below.shape[1] // above.shape[1], 1)
                for below, above in zip(levels, levels[1:])
            ],
            1,
        )
        if self.manifold == 'euclidean':
            angle = entailment.euclidean_exterior_angle(parents, children)
            return entailment.cone_energy(angle, entailment.euclidean_half_aperture(parents))
        c = self.c()
        parents, children = lorentz.expmap0(parents, c), lorentz.expmap0(children, c)
        angle = entailment.lorentz_exterior_angle(parents, children, c)
        return entailment.cone_energy(angle, entailment.lorentz_half_aperture(parents, c))


def euclidean_pairwise_dist(x: Tensor, y: Tensor) -> Tensor:
    """Flat distances of all pairs, with gradient 0 for coincident points.

    They are computed from differences, without cancellation, and without a tensor of the
    differences of all pairs.

    Args:
        x: Points ``(..., n, d)``.
        y: Points ``(..., m, d)``.

    Returns:
        Distances ``(..., n, m)``.
    """
    batch = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    return _Distances.apply(*(t.expand(*batch, *t.shape[-2:]).contiguous() for t in (x, y)))


class _Distances(torch.autograd.Function):
    """:func:`torch.cdist` by differences; its own gradient has no second derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(x, y, compute_mode='donot_use_mm_for_euclid_dist')

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def _directions(x: Tensor, y: Tensor) -> Tensor:
        """Unit vectors ``(..., n, m, d)`` from y to x, differentiable; 0 for coincident points."""
        offset = x.unsqueeze(-2) - y.unsqueeze(-3)
        norm = safe_norm(offset, keepdim=True)
        return offset / torch.where(norm > 0, norm, 1)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, y, distance = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated again
            part = grad.unsqueeze(-1) * _Distances._directions(x, y)
            return part.sum(-2), -part.sum(-3)
        step, flipped = torch.ops.aten._cdist_backward, (grad.mT, distance.mT)
        grad_t, distance_t = (t.contiguous() for t in flipped)
        return (
            step(grad.contiguous(), x, y, 2.0, distance),
            step(grad_t, y, x, 2.0, distance_t),
        )

    @staticmethod
    def jvp(ctx, dx: Tensor | None, dy: Tensor | None) -> Tensor:
        x, y, _ = ctx.saved_tensors
        moved = (0 if dx is None else dx.unsqueeze(-2)) - (0 if dy is None else dy.unsqueeze(-3))
        return (_Distances._directions(x, y) * moved).sum(-1)
