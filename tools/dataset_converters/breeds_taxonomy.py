"""Writes a label tree of WordNet ids from the hierarchy files of BREEDS.

Example:
    python tools/dataset_converters/breeds_taxonomy.py data/imagenet_sample/hierarchy/modified \
        data/tiny_imagenet/train --depths 1 2 3 -o taxonomy.csv
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path


def breeds_paths(
    hierarchy: Path, classes: Sequence[str], depths: Sequence[int]
) -> dict[str, list[str]]:
    """Ancestors of classes at some depths of a hierarchy.

    Args:
        hierarchy: Folder with ``class_hierarchy.txt`` and ``node_names.txt``, gzipped or not.
        classes: WordNet ids.
        depths: Depths of the ancestors, from the root (0).

    Returns:
        Names of the ancestors of each class, the nearest first. A class that the hierarchy does not
        have has none; nodes that stand for no word (``dummy``) are left out.
    """
    from hyper_mm.datasets.breeds import ancestors_at, node_names, unique_names

    levels = [ancestors_at(hierarchy, depth) for depth in sorted(depths, reverse=True)]
    nodes = sorted({level[c] for level in levels for c in classes if c in level})
    names = dict(zip(nodes, unique_names(nodes, node_names(hierarchy))))
    return {
        c: [
            names[level[c]]
            for level in levels
            if c in level and level[c] != c and not names[level[c]].startswith('dummy')
        ]
        for c in classes
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('hierarchy', type=Path)
    parser.add_argument('images', type=Path, help='folder of one folder a class, called by its id')
    parser.add_argument('--depths', type=int, nargs='+', default=[1, 2, 3])
    parser.add_argument('-o', '--out', type=Path, required=True)
    args = parser.parse_args(argv)
    from hyper_mm.datasets.image_folders import class_folders
    from hyper_mm.layers.taxonomy import Taxonomy

    paths = breeds_paths(args.hierarchy, [f.name for f in class_folders(args.images)], args.depths)
    taxonomy = Taxonomy(paths, str(args.out))
    with args.out.open('w', newline='', encoding='utf-8') as file:
        csv.writer(file, lineterminator='\n').writerows([c, *above] for c, above in paths.items())
    print(taxonomy)


if __name__ == '__main__':
    main()
