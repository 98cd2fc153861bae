"""Draws five pictures of hyperbolic geometry in the Poincare disk.

    python tools/analysis_tools/geometry_gallery.py --out docs/images

Geodesics, horospheres, regions of a classifier, the density of a wrapped normal distribution, and
an embedded tree; `geometry_gallery.png` holds all of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('docs/images'))
    parser.add_argument('--single', action='store_true', help='one more file a picture')
    args = parser.parse_args(arguments)
    from hyper_mm.visualization.geometry_gallery import draw_gallery

    draw_gallery(args.out, args.single)


if __name__ == '__main__':
    main()
