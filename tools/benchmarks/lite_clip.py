"""What LiteCLIP can do on classes that its fit has not seen, and what it costs.

    python tools/benchmarks/lite_clip.py                       # all parts, HYPER_MM_DATA or data
    python tools/benchmarks/lite_clip.py --parts unseen --model lite-clip-b2
    python tools/benchmarks/lite_clip.py --parts speed --threads 2

unseen  top-1 and top-5 among 100 classes of ImageNet left out of the fit, on their images in
        `imagenet_sample` (one a class), over random splits, for the ways to fit; and among all 1000
        classes at once. "centered" subtracts the mean feature of the images of the other classes,
        which takes images like those of the test. Choices were made on the splits of seed 0; the
        table is of those of seed 1.
        The image tower has seen all 1000 classes with labels: the texts of the 100 are new, the
        images are not of a new kind.
temperature
        cross-entropy among these 100 classes by the inverse temperature of the cosines
speed   first use with an empty cache, later uses, and a 640x480 photograph with 133 names

Times are of the wall clock, and CPU times of the process, which do not count others that compute.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from timing import note, quartiles

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ('unseen', 'temperature', 'speed')
CLASSES, UNSEEN = 1000, 100
SCALES = (10, 14.3, 20, 30, 40, 60, 80, 100)
ONE = 'a photo of a {}.'
BATCH = 20


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--parts', nargs='+', choices=PARTS, default=PARTS, help='default: all')
    add('--model', default='lite-clip-b0', help='default: %(default)s')
    add('--data', type=Path, default=Path(os.environ.get('HYPER_MM_DATA', 'data')))
    add('--seed', type=int, default=1, help='of the splits (default: %(default)s)')
    add('--splits', type=int, default=10, help='default: %(default)s')
    add(
        '--templates', type=int, default=0, help="of CLIP's 80, also tried: minutes for all of them"
    )
    add('--threads', type=int, default=2, help='default: %(default)s')
    add('--cache', type=Path, default=Path('work_dirs/lite_clip'), help='folder of image features')
    return parser


def image_features(name: str, paths: list[Path], cache: Path) -> tuple[Tensor, Tensor]:
    """Pooled features of images, and the weights of the classifier that belongs to them.

    Args:
        name: Name of the model.
        paths: Image files.
        cache: File that keeps the features.

    Returns:
        Features ``(N, F)`` and weights ``(1000, F)``.
    """
    import torch
    from PIL import Image
    from rich.progress import track

    from hyper_mm.models.utils.lite_clip import LITE_CLIP, LitePreprocess
    from hyper_mm.package_weights import IMAGE_PACKAGES, image_weights

    import timm  # isort: skip

    config = LITE_CLIP[name]
    state = image_weights(config.package)
    names = [str(path) for path in paths]
    if cache.is_file():
        kept = torch.load(cache, weights_only=True)
        if kept['names'] == names:
            return kept['features'], state['classifier.weight']
    tower = timm.create_model(IMAGE_PACKAGES[config.package].timm_model)
    tower.load_state_dict(state)
    tower.eval()
    preprocess = LitePreprocess((config.image_size, config.image_size))
    found = []
    with torch.no_grad():
        for start in track(range(0, len(paths), BATCH), f'{len(paths)} images'):
            batch = [preprocess(Image.open(path)) for path in paths[start : start + BATCH]]
            maps = tower.forward_features(torch.stack(batch))
            found.append(tower.forward_head(maps, pre_logits=True))
    features = torch.cat(found)
    cache.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(names=names, features=features), cache)
    return features, state['classifier.weight']


def splits(count: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random splits of the classes: those of the fit, and those left out."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        order = torch.randperm(CLASSES, generator=generator)
        yield order[UNSEEN:], order[:UNSEEN]


def hits(images: Tensor, texts: Tensor, k: int = 1) -> float:
    """Share of images, one a text in the same order, whose text is among the k nearest."""
    import torch
    from torch.nn.functional import normalize

    scores = normalize(images, dim=-1) @ normalize(texts, dim=-1).T
    best = scores.topk(k, dim=1).indices
    return best.eq(torch.arange(len(images))[:, None]).any(1).double().mean().item()


def summary(values: Iterable[float]) -> str:
    """Mean and standard error of shares, in percent."""
    import torch

    x = 100 * torch.tensor(list(values), dtype=torch.float64)
    return f'{x.mean():.1f} ± {x.std() / len(x) ** 0.5:.1f}'


def sample_features(args: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """:func:`image_features` of one image a class."""
    root = args.data / 'imagenet_sample' / 'images'
    paths = [sorted(folder.iterdir())[0] for folder in sorted(root.iterdir())]
    if len(paths) != CLASSES:
        raise SystemExit(f'{root} must have {CLASSES} classes, found {len(paths)}')
    return image_features(args.model, paths, args.cache / f'{args.model}.pt')


def fit_kernel(args: argparse.Namespace, texts: Tensor, weights: Tensor, fitted: Tensor) -> Tensor:
    """Texts ``(1000, E)`` in the space of images ``(1000, F)``, by LiteCLIP's fit to some rows."""
    from hyper_mm.layers import KernelProjection
    from hyper_mm.models.utils.lite_clip import LITE_CLIP

    config, known = LITE_CLIP[args.model], texts[fitted]
    module = KernelProjection(known.shape[1], weights.shape[1], len(known), config.gamma)
    return module.fit(known, weights, config.ridge)(texts).detach()


def temperature(args: argparse.Namespace) -> None:
    """Prints the cross-entropy by the inverse temperature."""
    import torch
    from open_clip import IMAGENET_CLASSNAMES
    from torch.nn.functional import cross_entropy, normalize

    from hyper_mm.models.utils.lite_clip import build_lite_clip, class_features

    features, classes = sample_features(args)
    texts = class_features(build_lite_clip(args.model).eval(), list(IMAGENET_CLASSNAMES), (ONE,))
    found = []
    for fitted, left in splits(args.splits, args.seed):
        joined = fit_kernel(args, texts, classes[fitted] - classes[fitted].mean(0), fitted)
        cosines = normalize(features[left], dim=-1) @ normalize(joined[left], dim=-1).T
        found.append([cross_entropy(s * cosines, torch.arange(UNSEEN)).item() for s in SCALES])
    means = torch.tensor(found).mean(0)
    print('\n| inverse temperature | cross-entropy of 100 unseen |\n|---|---|')
    for scale, mean in zip(SCALES, means.tolist()):
        print(f'| {scale:g} | {mean:.3f} |')


def unseen(args: argparse.Namespace) -> None:
    """Prints the table of the ways to fit."""
    import torch
    from open_clip import IMAGENET_CLASSNAMES
    from rich.progress import track
    from torch.nn.functional import normalize

    from hyper_mm.datasets.vocabulary import template_sets
    from hyper_mm.models.utils.lite_clip import LITE_CLIP, build_lite_clip, class_features

    features, classes = sample_features(args)
    accuracy = (features @ classes.T).argmax(1).eq(torch.arange(CLASSES)).double().mean()
    print(f'{args.model}: by the classifier itself, 1000 classes: {100 * accuracy:.1f} %')
    clip = build_lite_clip(args.model).eval()
    names, config = list(IMAGENET_CLASSNAMES), LITE_CLIP[args.model]
    one = class_features(clip, names, (ONE,))
    texts = {'one': one, 'the name alone': class_features(clip, names, ('{}',))}
    if args.templates:
        sets = template_sets()['imagenet'][: args.templates]
        each = [class_features(clip, names, (t,)) for t in track(sets, 'templates')]
        texts[f"{len(sets)} of CLIP's"] = normalize(torch.stack(each).mean(0), dim=-1)
    print(
        '\n| fit | templates | images | top-1 of 100 unseen | top-5 | top-1 of 1000 (900 fitted) |'
    )
    print('|---|---|---|---|---|---|')
    kernel = f'kernel, g = {config.gamma:g}, r = {config.ridge:g}'
    kinds = 'as they are', 'centered'
    for fit in ('linear, r = 1', 'linear, r = 3', kernel):
        for template in texts if fit == kernel else ('one',):
            scores: dict[str, list[tuple]] = {kind: [] for kind in kinds}
            for fitted, left in splits(args.splits, args.seed):
                weights = classes[fitted] - classes[fitted].mean(0)
                known, every = texts[template][fitted], texts[template]
                if fit == kernel:
                    joined = fit_kernel(args, every, weights, fitted)
                else:
                    joined = every @ ridge_regression(known, weights, float(fit.split('= ')[1]))
                for kind in kinds:
                    images = features - features[fitted].mean(0) * (kind == 'centered')
                    top = [hits(images[left], joined[left], k) for k in (1, 5)]
                    scores[kind].append((*top, hits(images, joined)))
            for kind in kinds:
                row = ' | '.join([fit, template, kind, *map(summary, zip(*scores[kind]))])
                print(f'| {row} |', flush=True)


def ridge_regression(inputs: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """The linear map ``(E, F)`` from rows of ``inputs`` to rows of ``targets``, in closed form."""
    import torch

    gram = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1])
    return torch.linalg.solve(gram, inputs.T @ targets)


BUILD = """
import time, torch, open_clip, transformers, timm
import hyper_mm.models.utils.open_clip
torch.set_num_threads({threads})
start = time.perf_counter(), time.process_time()
import hyper_mm
hyper_mm.lite_clip({name!r})
print(time.perf_counter() - start[0], time.process_time() - start[1])
"""


def speed(args: argparse.Namespace) -> None:
    """Prints the times of the first use, of later ones and of an image."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, 'XDG_CACHE_HOME': folder}
        for what in ('first use, empty cache', 'second use, another process'):
            found = subprocess.run(
                [sys.executable, '-c', BUILD.format(threads=args.threads, name=args.model)],
                env=environment, check=True, capture_output=True, text=True,
            )  # fmt: skip
            wall, cpu = map(float, found.stdout.strip().splitlines()[-1].split())
            note(what, [wall], 's')
            print(f'{what}, without imports: {wall:.2f} s (CPU {cpu:.2f} s)', flush=True)
    import numpy as np
    import torch
    from mmseg.structures import SegDataSample
    from PIL import Image

    from hyper_mm.registry import MODELS

    torch.set_num_threads(args.threads)
    model = MODELS.build(
        dict(
            type='hyper_mm.OpenVocabSegmentor',
            clip=dict(model=args.model),
            vocabulary='coco133',
            data_preprocessor=dict(
                type='mmseg.SegDataPreProcessor', mean=[127.5] * 3, std=[127.5] * 3
            ),
        )
    ).eval()
    photo = importlib.util.find_spec('sklearn')
    if photo is None or photo.origin is None:
        raise SystemExit('the image is one of scikit-learn: pip install scikit-learn')
    path = Path(photo.origin).parent / 'datasets' / 'images' / 'china.jpg'
    pixels = np.asarray(Image.open(path).convert('RGB').resize((640, 480)), np.float32)
    image = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
    times, cpu_times = [], []
    for _ in range(12):
        start, cpu_start = time.perf_counter(), time.process_time()
        model.predict(image, [SegDataSample(metainfo=dict(ori_shape=(480, 640)))])
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    low, median, high = quartiles(times[2:])
    note('133 names, 640 x 480', times[2:], 's')
    print(
        f'133 names, 640x480, {args.threads} threads: {min(times[2:]):.3f} s at least, '
        f'{median:.3f} s ({low:.3f}-{high:.3f}); CPU {quartiles(cpu_times[2:])[1]:.3f} s'
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the parts that are asked for."""
    args = build_parser().parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    for part in args.parts:
        print(f'== {part}', flush=True)
        dict(unseen=unseen, temperature=temperature, speed=speed)[part](args)
    return 0


if __name__ == '__main__':
    sys.exit(main())
