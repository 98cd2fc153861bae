"""Sets of images and class names of the study of prompts (``prompt_arms.py``)."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

POOL = 25
"""Images of a class that shots are drawn of; the others are tested."""
DRAWN = 'part-scenes'
"""What the names of images begin with that are drawn when they are read."""
SIZE = (224, 224)
"""Height and width of these."""


class Task(NamedTuple):
    """A set of images and class names.

    Attributes:
        names: The classes.
        train: Name of an image and its label, of which shots are drawn.
        test: The same of those that are tested.
    """

    names: list[str]
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]

    def of(self, labels: list[int]) -> Task:
        """The part of some of the classes, numbered anew."""
        new = {label: number for number, label in enumerate(labels)}
        parts = [[(x, new[y]) for x, y in part if y in new] for part in (self.train, self.test)]
        return Task([self.names[label] for label in labels], *parts)

    def digest(self, data: Path) -> str:
        """Digest of the names of classes and images.

        Args:
            data: Folder of the data sets, where it lies does not count.
        """
        text = json.dumps(self).replace(json.dumps(str(data))[1:-1], '')
        return hashlib.sha256(text.encode()).hexdigest()


def tiny_imagenet(folder: Path, count: int) -> tuple[Task, Task, list[str]]:
    """Some classes of Tiny ImageNet, 20 others, and the WordNet ids of the first."""
    from hyper_mm.datasets.image_folders import class_folders, images_below, read_names

    names = read_names(folder / 'train')
    ids = [sub.name for sub in class_folders(folder / 'train')]
    chosen = random.Random(0).sample(ids, count + 20)

    def task(part: list[str], kept: int | None = None) -> Task:
        train, test = [], []
        for label, wnid in enumerate(part):
            files = [str(x) for x in images_below(folder / 'train' / wnid)]
            train += [(file, label) for file in files[:POOL]]
            more = [str(x) for x in images_below(folder / 'val' / wnid)]
            test += [(file, label) for file in [*more, *files[POOL:]][:kept]]
        return Task([names[wnid] for wnid in part], train, test)

    reported = sorted(chosen[:count])
    return task(reported), task(sorted(chosen[count:]), 10), reported


def superclasses(classes: Task, ids: list[str], hierarchy: Path, depth: int = 3) -> Task:
    """The same images under the superclasses that have two classes or more."""
    from hyper_mm.datasets.breeds import ancestors_at, node_names

    above, members = ancestors_at(hierarchy, depth), defaultdict(list)
    for label, wnid in enumerate(ids):
        if wnid in above:
            members[above[wnid]].append(label)
    kept = sorted(node for node, labels in members.items() if len(labels) > 1)
    number = {label: i for i, node in enumerate(kept) for label in members[node]}
    names, found = node_names(hierarchy), []
    for part in (classes.train, classes.test):
        found.append([(x, number[y]) for x, y in part if y in number])
    return Task([names[node] for node in kept], *found)


def breeds(folder: Path, depth: int = 3, shots: int = 16, tested: int = 10, most: int = 24) -> Task:
    """One image of each class of ImageNet under superclasses: shots and tests of other classes.

    Args:
        folder: Folder of ``images`` and ``hierarchy/modified``.
        depth: Depth of the superclasses. At 3 BREEDS has ENTITY-13, 13 superclasses of 20 classes.
        shots: Least classes of a superclass whose images shots are drawn of; half of them where
            that is more.
        tested: Least images of a superclass that are tested.
        most: Largest number of them.
    """
    from hyper_mm.datasets.breeds import BreedsDataset

    found = BreedsDataset(
        str(folder), depth=depth, min_images=shots + tested, split='all', pipeline=[]
    )
    members: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in map(found.get_data_info, range(len(found))):
        members[item['gt_label']][item['wnid']].append(item['img_path'])
    train, test = [], []
    for label, classes in sorted(members.items()):
        ids = sorted(classes)
        random.Random(label).shuffle(ids)
        cut = max(shots, len(ids) // 2)
        train += [(x, label) for wnid in ids[:cut] for x in classes[wnid]]
        test += [(x, label) for wnid in ids[cut:] for x in classes[wnid]][:most]
    return Task(list(found.metainfo['classes']), train, test)


def omniglot(path: Path, each: int = 60) -> Task:
    """Alphabets of Omniglot, ``each`` images to draw shots of and as many to test."""
    with zipfile.ZipFile(path) as file:
        files = defaultdict(list)
        for name in sorted(file.namelist()):
            if name.endswith('.png'):
                files[name.split('/')[-3]].append(f'{path}!{name}')
    names, train, test = sorted(files), [], []
    for label, name in enumerate(names):
        drawn = random.Random(label).sample(files[name], 2 * each)
        train += [(x, label) for x in drawn[:each]]
        test += [(x, label) for x in drawn[each:]]
    return Task([name.strip('_').replace('_', ' ') for name in names], train, test)


def part_scenes(tested: int = 30) -> Task:
    """The things of PartScenes, one in each image; images are drawn when they are read."""
    from hyper_mm.datasets.part_scenes import THING_CLASSES

    train, test = (
        [(f'{DRAWN}!{x}/{split}/{i}', y) for y, x in enumerate(THING_CLASSES) for i in range(count)]
        for split, count in (('train', POOL), ('val', tested))
    )
    return Task(list(THING_CLASSES), train, test)


def read_image(path: str) -> Image.Image:
    """Reads an image: a file, a member of an archive ``zip!member``, or one that is drawn."""
    from PIL import Image

    archive, _, member = path.partition('!')
    if not member:
        return Image.open(path)
    if archive == DRAWN:
        from hyper_mm.datasets.part_scenes import render_object

        thing, split, index = member.split('/')
        return Image.fromarray(render_object(thing, 0, int(index), SIZE, split).image)
    with zipfile.ZipFile(archive) as file:
        return Image.open(io.BytesIO(file.read(member)))
