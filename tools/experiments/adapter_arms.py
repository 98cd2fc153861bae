"""Compares ways to train LiteCLIP's text tower for segmentation, with classes held out.

    python tools/experiments/adapter_arms.py --work-dir work_dirs/adapter_arms
        --out docs/tables/hyperclip_lite.md
    python tools/experiments/adapter_arms.py --arms frozen HyperCLIP --seeds 0 --steps 10

The image tower is frozen, so that its dense features are computed once: one vector for each 32
pixels of an image, minus the mean vector of the training images. A pixel is scored by the cosine to
the text of each class. Trained is a temperature, and what the arm says, by cross-entropy over the
seen classes on the vectors' shares of each class; a step takes the classes of its images and random
others of the seen ones. A quarter of the classes is held out, others for each seed, and named at
the test only, among all 133. `camvid` is the same model by the 11 names of CamVid's classes on its
validation images: another set, of which nothing is trained.

Each arm takes the learning rate of three that has the highest mIoU of seen classes on training
images that are left out for that (split of its own, `--tune-seed`). Runs are kept, and used again
where options and code are the same. Classes of the image tower's own training (ImageNet) are among
the held-out ones: `unseen` means that no label of theirs was seen here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tables import command, markdown, standard_error, versions, write_table

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT = ('text',)
ARMS: dict[str, tuple[dict | None, list[float]]] = {
    'frozen': (None, [0.0]),
    'full': (dict(type='FullTuning', towers=TEXT), [1e-4, 1e-3, 3e-3]),
    'q, v': (dict(type='TrainedPartsAdapter', towers=TEXT), [1e-4, 1e-3, 3e-3]),
    'LoRA': (dict(type='LoRAAdapter', rank=16, alpha=16.0, towers=TEXT), [1e-3, 5e-3, 2e-2]),
    'OFT (peft)': (
        dict(type='PeftAdapter', method='OFT', oft_block_size=64, towers=TEXT),
        [1e-3, 5e-3, 2e-2],
    ),
    'HyperCLIP': (dict(type='HyperCLIPAdapter', block_size=32, towers=TEXT), [1e-3, 5e-3, 2e-2]),
    'HyperCLIP, c=1': (
        dict(type='HyperCLIPAdapter', block_size=32, curvature=1.0, towers=TEXT),
        [1e-3, 5e-3, 2e-2],
    ),
    'HyperCLIP, euclidean': (
        dict(type='HyperCLIPAdapter', block_size=32, space='euclidean', towers=TEXT),
        [1e-3, 5e-3, 2e-2],
    ),
}
"""Adapter of each arm, and its learning rates."""
SIZE = (384, 512)
"""Height and width that images are resized to, in pixels."""
STRIDE = 32
TEMPLATE = 'a photo of a {}.'


class Images(NamedTuple):
    """Images as the frozen tower sees them.

    Attributes:
        features: Dense features ``(N, h, w, D)``, not normalized.
        shares: Share of each class in each cell ``(N, h, w, T)``.
        labels: Label maps ``(H, W)``, one an image.
    """

    features: Tensor
    shares: Tensor
    labels: list[Tensor]


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--arms', nargs='+', default=list(ARMS), help='names of arms')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--tune-seed', type=int, default=100)
    parser.add_argument('--steps', type=int, default=80)
    parser.add_argument('--batch', type=int, default=8, help='images a step')
    parser.add_argument('--names', type=int, default=32, help='classes a step')
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--data', type=Path, help='folder of coco133_sem and camvid')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/adapter_arms'))
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    args = parser.parse_args()
    unknown = [arm for arm in args.arms if arm not in ARMS]
    if unknown:
        parser.error(f'--arms must be some of {list(ARMS)}, got {unknown}')
    return args


def read_images(clip: nn.Module, images: Path, maps: Path, classes: int, first: int = 0) -> Images:
    """Dense features and labels of a split of a data set.

    Args:
        clip: LiteCLIP.
        images: Folder of the images.
        maps: Folder of the label maps.
        classes: Number of classes.
        first: Label of the first class; what is below it does not count.
    """
    import numpy as np
    import torch
    from PIL import Image

    trunk = clip.visual.trunk
    features, shares, labels = [], [], []
    for file in sorted(images.iterdir()):
        image = Image.open(file).convert('RGB').resize(SIZE[::-1], Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
        with torch.no_grad():
            x = trunk.forward_features(((pixels - 127.5) / 127.5).unsqueeze(0))[0]
            features.append(trunk.get_classifier()(x.permute(1, 2, 0)))
        label = Image.open(maps / f'{file.stem}.png')
        small = label.resize(SIZE[::-1], Image.Resampling.NEAREST)
        small, label = (torch.from_numpy(np.array(x)).long() - first for x in (small, label))
        small, label = (torch.where(x < 0, 255, x) for x in (small, label))
        shares.append(class_shares(small, classes))
        labels.append(label)
    return Images(torch.stack(features), torch.stack(shares), labels)


def class_shares(label: Tensor, classes: int) -> Tensor:
    """Share of each class in each cell ``(h, w, T)`` of a label map ``(H, W)``."""
    import torch

    rows, columns = (side // STRIDE for side in label.shape)
    cell = torch.arange(rows * columns).view(rows, 1, columns, 1)
    numbers = cell * (classes + 1) + label.view(rows, STRIDE, columns, STRIDE).clamp(max=classes)
    counts = numbers.flatten().bincount(minlength=rows * columns * (classes + 1))
    return (counts.float() / STRIDE**2).view(rows, columns, classes + 1)[..., :classes]


def held_out(train: Images, seed: int) -> list[int]:
    """A quarter of the classes that training images have."""
    present = train.shares.sum((0, 1, 2)).nonzero().flatten().tolist()
    return sorted(random.Random(seed).sample(present, len(present) // 4))


def encode(clip: nn.Module, tokens: Tensor) -> Tensor:
    """Unit text features ``(T, D)`` of tokens ``(T, L)``."""
    from torch.nn.functional import normalize

    return normalize(clip.encode_text(tokens[:, : int((tokens != 0).sum(1).max())]), dim=-1)


def evaluate(text: Tensor, images: Images, unseen: list[int]) -> dict[str, float]:
    """Returns mIoU of seen and unseen classes, of those that the labels have, and of all."""
    import torch
    from torch.nn.functional import interpolate

    from hyper_mm.layers.open_vocab.dense_cnn import contenders

    classes = len(text)
    confusion = torch.zeros(classes, classes)
    for features, label in zip(images.features, images.labels):
        scores = (features @ text.T).permute(2, 0, 1)
        kept = contenders(scores)
        large = interpolate(scores[None, kept], label.shape, mode='bilinear', align_corners=False)
        known = label < classes
        pairs = label[known] * classes + kept[large[0].argmax(0)[known]]
        confusion += torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    hits = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - hits
    present = confusion.sum(1) > 0
    new = torch.zeros(classes, dtype=torch.bool)
    new[unseen] = True
    values = 100 * hits / union.clamp(min=1)
    parts = dict(seen=present & ~new, unseen=present & new, all=present)
    return {name: values[part].mean().item() for name, part in parts.items()}


def run(clip, arm: str, rate: float, seed: int, data: dict, args: argparse.Namespace) -> dict:
    """Trains and tests an arm.

    Args:
        clip: The model, which is not changed.
        arm: Name of the arm.
        rate: Learning rate.
        seed: Seed of the held-out classes, of the order of the images and of initial values.
        data: ``train`` and ``test`` :class:`Images`, and ``tokens`` ``(T, L)`` of all classes; the
            same of CamVid as ``camvid``, or None.
        args: The command line.

    Returns:
        ``seen``, ``unseen`` and ``all`` mIoU, that of CamVid, number of trained parameters, seconds
        of a step.
    """
    import copy

    import torch

    from hyper_mm.registry import MODELS

    torch.manual_seed(seed)
    clip = copy.deepcopy(clip).requires_grad_(False)
    train, tokens = data['train'], data['tokens']
    unseen = held_out(data['all'], seed)
    seen = [i for i in range(len(tokens)) if i not in unseen]
    config = ARMS[arm][0]
    trained, seconds = [], []
    if config is not None:
        adapter = MODELS.build(dict(config, type=f'hyper_mm.{config["type"]}')).attach(clip)
        trained = list(adapter.parameters())
    scale = torch.zeros(1, requires_grad=True)  # log of the temperature's inverse, over 20
    optimizer = torch.optim.AdamW(
        [dict(params=trained, lr=rate), dict(params=[scale], lr=0.02)], weight_decay=0.0
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [rate or 1e-9, 0.02], total_steps=args.steps, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(args.steps if trained else 0):
        start = time.perf_counter()
        rows = torch.randperm(len(train.features), generator=generator)[: args.batch]
        there = train.shares[rows][..., seen].sum((0, 1, 2))
        order = there + torch.rand(len(seen), generator=generator) * 1e-6
        names = torch.tensor(seen)[order.topk(min(args.names, len(seen))).indices]
        target = train.shares[rows][..., names].flatten(0, 2)
        cells = target.sum(-1) > 0.5
        target = target[cells] / target[cells].sum(-1, keepdim=True)
        text = encode(clip, tokens[names])
        logits = 20 * scale.exp() * train.features[rows].flatten(0, 2)[cells] @ text.T
        loss = -(target * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        seconds.append(time.perf_counter() - start)
    with torch.no_grad():
        scores = evaluate(encode(clip, tokens), data['test'], unseen)
        if data['camvid'] is not None:
            images, names = data['camvid']
            scores['camvid'] = evaluate(encode(clip, names), images, [])['all']
    count = sum(p.numel() for p in trained)
    return dict(scores, trained=count, seconds=statistics.median(seconds or [0.0]))


def normalized(images: Images, mean: Tensor) -> Images:
    """Images with unit features around a mean."""
    from torch.nn.functional import normalize

    return images._replace(features=normalize(images.features - mean, dim=-1))


def subset(images: Images, rows: list[int]) -> Images:
    """Some of the images."""
    return Images(images.features[rows], images.shares[rows], [images.labels[i] for i in rows])


def main() -> None:
    """Command line."""
    args = parse_args()
    import torch

    from hyper_mm import lite_clip
    from hyper_mm.datasets import CamVidDataset
    from hyper_mm.datasets.vocabulary import Vocabulary
    from hyper_mm.engine.records import key_of, load_result, save_result

    torch.set_num_threads(args.threads)
    clip, _, tokenizer = lite_clip()
    clip.eval()
    names, others = Vocabulary.load('coco133').names, CamVidDataset.METAINFO['classes']
    tokens, street = (tokenizer([TEMPLATE.format(n) for n in part]) for part in (names, others))
    root = args.data or Path(os.environ.get('HYPER_MM_DATA', 'data'))
    coco, camvid = root / 'coco133_sem', root / 'camvid'
    train, test = (
        read_images(clip, coco / 'img_dir' / split, coco / 'ann_dir' / split, len(names))
        for split in ('train', 'val')
    )
    folders = (camvid / part / 'validation' for part in ('images', 'annotations'))
    transfer = read_images(clip, *folders, len(others), first=1)
    mean = train.features.mean((0, 1, 2))
    train, test, transfer = (normalized(part, mean) for part in (train, test, transfer))
    rows = list(range(len(train.labels)))
    random.Random(args.tune_seed).shuffle(rows)
    cut = len(rows) // 5
    whole = {'all': train, 'train': train, 'test': test, 'tokens': tokens}
    whole['camvid'] = (transfer, street)
    parts = dict(train=subset(train, rows[cut:]), test=subset(train, rows[:cut]))
    tuning = {**whole, **parts, 'camvid': None}

    def result(arm: str, rate: float, seed: int, data: dict) -> dict:
        options = dict(steps=args.steps, batch=args.batch, names=args.names, arm=repr(ARMS[arm][0]))
        part = 'tune' if data is tuning else 'test'
        if data is whole:
            options['transfer'] = 'camvid'
        key = key_of(dict(options, rate=rate, seed=seed, part=part))
        file = args.work_dir / part / f'{list(ARMS).index(arm)}_{rate:g}_{seed}.json'
        found = load_result(file, key)
        if found is None:
            found = run(clip, arm, rate, seed, data, args)
            save_result(file, key, found)
        print(part, arm, f'lr {rate:g} seed {seed}:', json.dumps(found), flush=True)
        return found

    scored = ['seen', 'unseen', 'camvid']
    gained = [f'against frozen: {scored[0]}', *scored[1:]]
    rows = [['arm', 'trained', 'lr', *scored, *gained, 's/step']]
    base: list[dict] = []
    for arm in args.arms:
        rates = ARMS[arm][1]
        best = rates[0]
        if len(rates) > 1:
            best = max(rates, key=lambda r: result(arm, r, args.tune_seed, tuning)['seen'])
        own = [result(arm, best, seed, whole) for seed in args.seeds]
        base = own if arm == 'frozen' else base
        parts = [[one[part] for one in own] for part in scored]
        gains = [''] * len(scored)
        if base and arm != 'frozen':
            pairs = [[a[p] - b[p] for a, b in zip(own, base)] for p in scored]
            gains = [standard_error(values) for values in pairs]
        seconds = statistics.median(one['seconds'] for one in own)
        trained = f'{own[0]["trained"]:,}'
        values = [standard_error(part) for part in parts]
        paid = f'{seconds:.2f}' if seconds else ''
        rows.append([arm, trained, f'{best:g}' if best else '', *values, *gains, paid])
    text = markdown(rows)
    print(text)
    if args.out:
        text += f'\n\n{command()}\n\n{versions()}; {args.threads} threads.'
        write_table(args.out, 'adapter_arms', text)


if __name__ == '__main__':
    main()
