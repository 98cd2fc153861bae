r"""Draw the visual hierarchy that a trained model finds in images.

Works with any model of mmsegmentation, mmdetection or mmpretrain that has Hi-Mapper in it.

Example:
    python tools/visualize_hierarchy.py configs/himapper_deit-s_ade20k.py iter_160000.pth \
        street.jpg data/ade/ADEChallengeData2016/images/validation --out-dir work_dirs/hierarchy

With --html it also writes hierarchies.html, one page on which the trees of all these images can be
walked through: point at a node, or use the arrow keys. The page needs no network.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from options import add_config_options, default_device

if TYPE_CHECKING:
    import numpy as np
    from mmengine.dataset import Compose
    from torch import nn

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the model')
    add('checkpoint', help='its weights')
    add('images', nargs='+', help='images, or folders of images')
    add('--out-dir', default='work_dirs/hierarchy', help='where to write (default: %(default)s)')
    add('--device', help='cpu, cuda:0, ... (default: cuda where there is a GPU, cpu elsewhere)')
    add('--html', action='store_true', help='also write a page to walk through: hierarchies.html')
    add('--max-images', type=int, help='draw at most so many (default: all)')
    add_config_options(parser, 'overrides of the config, key=value')
    return parser


def find_images(paths: Iterable[str | os.PathLike], limit: int | None = None) -> list[Path]:
    """Lists images.

    Args:
        paths: Images, or folders of images (not searched recursively, without hidden files).
        limit: Most images to return.

    Returns:
        Images, those of a folder by name.

    Raises:
        FileNotFoundError: If a path does not exist, or there is no image at all.
        ValueError: If `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise ValueError(f'max_images must be at least 1, got {limit}')
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(
                p
                for p in path.iterdir()
                if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith('.')
            )
        elif path.is_file():
            found.append(path)
        else:
            raise FileNotFoundError(f'no image or folder {path}')
    if not found:
        raise FileNotFoundError(f'no image in {", ".join(map(str, paths))}')
    return found[:limit]


def picture_files(images: Sequence[Path], folder: Path) -> list[Path]:
    """Files of the pictures of images; those of images of one name are numbered.

    Args:
        images: The images.
        folder: Folder of the pictures.
    """
    found: dict[Path, None] = {}
    for image in images:
        names = (image.stem, *(f'{image.stem}_{number}' for number in range(2, len(images) + 1)))
        files = (folder / f'{name}_hierarchy.png' for name in names)
        found[next(file for file in files if file not in found)] = None
    return [*found]


def write_picture(file: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture.

    Raises:
        OSError: If it cannot be written, of which OpenCV says nothing.
    """
    import cv2

    if not cv2.imwrite(str(file), picture[..., ::-1]):
        raise OSError(f'could not write {file}')


def load_model(
    config: str, checkpoint: str, device: str = 'cpu', cfg_options: dict | None = None
) -> tuple[nn.Module, Compose, dict]:
    """Builds a model with its weights, and the test pipeline without annotations.

    Args:
        config: Config file.
        checkpoint: Checkpoint file.
        device: Where to run.
        cfg_options: Overrides of the config.

    Returns:
        The model in evaluation mode, its pipeline, and `classes` and `palette` of its data set.

    Raises:
        ValueError: If the config has no test pipeline.
    """
    from mmengine.config import Config
    from mmengine.dataset import Compose
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.runner import load_checkpoint

    import hyper_mm  # noqa: F401  (reads mmengine's checkpoints on torch >= 2.6)

    cfg = Config.fromfile(config)
    cfg.merge_from_dict(cfg_options or {})
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    while 'pipeline' not in dataset and 'dataset' in dataset:
        dataset = dataset['dataset']
    if 'pipeline' not in dataset:
        raise ValueError(f'{config} has no test_dataloader.dataset.pipeline')
    steps = [step for step in dataset['pipeline'] if 'Annotations' not in step['type']]
    model = MODELS.build(cfg.model)
    meta = load_checkpoint(model, checkpoint, map_location='cpu').get('meta', {})
    return model.to(device).eval(), Compose(steps), meta.get('dataset_meta') or {}


def hierarchy_of(model: nn.Module, pipeline: Compose, path: str | os.PathLike) -> dict:
    """Runs a model on an image and reads the hierarchy.

    Args:
        model: Model with a :class:`hyper_mm.layers.HierarchyMapper`.
        pipeline: Test pipeline.
        path: The image.

    Returns:
        Arguments of :func:`hyper_mm.visualization.draw_hierarchy`, but for the names of classes.
    """
    from mmengine.dataset import pseudo_collate

    from hyper_mm.visualization import read_hierarchies

    data = pipeline(dict(img_path=str(path), img_id=0))
    drawings, _ = read_hierarchies(model, pseudo_collate([data]))
    return drawings[0]


def main(argv: list[str] | None = None) -> int:
    """Draw the images that the command line asks for."""
    parser = build_parser()
    args = parser.parse_args(argv)
    from hyper_mm.visualization import (
        attention_summary,
        draw_hierarchy,
        find_mapper,
        hierarchy_page,
    )

    try:
        images = find_images(args.images, args.max_images)
        model, pipeline, meta = load_model(
            args.config, args.checkpoint, args.device or default_device(), args.cfg_options
        )
        find_mapper(model)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    out_dir = Path(args.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    names = {'classes': meta.get('classes', ()), 'palette': meta.get('palette')}
    drawings = []
    for path, target in zip(images, picture_files(images, out_dir)):
        drawing = hierarchy_of(model, pipeline, path)
        drawings.append(drawing)
        picture = draw_hierarchy(**drawing, **names, title=path.name)
        write_picture(target, picture)
        summary = attention_summary(drawing['attention'], drawing['assigned'])[::-1]
        distinct = ' '.join(f'{s.distinctness:.2f}' for s in summary)
        visible = ' '.join(f'{s.visible}/{len(s.shares)}' for s in summary)
        spread = ' '.join(f'{s.spread:.2f}' for s in summary)
        print(
            f'{target}  top to leaves: visible nodes {visible}, distinctness {distinct}, '
            f'spread {spread}'
        )
    if args.html:
        page = out_dir / 'hierarchies.html'
        page.write_text(hierarchy_page(drawings, [path.name for path in images]), encoding='utf-8')
        print(page)
    return 0


if __name__ == '__main__':
    sys.exit(main())
