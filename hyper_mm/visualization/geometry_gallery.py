"""Pictures of hyperbolic geometry in the Poincare disk."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from hyper_mm.layers import HyperbolicEmbedding, LorentzMLR, ideal_prototypes
from hyper_mm.layers.hyperbolic.embedding import tree_distances
from hyper_mm.ops import busemann, lorentz, poincare, wrapped_normal

LINE = '#1f4e79'
GRID = 400


def disk(ax: Axes, title: str) -> None:
    """The boundary of the disk, without axes."""
    ax.add_patch(Circle((0, 0), 1, fill=False, color='0.3', lw=1))
    ax.set(xlim=(-1.03, 1.03), ylim=(-1.03, 1.03), aspect='equal')
    ax.axis('off')
    ax.set_title(title, fontsize=10)


def grid() -> tuple[Tensor, Tensor]:
    """Points of the disk ``(GRID, GRID, 2)`` and where they are inside of it."""
    axis = torch.linspace(-1, 1, GRID, dtype=torch.float64)
    p = torch.stack(torch.meshgrid(axis, axis, indexing='xy'), -1)
    inside = p.norm(dim=-1) < 0.995
    return torch.where(inside[..., None], p, 0), inside


def draw_geodesics(ax: Axes) -> None:
    """A regular tiling's worth of geodesics: the sides and diagonals of an octagon of points."""
    disk(ax, 'geodesics')
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    p = poincare.expmap0(1.1 * torch.stack([angle.cos(), angle.sin()], 1), 1.0)
    t = torch.linspace(0, 1, 80, dtype=torch.float64)
    for i in range(8):
        for j in range(i):
            line = poincare.geodesic(p[i, None], p[j, None], t, 1.0)
            near = min(i - j, 8 - i + j) == 1
            ax.plot(*line.T, color=LINE if near else '0.6', lw=1.6 if near else 0.7)
    ax.scatter(*p.T, color='#c0504d', s=18, zorder=3)


def draw_horospheres(ax: Axes) -> None:
    """Level sets of a Busemann function, one a unit of distance."""
    disk(ax, 'horospheres, 0.5 apart')
    p, inside = grid()
    for ideal, color in ((torch.tensor([1.0, 0.0]), LINE), (torch.tensor([-0.5, 0.87]), '#c0504d')):
        value = busemann.poincare_busemann(p, ideal.double(), 1.0)
        value = torch.where(inside, value, torch.nan)
        levels = torch.arange(-3, 2.1, 0.5)
        extent = dict(extent=(-1, 1, -1, 1), origin='lower')
        ax.contour(value, levels=levels, colors=color, linewidths=0.9, linestyles='solid', **extent)
        ax.scatter(*ideal / ideal.norm(), color=color, s=20, zorder=3, clip_on=False)


def draw_regions(ax: Axes) -> None:
    """Classes of a Lorentz classifier, fitted to clusters toward ideal directions."""
    disk(ax, 'regions of a Lorentz MLR')
    torch.manual_seed(0)
    centers = 1.6 * ideal_prototypes(6, 2)
    v = (centers[:, None] + 0.35 * torch.randn(6, 60, 2)).view(-1, 2)
    labels = torch.arange(6).repeat_interleave(60)
    model = LorentzMLR(2, 6, scale=1.0, learn_scale=False, curvature=dict(learnable=False))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(v), labels).backward()
        optimizer.step()
    p, inside = grid()
    u = lorentz.logmap0(poincare.to_lorentz(p, 1.0), 1.0).float()
    with torch.no_grad():
        found = model(u).argmax(-1).double()
    found = torch.where(inside, found, torch.nan)
    ax.imshow(found, extent=(-1, 1, -1, 1), origin='lower', cmap='Set3', vmin=0, vmax=11)
    x = lorentz.to_poincare(lorentz.expmap0(v, 1.0), 1.0)
    ax.scatter(*x.T, c=labels, cmap='Set3', vmin=0, vmax=11, s=7, edgecolors='0.3', linewidths=0.3)


def draw_wrapped_normal(ax: Axes) -> None:
    """Density, with respect to the Riemannian volume, and samples."""
    disk(ax, 'wrapped normal')
    p, inside = grid()
    mean = lorentz.expmap0(torch.tensor([0.9, 0.5], dtype=torch.float64), 1.0)
    std = torch.tensor([0.25, 0.6], dtype=torch.float64)
    density = wrapped_normal.lorentz_wrapped_log_prob(
        poincare.to_lorentz(p, 1.0), mean, std, 1.0
    ).exp()
    density = torch.where(inside, density, torch.nan)
    ax.imshow(density, extent=(-1, 1, -1, 1), origin='lower', cmap='Blues')
    x = wrapped_normal.lorentz_wrapped_sample(
        mean, std, 1.0, (250,), torch.Generator().manual_seed(0)
    )
    ax.scatter(*lorentz.to_poincare(x, 1.0).T, s=4, color='#c0504d', alpha=0.7)


def draw_tree(ax: Axes) -> None:
    """A tree of 40 nodes, embedded by its distances."""
    disk(ax, 'a tree of 40 nodes')
    torch.manual_seed(0)
    parents = torch.tensor([-1, *((i - 1) // 3 for i in range(1, 40))])
    hops = tree_distances(parents)
    model = HyperbolicEmbedding(40, 2, spread=0.1)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    rows, columns = torch.triu_indices(40, 40, 1)
    for _ in range(500):
        optimizer.zero_grad()
        error = model.pairwise()[rows, columns] / (1.2 * hops[rows, columns]) - 1
        error.square().mean().backward()
        optimizer.step()
    p = lorentz.to_poincare(lorentz.translate(-model()[0], model(), 1.0), 1.0).detach().double()
    t = torch.linspace(0, 1, 40, dtype=torch.float64)
    for node in range(1, 40):
        ax.plot(*poincare.geodesic(p[node, None], p[parents[node], None], t, 1.0).T, color=LINE)
    ax.scatter(*p.T, c=hops[0], cmap='autumn', s=22, zorder=3, edgecolors='0.3', linewidths=0.4)


DRAWINGS = {
    'geodesics': draw_geodesics,
    'horospheres': draw_horospheres,
    'mlr_regions': draw_regions,
    'wrapped_normal': draw_wrapped_normal,
    'tree': draw_tree,
}
"""The pictures by name."""


def draw_gallery(folder: Path, single: bool = False) -> None:
    """Writes ``geometry_gallery.png``, with all pictures of :data:`DRAWINGS`.

    Args:
        folder: Folder to write to; it is made.
        single: Whether to write one more file ``geometry_<name>.png`` a picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(3.1 * len(DRAWINGS), 3.4))
    for ax, draw in zip(figure.subplots(1, len(DRAWINGS)), DRAWINGS.values()):
        draw(ax)
    figure.tight_layout()
    figure.savefig(folder / 'geometry_gallery.png', dpi=90)
    for name, draw in DRAWINGS.items() if single else ():
        figure = Figure(figsize=(4, 4.3))
        draw(figure.subplots())
        figure.savefig(folder / f'geometry_{name}.png', dpi=120)
