r"""Write CoOp's split file of ImageNet images under the superclasses of a BREEDS hierarchy.

Example:
    python tools/dataset_converters/breeds_split.py data/imagenet_sample data/imagenet_coarse.json

`hyper_mm.CoOpFewShotDataset(name='folders', data_root='data/imagenet_sample',
split_json='data/imagenet_coarse.json')` reads it. Of each superclass half of the images are for
training, a fifth for validation, the rest for tests; with 32 images there are 16 shots.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def convert(data_root: str | Path, out: str | Path, depth: int = 3, min_images: int = 32) -> dict:
    """Writes the split file.

    Args:
        data_root: Folder of ``images`` and ``hierarchy/modified``; see
            :class:`hyper_mm.BreedsDataset`.
        out: File to write.
        depth: Depth of the superclasses.
        min_images: Least images of a superclass.

    Returns:
        Number of images of each split, and ``classes``, their names.

    Raises:
        ValueError: If the hierarchy has fewer than two such superclasses.
        FileNotFoundError: If a folder or file is missing.
    """
    from hyper_mm.datasets.breeds import BreedsDataset
    from hyper_mm.datasets.few_shot import split_items

    found = BreedsDataset(
        str(data_root), depth=depth, min_images=min_images, split='all', pipeline=[]
    )
    names = found.metainfo['classes']
    items = [found.get_data_info(i) for i in range(len(found))]
    parts = split_items(
        (
            Path(item['img_path']).relative_to(data_root).as_posix(),
            item['gt_label'],
            names[item['gt_label']],
        )
        for item in items
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(parts), encoding='utf-8')
    return {split: len(part) for split, part in parts.items()} | {'classes': names}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('data_root', type=Path, help='folder of the images and the hierarchy')
    parser.add_argument('out', type=Path, help='split file to write')
    parser.add_argument('--depth', type=int, default=3)
    parser.add_argument('--min-images', type=int, default=32)
    args = parser.parse_args()
    try:
        found = convert(args.data_root, args.out, args.depth, args.min_images)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    counts = ', '.join(f'{found[split]} {split}' for split in ('train', 'val', 'test'))
    print(f'{counts} images of {", ".join(found["classes"])} in {args.out}')


if __name__ == '__main__':
    main()
