"""Draws hyperbolic radii of real text and pixel features, and how a HyperCLIP block scales them.

    python tools/analysis_tools/radius_figure.py --data data/coco133_sem

Theorem 1 of the HyperCLIP paper says that the radius of an embedding grows with the scaling matrix
S of the Möbius product. By ``S ⊗ exp0(z) = exp0(S z)`` that radius is ``2 |S z|`` in every
curvature, up to the largest one that the ball can hold. The features are those of LiteCLIP: names
of classes in a template, and positions of validation images.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 1e-3
"""How far from the boundary the official code keeps points, relative to its distance."""


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    base = Path(os.environ.get('HYPER_MM_DATA', 'data'))
    add('--data', type=Path, default=base / 'coco133_sem', help='folder of the images and names')
    add('--images', type=int, default=40, help='validation images, the first ones')
    add('--model', default='lite-clip-b0', help='lite-clip-b0 or lite-clip-b2')
    add('--out', type=Path, default=Path('docs/images/hyperclip_radius.png'))
    args = parser.parse_args(arguments)
    if args.images < 1:
        parser.error(f'--images must be at least 1, got {args.images}')
    return args


def features(data: Path, count: int, model: str) -> dict[str, Tensor]:
    """Embeddings ``(N, D)`` of names and of positions of images, as the towers give them.

    Raises:
        FileNotFoundError: If there are no images.
    """
    import torch
    from PIL import Image

    from hyper_mm.layers.open_vocab import DenseCNN
    from hyper_mm.models.utils.lite_clip import lite_clip

    files = sorted((data / 'img_dir' / 'val').glob('*.jpg'))[:count]
    if not files:
        raise FileNotFoundError(f'{data / "img_dir" / "val"} has no .jpg files')
    names = [
        c['name']
        for c in json.loads((data / 'classes.json').read_text(encoding='utf-8'))['categories']
    ]
    clip, preprocess, tokenizer = lite_clip(model)
    dense = DenseCNN(clip.visual).eval()
    with torch.no_grad():
        texts = clip.encode_text(tokenizer([f'a photo of a {name}.' for name in names]))
        maps = [dense(preprocess(Image.open(file))[None]) for file in files]
    pixels = torch.cat([m.features.flatten(2).squeeze(0).T for m in maps])
    return dict(names=texts, pixels=pixels)


def scaled_radii(z: Tensor, scales: np.ndarray, c: float) -> list[float]:
    """Mean radii of ``S ⊗ exp0(z)`` with ``S = s I``, computed in the ball.

    Points are kept inside it as the official code keeps them.

    Args:
        z: Embeddings ``(N, D)``.
        scales: The numbers ``s``.
        c: Curvature.
    """
    from hyper_mm.ops import poincare

    points = poincare.project(poincare.expmap0(z.double(), c), c, MARGIN)
    products = (poincare.mobius_scalar(float(s), points, c) for s in scales)
    return [poincare.radius(poincare.project(p, c, MARGIN), c).mean().item() for p in products]


def largest_radius(c: float) -> float:
    """The largest radius inside the margin."""
    return 2 * float(np.arctanh(1 - MARGIN)) / c**0.5


def draw(embeddings: dict[str, Tensor], path: Path) -> None:
    """Writes the figure.

    Args:
        embeddings: Embeddings ``(N, D)`` by what they are of.
        path: Where to.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), dpi=120, layout='constrained')
    left, right = figure.subplots(1, 2)
    scales = np.geomspace(0.1, 10, 25)
    every = np.concatenate([2 * z.norm(dim=-1).numpy() for z in embeddings.values()])
    bins = np.geomspace(every.min(), every.max(), 60)
    for color, (name, z) in zip(('tab:blue', 'tab:orange'), embeddings.items()):
        radii = 2 * z.norm(dim=-1).numpy()
        share = np.full(len(radii), 1 / len(radii))
        left.hist(radii, bins, weights=share, alpha=0.6, color=color, label=name)
        right.plot(scales, scales * radii.mean(), ':', color=color, label=f'{name}, 2 |S z|')
        for c, style in ((0.01, '-'), (1.0, '--')):
            label = f'{name}, S ⊗ exp0(z), c = {c:g}'
            right.plot(scales, scaled_radii(z, scales, c), style, color=color, label=label)
    left.axvline(largest_radius(1.0), color='gray', lw=1, label='largest at c = 1')
    left.set(xscale='log', xlabel='hyperbolic radius 2 |z|', ylabel='share of the embeddings')
    left.set_title('LiteCLIP, not adapted')
    right.set(xscale='log', yscale='log', xlabel='s, with S = s I', ylabel='mean radius')
    right.set_title('radius after the Möbius product')
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    args = parse_args(arguments)
    embeddings = features(args.data, args.images, args.model)
    for name, z in embeddings.items():
        radii = 2 * z.norm(dim=-1)
        beyond = (radii > largest_radius(1.0)).double().mean().item()
        print(
            f'{name}: {len(z)}, radius {radii.mean():.2f} ({radii.min():.2f} to '
            f'{radii.max():.2f}), {100 * beyond:.0f} % beyond the largest one at c = 1'
        )
    draw(embeddings, args.out)


if __name__ == '__main__':
    main()
