"""ImageNet images under the superclasses of a BREEDS hierarchy."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.logging import MMLogger
from mmpretrain.datasets import BaseDataset

from hyper_mm.checks import check_choice, check_range
from hyper_mm.registry import DATASETS

from .files import read_text
from .image_folders import class_folders, images_below

SPLITS = ('train', 'val', 'all')


@DATASETS.register_module()
class BreedsDataset(BaseDataset):
    """ImageNet folders with coarse labels: the superclasses at one depth of a class hierarchy.

    The hierarchy is that of BREEDS (``hierarchy='modified'`` of their files) or of WordNet itself
    (``'wordnet'``), whose nodes may have several parents: the one nearest to the root counts, of
    two equally near ones the first by id. The root has depth 0.

    A superclass is kept where at least ``min_images`` images of both splits together lie below it.
    Images below none that is kept, as those of the 110 classes that BREEDS leaves out, are not
    used; a message counts them. Names of classes are the first synonyms of the superclasses, with
    their ids behind where two would be equal; their order is that of the ids.

    Args:
        data_root: Folder of ``hierarchy_root`` and ``data_prefix``.
        data_prefix: Folder of the images, one folder per class called by its WordNet id.
        hierarchy_root: Folder of the hierarchy's files, ``class_hierarchy.txt`` (lines ``parent
            child``) and ``node_names.txt`` (lines ``id<tab>name``), gzipped or not.
        depth: Depth of the superclasses, at least 1.
        min_images: Least images of a superclass, at least 2.
        split: ``'train'``, ``'val'`` or ``'all'``.
        val_fraction: Part of the images of each superclass that are for validation, in (0, 1).
        seed: Seed of the split, which depends on nothing but it and the names of the files.
        **kwargs: Arguments of mmpretrain's ``BaseDataset`` (``pipeline``, ``test_mode``, ...); with
            ``classes`` given, images of other superclasses are an error.

    Raises:
        ValueError: For arguments outside their range, a hierarchy that is none, a depth at which
            fewer than two superclasses have enough images, or other classes than expected.
        FileNotFoundError: If a folder or file is missing.

    Source: Santurkar et al., BREEDS: Benchmarks for Subpopulation Shift (ICLR 2021).
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str = 'images',
        hierarchy_root: str = 'hierarchy/modified',
        depth: int = 3,
        min_images: int = 20,
        split: str = 'train',
        val_fraction: float = 0.2,
        seed: int = 0,
        **kwargs,
    ):
        if depth < 1:
            raise ValueError(f'depth must be at least 1 (the root has 0), got {depth}')
        if min_images < 2:
            raise ValueError(f'min_images must be at least 2 (one per split), got {min_images}')
        check_choice(SPLITS, split=split)
        check_range('(0, 1)', val_fraction=val_fraction)
        self.hierarchy_root = Path(data_root) / hierarchy_root
        self.depth = depth
        self.min_images = min_images
        self.split = split
        self.val_fraction = val_fraction
        self.seed = seed
        super().__init__(ann_file='', data_root=data_root, data_prefix=data_prefix, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Finds the images, their superclasses, and the split.

        Returns:
            ``img_path``, ``gt_label`` and ``wnid`` (the fine class) of every image.
        """
        above = ancestors_at(self.hierarchy_root, self.depth)
        files = list(_image_files(Path(self.img_prefix)))
        counts = Counter(above.get(wnid) for wnid, _ in files)
        unused = counts.pop(None, 0)
        kept = sorted(node for node, count in counts.items() if count >= self.min_images)
        if len(kept) < 2:
            largest = max(counts.values(), default=0)
            raise ValueError(
                f'depth={self.depth} has {len(kept)} superclasses with at least min_images='
                f'{self.min_images} of the {len(files)} images in {self.img_prefix} (its largest '
                f'has {largest}), and it takes two: choose another depth or fewer min_images'
            )
        unused += sum(count for node, count in counts.items() if node not in kept)
        if unused:
            MMLogger.get_current_instance().info(
                f'{type(self).__name__}: {unused} of {len(files)} images are below none of the '
                f'{len(kept)} superclasses of depth {self.depth} with at least {self.min_images} '
                'images'
            )
        classes = unique_names(kept, node_names(self.hierarchy_root))
        if self.CLASSES is not None and tuple(self.CLASSES) != classes:
            raise ValueError(f'classes must be those that are found, {classes}, got {self.CLASSES}')
        self._metainfo['classes'] = classes
        self._metainfo['superclasses'] = tuple(kept)
        members = defaultdict(list)
        for wnid, path in files:
            members[above.get(wnid)].append((wnid, path))
        return [
            dict(img_path=str(path), gt_label=label, wnid=wnid)
            for label, node in enumerate(kept)
            for wnid, path in self._of_split(members[node])
        ]

    def _of_split(self, members: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
        if self.split == 'all':
            return members
        shuffled = sorted(members, key=lambda m: _draw(self.seed, f'{m[0]}/{m[1].name}'))
        num_val = min(max(round(self.val_fraction * len(members)), 1), len(members) - 1)
        chosen = shuffled[:num_val] if self.split == 'val' else shuffled[num_val:]
        return sorted(chosen)


def ancestors_at(hierarchy_root: str | Path, depth: int) -> dict[str, str]:
    """Finds the superclass of every class.

    Args:
        hierarchy_root: Folder with ``class_hierarchy.txt``, gzipped or not.
        depth: Depth of the superclasses.

    Returns:
        For every node below a node of that depth, or at it, that node.

    Raises:
        ValueError: If the file is not a hierarchy.
        FileNotFoundError: If there is no such file.
    """
    children, below = defaultdict(set), set()
    path = _hierarchy_file(hierarchy_root, 'class_hierarchy.txt')
    for number, line in enumerate(_lines(path), 1):
        pair = line.split()
        if len(pair) != 2:
            raise ValueError(f'{path}, line {number}: expected a parent and a child, got {line!r}')
        children[pair[0]].add(pair[1])
        below.add(pair[1])
    roots = children.keys() - below
    if not roots:
        raise ValueError(f'{path} is no hierarchy: it has no node without a parent')
    # WordNet's files hold a few fragments beside the one tree
    root = max(sorted(roots), key=lambda node: len(_reachable(children, node)))
    trail, queue = {root: ()}, deque([root])
    while queue:
        node = queue.popleft()
        for child in sorted(children.get(node, ())):
            if child not in trail:
                trail[child] = (*trail[node], child)
                queue.append(child)
    return {node: steps[depth - 1] for node, steps in trail.items() if len(steps) >= depth}


def node_names(hierarchy_root: str | Path) -> dict[str, str]:
    """Reads the first synonym of every node, by its id."""
    path = _hierarchy_file(hierarchy_root, 'node_names.txt')
    names = {}
    for number, line in enumerate(_lines(path), 1):
        node, _, name = line.partition('\t')
        if not name.strip():
            raise ValueError(f'{path}, line {number}: expected id, tab and name, got {line!r}')
        names[node] = name.split(',')[0]
    return names


def unique_names(nodes: Iterable[str], names: dict[str, str]) -> tuple[str, ...]:
    """Names of nodes; the id is put behind a name that is not the only one of its kind."""
    nodes = list(nodes)
    found = [names.get(node, node) for node in nodes]
    counts = Counter(found)
    return tuple(
        name if counts[name] == 1 else f'{name} ({node})' for node, name in zip(nodes, found)
    )


def _reachable(children: dict[str, set[str]], root: str) -> set[str]:
    seen, stack = {root}, [root]
    while stack:
        new = children.get(stack.pop(), set()) - seen
        seen |= new
        stack.extend(new)
    return seen


def _hierarchy_file(folder: str | Path, name: str) -> Path:
    for path in (Path(folder) / name, Path(folder) / f'{name}.gz'):
        if path.is_file():
            return path
    raise FileNotFoundError(f'no {name} or {name}.gz in the hierarchy folder {folder}')


def _lines(path: Path) -> Iterator[str]:
    yield from (line.rstrip('\r') for line in read_text(path).split('\n') if line.strip())


def _image_files(folder: Path) -> Iterator[tuple[str, Path]]:
    others: Counter = Counter()
    for sub in class_folders(folder):
        for path in images_below(sub, others):
            yield sub.name, path
    if others:
        MMLogger.get_current_instance().warning(f'{folder}: no images, not read: {dict(others)}')


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f'{seed} {name}'.encode()).digest()
