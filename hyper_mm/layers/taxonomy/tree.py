"""A tree of labels: classes are its leaves, in the order of a data set."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...near_misses import suggestion

TREES = ('camvid', 'coco133', 'part_scenes', 'part_scenes_wholes', 'tiny_imagenet')
"""Trees that come with the package: CamVid's classes by what they are, the super-categories of COCO
panoptic, parts and wholes of PartScenes, and 160 classes of Tiny ImageNet at the upper three levels
of BREEDS (WordNet ids)."""
_FOLDER = Path(__file__).parent / 'trees'


class Taxonomy:
    """A tree of labels.

    Nodes are numbered: leaves first, in the order of the classes, then inner nodes in the order of
    their first leaf, from the lowest up. The root, which holds everything, is no node.

    Args:
        paths: Name of each class, in order -> names of its ancestors, the nearest first. A class
            without ancestors is a child of the root.
        source: What messages call the tree.

    Attributes:
        classes: Names of the leaves.
        names: Names of all nodes; an inner node that has the name of another node is called by its
            path.
        parents: Parent of each node; -1 below the root.

    Raises:
        ValueError: If there are fewer than two classes, a name is empty or no string, a class is
            above another one, or a node has two parents.
    """

    def __init__(self, paths: Mapping[str, Sequence[str]], source: str = 'taxonomy'):
        if len(paths) < 2:
            raise ValueError(f'{source} must have two classes or more, got {list(paths)}')
        self.source = source
        self.classes = tuple(paths)
        above: dict[str, str | None] = {}
        for leaf, ancestors in paths.items():
            line = [leaf, *ancestors]
            for node in line:
                if not isinstance(node, str) or not node.strip():
                    raise ValueError(f'{source}: names must be strings, not empty, got {node!r}')
            if len(set(line)) < len(line):
                raise ValueError(f'{source}: {leaf!r} is below itself: {line}')
            for child, parent in zip(line, [*line[1:], None]):
                if child in above and above[child] != parent:
                    raise ValueError(
                        f'{source}: {child!r} has two parents, {above[child]!r} and {parent!r}'
                    )
                above[child] = parent
                if parent in paths:
                    raise ValueError(f'{source}: {parent!r} is a class and above {child!r}')
        height = dict.fromkeys(paths, 0)
        for ancestors in paths.values():
            for step, node in enumerate(ancestors, 1):
                height[node] = max(height.get(node, 0), step)
        inner = [name for name in height if name not in paths]
        order = {name: i for i, name in enumerate(inner)}
        inner.sort(key=lambda name: (height[name], order[name]))
        self.names = (*self.classes, *inner)
        index = {name: i for i, name in enumerate(self.names)}
        lines = (above[name] for name in self.names)
        self.parents = tuple(-1 if parent is None else index[parent] for parent in lines)
        self._heights = tuple(height[name] for name in self.names)

    @classmethod
    def load(
        cls, source: str | Path | Mapping[str, Any], classes: Sequence[str] | None = None
    ) -> Taxonomy:
        """Reads a tree.

        A json file, or the object that it holds, is one of

        - nested dicts, with a list of classes (or an empty dict a class) at the end:
          ``{"animal": {"bird": ["owl", "hen"]}, "sky": []}``
        - ``{"parents": {"owl": "bird", "bird": "animal"}}``
        - a COCO annotation file, ``{"categories": [{"name": ..., "supercategory": ...}]}``; a
          super-category that is called as its only class is none.

        A csv file has one line a class: its name, then its ancestors, the nearest first, between
        commas. Files are of UTF-8, with a byte order mark or without.

        Args:
            source: The file, the object, or the name of one of ours (:data:`TREES`).
            classes: Names of the classes in their order. The leaves must be the same; their order
                is that of the file if None.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If ``source`` or ``classes`` is of another type.
            ValueError: If it is no tree, or its leaves are not the classes.
        """
        if isinstance(source, Mapping):
            name, paths = 'taxonomy', _paths_of_object(source, 'taxonomy')
        elif not isinstance(source, (str, Path)):
            raise TypeError(
                f'a taxonomy must be a file, an object or the name of one of {TREES}, got '
                f'{source!r}'
            )
        else:
            path, name = Path(source), str(source)
            if name in TREES:
                path = _FOLDER / f'{name}.csv'
            if not path.is_file():
                hint = suggestion(name, TREES)
                raise FileNotFoundError(f'no taxonomy at {path}{hint} (ours are {TREES})')
            paths = _paths_of_file(path, name)
        if classes is not None:
            if isinstance(classes, str):
                raise TypeError(f'classes must be a sequence of names, got {classes!r}')
            paths = {leaf: paths[leaf] for leaf in _checked(classes, paths, name)}
        return cls(paths, name)

    @property
    def num_classes(self) -> int:
        """Number of leaves."""
        return len(self.classes)

    @property
    def num_nodes(self) -> int:
        """Number of all nodes."""
        return len(self.names)

    @property
    def height(self) -> int:
        """Edges from the root to the lowest leaf."""
        return max(self._heights[i] for i, p in enumerate(self.parents) if p < 0) + 1

    def path(self, node: int) -> list[int]:
        """The node and its ancestors, up to the child of the root."""
        found = []
        while node >= 0:
            found.append(node)
            node = self.parents[node]
        return found

    def membership(self) -> Tensor:
        """Whether each node is a class or above it, ``(num_nodes, num_classes)``, bool."""
        inside = torch.zeros(self.num_nodes, self.num_classes, dtype=torch.bool)
        for leaf in range(self.num_classes):
            inside[self.path(leaf), leaf] = True
        return inside

    def at_depth(self, depth: int) -> tuple[Tensor, tuple[str, ...]]:
        """Node of each class at a depth; of a class that is not so deep, the class itself.

        Args:
            depth: Edges from the root, at least 1.

        Returns:
            Group ``(num_classes,)`` of each class, and the names of the groups.
        """
        if depth < 1:
            raise ValueError(f'depth must be at least 1 (the root has 0), got {depth}')
        nodes = [
            line[max(len(line) - depth, 0)] for line in map(self.path, range(self.num_classes))
        ]
        kept = sorted(set(nodes))
        return torch.tensor([kept.index(n) for n in nodes]), tuple(self.names[n] for n in kept)

    def depths(self) -> range:
        """Depths that differ from each other and from the classes: 1 (coarsest) and so on."""
        return range(1, self.height)

    def distances(self) -> Tensor:
        """Edges between all classes by way of their lowest common ancestor, ``(K, K)``, long."""
        inside = self.membership().long()
        depth = inside.sum(0)  # edges from the root
        return depth[:, None] + depth - 2 * (inside.T @ inside)

    def common_heights(self) -> Tensor:
        """Height of the lowest common ancestor of all classes, ``(K, K)``; 0 of equal ones.

        The height of a node is the number of edges to the lowest class below it.
        """
        inside = self.membership()
        heights = torch.tensor(self._heights)
        found = torch.full((self.num_classes, self.num_classes), self.height)
        for node in sorted(range(self.num_nodes), key=lambda n: -self._heights[n]):
            below = inside[node]
            found[below[:, None] & below] = heights[node]
        return found

    def check_classes(self, classes: Iterable[str]) -> None:
        """Compares the classes of a data set with the leaves, names and order.

        Raises:
            ValueError: If they differ.
        """
        listed = tuple(classes)
        _checked(listed, dict.fromkeys(self.classes, ()), self.source)
        if listed != self.classes:
            first = next(i for i, (a, b) in enumerate(zip(listed, self.classes)) if a != b)
            raise ValueError(
                f'{self.source} has its classes in another order than the data set: number {first} '
                f'is {self.classes[first]!r} there and {listed[first]!r} here'
            )

    def __repr__(self) -> str:
        return f'Taxonomy({self.num_classes} classes, {self.num_nodes} nodes, {self.source!r})'


def _checked(classes: Sequence[str], paths: Mapping[str, object], name: str) -> Sequence[str]:
    twice = [c for c, count in Counter(classes).items() if count > 1]
    if twice:
        raise ValueError(f'classes must differ from each other, got {twice[0]!r} twice or more')
    unknown = [c for c in classes if c not in paths]
    if unknown:
        hint = suggestion(str(unknown[0]), paths)
        raise ValueError(f'{name} has no class {unknown[0]!r}{hint} ({len(unknown)} are missing)')
    extra = [c for c in paths if c not in set(classes)]
    if extra:
        raise ValueError(f'{name} has classes that the data set has not: {extra[:5]}')
    return classes


def _paths_of_file(path: Path, name: str) -> dict[str, tuple[str, ...]]:
    suffix = path.suffix.lower()
    if suffix not in ('.csv', '.json'):
        raise ValueError(f'a taxonomy must be a .json or .csv file, got {path}')
    try:
        text = path.read_bytes().decode('utf-8-sig')  # some editors mark the start
        if suffix == '.json':
            return _paths_of_object(json.loads(text), name)
        return _paths_of_lines(list(csv.reader(text.splitlines())), name)
    except RecursionError:
        raise ValueError(f'{path} is nested too deeply') from None
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} is no text in UTF-8: {error}') from error
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no json: {error}') from error
    except csv.Error as error:
        raise ValueError(f'{path} is no csv: {error}') from error


def _paths_of_lines(lines: Sequence[list[str]], name: str) -> dict[str, tuple[str, ...]]:
    if all(len(line) < 2 for line in lines):
        found = [mark for mark in ';\t' if any(mark in cell for line in lines for cell in line)]
        if found:
            raise ValueError(f'{name} must have commas between names, got {found[0]!r}')
    paths: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line if cell.strip()]
        if not cells:
            continue
        if not line[0].strip():
            raise ValueError(f'{name}, line {number} must begin with a class, got {line}')
        if cells[0] in paths:
            raise ValueError(f'{name}, line {number}: {cells[0]!r} is there twice')
        paths[cells[0]] = tuple(cells[1:])
    return paths


def _paths_of_object(found: object, name: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(found, Mapping):
        raise ValueError(f'{name} must hold an object, got {type(found).__name__}')
    if isinstance(found.get('categories'), list):
        return _paths_of_categories(found['categories'], name)
    if set(found) == {'parents'} and isinstance(found['parents'], Mapping):
        return _paths_of_parents(found['parents'], name)
    paths: dict[str, tuple[str, ...]] = {}

    def add(leaf: object, above: tuple[str, ...]) -> None:
        if not isinstance(leaf, str):
            raise ValueError(f'{name}: a class must be a string, got {leaf!r} in {above}')
        if leaf in paths:
            raise ValueError(f'{name}: {leaf!r} is there twice')
        paths[leaf] = above

    def walk(node: Mapping, above: tuple[str, ...]) -> None:
        for key, value in node.items():
            if not value:
                add(key, above)
            elif isinstance(value, Mapping):
                walk(value, (key, *above))
            elif isinstance(value, list):
                for leaf in value:
                    add(leaf, (key, *above))
            else:
                raise ValueError(f'{name}: {key!r} must hold a dict or a list, got {value!r}')

    try:
        walk(found, ())
    except RecursionError:
        raise ValueError(f'{name} is nested too deeply') from None
    return paths


def _paths_of_categories(categories: list, name: str) -> dict[str, tuple[str, ...]]:
    if any(not isinstance(c, Mapping) or not isinstance(c.get('name'), str) for c in categories):
        raise ValueError(f'{name}: categories must be objects with a name')
    paths: dict[str, tuple[str, ...]] = {}
    for category in categories:
        leaf, above = category['name'], category.get('supercategory')
        if not isinstance(above, (str, type(None))):
            raise ValueError(f'{name}: supercategory of {leaf!r} must be a string, got {above!r}')
        if leaf in paths:
            raise ValueError(f'{name}: {leaf!r} is there twice')
        paths[leaf] = () if above in (None, leaf) else (above,)
    groups = {above for line in paths.values() for above in line}
    for leaf in groups & paths.keys():  # a class called as a group of others
        raise ValueError(f'{name}: {leaf!r} is a class and a super-category of others')
    return paths


def _paths_of_parents(parents: Mapping, name: str) -> dict[str, tuple[str, ...]]:
    for child, parent in parents.items():
        if not isinstance(parent, (str, type(None))):
            raise ValueError(f'{name}: parent of {child!r} must be a string, got {parent!r}')
    paths = {}
    for leaf in parents:
        if leaf in parents.values():
            continue
        line: list[str] = []
        node = leaf
        while node in parents and parents[node] is not None:
            node = parents[node]
            if node in line or node == leaf:
                raise ValueError(f'{name}: {node!r} is above itself')
            line.append(node)
        paths[leaf] = tuple(line)
    return paths
