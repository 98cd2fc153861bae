"""Segment an image by names that you type, without training and without network.

LiteCLIP (`pip install 'hyper_mm[lite]'`, or `make env`) scores every position of the image against
every name as it is. A name may have synonyms behind it, separated by commas. Without an image it
takes a photograph that comes with scikit-learn.

Example:
    python tools/segment_by_name.py photo.jpg sky 'car, automobile' road tree
    python tools/segment_by_name.py photo.jpg dog grass --model lite-clip-b0 --out dog.png
    python tools/segment_by_name.py --sample
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SAMPLE = 'datasets/images/china.jpg'
SAMPLE_NAMES = ('sky', 'palace, temple', 'tree')
STRIDE = 32


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('image', nargs='?', help='image file')
    add('names', nargs='*', help='names, at least two')
    add('--sample', action='store_true', help='a photograph of scikit-learn, with names of its own')
    add('--model', default='lite-clip-b2', help='lite-clip-b2 or lite-clip-b0')
    add('--side', type=int, default=736, help='longer side that the model sees, in pixels')
    add('--background', type=float, help='pixels whose best probability is less stay unnamed')
    add('--scale', type=float, default=100.0, help='inverse temperature (default: %(default)s)')
    add('--out', type=Path, default=Path('work_dirs/segment_by_name.png'), help='the picture')
    return parser


def sample_image() -> Path:
    """Returns the photograph (danielbuechele, CC BY 2.0) that scikit-learn carries.

    Raises:
        FileNotFoundError: If it is not installed.
    """
    spec = importlib.util.find_spec('sklearn')
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / SAMPLE
    if path is None or not path.is_file():
        raise FileNotFoundError(
            'the sample is an image of scikit-learn, which is not installed: pip install '
            'scikit-learn, or name an image of yours'
        )
    return path


def segment(
    image: np.ndarray,
    names: list[str],
    model: str = 'lite-clip-b2',
    side: int = 736,
    background: float | None = None,
    scale: float = 100.0,
) -> np.ndarray:
    """Labels of an image.

    Args:
        image: ``(H, W, 3)``, RGB of 0 to 255.
        names: Names, each with its synonyms behind it.
        model: Name of the model.
        side: Longer side that the model sees, in pixels.
        background: Pixels whose best probability is less get the label 255; None: none do.
        scale: Inverse temperature of the probabilities.

    Returns:
        ``(H, W)``: the number of the name, or 255.

    Raises:
        ValueError: For fewer than two names, or a side below the stride of the model.
    """
    import torch
    from mmengine.registry import MODELS
    from mmseg.structures import SegDataSample

    from hyper_mm.models.utils.windows import resize

    if len(names) < 2:
        raise ValueError(f'names must be at least two, got {names}')
    if side < STRIDE:
        raise ValueError(f'side must be at least {STRIDE}, got {side}')
    segmentor = MODELS.build(
        dict(
            type='hyper_mm.OpenVocabSegmentor',
            clip=dict(model=model),
            vocabulary=dict(names=names, synonyms='mean', templates='plain'),
            decode_head=dict(type='hyper_mm.TextSimilarityHead', scale=scale),
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3
            ),
            test_cfg=dict(background_threshold=background),
        )
    ).eval()
    height, width = image.shape[:2]
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    factor = side / max(height, width)
    size = (max(round(height * factor), STRIDE), max(round(width * factor), STRIDE))
    sample = SegDataSample(metainfo=dict(ori_shape=(height, width)))
    (found,) = segmentor.predict(resize(pixels, size), [sample])
    return found.pred_sem_seg.data[0].numpy()


def draw(image: np.ndarray, labels: np.ndarray, names: list[str], path: Path) -> None:
    """Writes the image, and the image under the colors of its names.

    Args:
        image: ``(H, W, 3)``, RGB.
        labels: ``(H, W)``.
        names: Names of the labels.
        path: Where to.
    """
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colors = np.array([matplotlib.colormaps['tab10'](i % 10)[:3] for i in range(len(names))])
    mixed = image / 255.0
    for label, color in enumerate(colors):
        mixed[labels == label] = 0.4 * mixed[labels == label] + 0.6 * color
    height, width = image.shape[:2]
    figure = Figure(figsize=(10, 10 * height / width / 2 + 0.5), layout='constrained')
    for axes, picture in zip(figure.subplots(1, 2), (image, mixed)):
        axes.imshow(picture)
        axes.axis('off')
    present = [i for i in range(len(names)) if (labels == i).any()]
    handles = [Patch(color=colors[i], label=names[i]) for i in present]
    figure.legend(handles=handles, loc='outside lower center', ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Segments an image and draws the result."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.sample == (args.image is not None):
        parser.error('give an image and names, or --sample')
    import numpy as np
    from PIL import Image

    from hyper_mm.models.utils.lite_clip import to_rgb

    try:
        path = sample_image() if args.sample else Path(args.image)
        names = list(SAMPLE_NAMES) if args.sample else args.names
        image = np.asarray(to_rgb(Image.open(path)))
        labels = segment(image, names, args.model, args.side, args.background, args.scale)
    except (OSError, ValueError, ImportError) as error:
        print(f'{error}', file=sys.stderr)
        return 1
    draw(image, labels, names, args.out)
    for label, name in enumerate(names):
        print(f'{name}: {100 * (labels == label).mean():.1f} % of the image')
    print(f'The picture is {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
