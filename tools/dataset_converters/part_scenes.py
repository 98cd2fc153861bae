r"""Draw the PartScenes data set and write it in ADE20K, COCO and ImageNet layouts.

Example:
    python tools/dataset_converters/part_scenes.py data/part_scenes --formats ade coco imagenet \
        --num-train 200 --num-val 50 --size 128 128 --seed 0
"""

from __future__ import annotations

import argparse


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('out_dir', help='folder to write to; each format gets a folder of its own in it')
    add(
        '--formats',
        nargs='+',
        choices=('ade', 'coco', 'imagenet'),
        default=['ade'],
        help='ade: images, annotations (parts, 0 = void), annotations_wholes and scenes; coco: '
        'instances, panoptic and captions of the same images; imagenet: one thing in each image, '
        'a folder for each class (default: ade)',
    )
    add('--num-train', type=int, default=200, help='training images of each format (default: 200)')
    add('--num-val', type=int, default=50, help='validation images of each format (default: 50)')
    add(
        '--size',
        type=int,
        nargs=2,
        default=[128, 128],
        metavar=('HEIGHT', 'WIDTH'),
        help='size in pixels, each at least 32 (default: 128 128)',
    )
    add('--seed', type=int, default=0, help='seed of the data set (default: 0)')
    add('--overwrite', action='store_true', help='replace a set that is there already')
    add('--quiet', action='store_true', help='show no progress bars')
    return parser


def main() -> None:
    """Write the data set that the command line asks for."""
    parser = build_parser()
    args = parser.parse_args()
    from hyper_mm.datasets.part_scenes import generate

    try:
        folders = generate(
            args.out_dir,
            formats=args.formats,
            num_train=args.num_train,
            num_val=args.num_val,
            size=tuple(args.size),
            seed=args.seed,
            overwrite=args.overwrite,
            progress=not args.quiet,
        )
    except (ValueError, FileExistsError) as error:
        parser.error(str(error))
    for name, folder in folders.items():
        print(f'{name}: {folder}')


if __name__ == '__main__':
    main()
