"""What open-vocabulary detection costs: regions against names, and HyperCLIP in a detector.

    python tools/benchmarks/open_vocab_detection.py
    python tools/benchmarks/open_vocab_detection.py --only regions --names 10000
    python tools/benchmarks/open_vocab_detection.py --only detector
        --configs lite-clip_coco-mini hyperclip_lite-clip_coco-mini

`regions`: the scores of 1000 proposals for 1203 names (LVIS), from embeddings and pooled features
to the best 1000 pairs; median and quartiles of the time that passes, and of the processor's.
`detector`: a training step and inference of a frozen detector and of its adapted sibling, with
random pixels, in turns; median and quartiles of the ratio. Public weights are not loaded. Inference
is with cached weights, as MergeAdaptersHook has them.
"""

from __future__ import annotations

import argparse
import copy
import time

from timing import note, quartiles, ratio


def regions(args: argparse.Namespace) -> None:
    """Times the scores of regions."""
    import torch

    from hyper_mm.layers.open_vocab.region_scores import (
        NameClassifier,
        NameFeatures,
        ScoreEnsemble,
    )

    dim = args.dim
    classifier, ensemble = NameClassifier(dim), ScoreEnsemble(chunk=args.chunk)
    mine, theirs = torch.randn(2, args.proposals, dim)
    names = NameFeatures.of(torch.randn(args.names, dim))
    seen = torch.arange(args.names) % 2 == 0
    seconds, used = [], []
    for turn in range(-3, args.repeats):
        start, before = time.perf_counter(), time.process_time()
        ensemble.best(classifier, mine, theirs, names, seen)
        if turn >= 0:
            seconds.append(time.perf_counter() - start)
            used.append(time.process_time() - before)
    note(f'{args.proposals} proposals x {args.names} names', seconds, 's')
    low, median, high = (1000 * x for x in quartiles(seconds))
    print(
        f'{args.proposals} proposals x {args.names} names, width {dim}: '
        f'{median:.1f} ms ({low:.1f}-{high:.1f}), '
        f'processor time {1000 * quartiles(used)[1]:.1f} ms'
    )


def detector(args: argparse.Namespace) -> None:
    """Times the baseline and the adapted detector in turns."""
    import torch
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    from mmengine.structures import InstanceData

    from hyper_mm.layers.hyperclip.adapted_weight import cached_weights

    init_default_scope('mmdet')
    models = []
    for name in args.configs:
        cfg = Config.fromfile(f'configs/hyperclip/{name}.py')
        cfg.model.backbone.clip.pop('pretrained', None)
        torch.manual_seed(0)
        models.append(MODELS.build(cfg.model))
    side = args.side
    masks = torch.zeros(4, side, side, dtype=torch.uint8)
    masks[:, : side // 3, : side // 3] = 1
    corners = torch.rand(4, 2) * side / 2
    found = InstanceData(
        bboxes=torch.cat([corners, corners + side / 3], 1),
        labels=torch.arange(4),
        masks=BitmapMasks(masks.numpy(), side, side),
    )
    meta = dict(img_shape=(side, side), ori_shape=(side, side), scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta, gt_instances=found)
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    image = torch.randint(256, (3, side, side), dtype=torch.uint8)

    def step(model):
        model.zero_grad()
        samples = [copy.deepcopy(sample) for _ in range(args.batch)]
        data = dict(inputs=[image] * args.batch, data_samples=samples)
        losses = model(**model.data_preprocessor(data, True), mode='loss')
        total = sum(sum(v) if isinstance(v, list) else v for k, v in losses.items() if 'loss' in k)
        total.backward()

    @torch.no_grad()
    def infer(model):
        data = dict(inputs=[image], data_samples=[copy.deepcopy(sample)])
        model(**model.data_preprocessor(data, False), mode='predict')

    frozen, adapted = (model.train() for model in models)
    what = f'{args.configs[1]} over {args.configs[0]}'
    pair = lambda: step(frozen), lambda: step(adapted)
    show('training step', *ratio(*pair, args.repeats, 1, f'training step, {what}'))
    frozen.eval(), adapted.eval()
    with cached_weights(adapted):
        pair = lambda: infer(frozen), lambda: infer(adapted)
        show('inference', *ratio(*pair, args.repeats, 1, f'inference, {what}'))


def show(name: str, seconds: float, quarters: list[float]) -> None:
    """Prints a ratio."""
    low, median, high = quarters
    print(f'{name}: frozen {seconds:.2f} s, ratio {median:.3f} ({low:.3f}-{high:.3f})')


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', choices=('regions', 'detector'), help='one of the measurements')
    parser.add_argument('--proposals', type=int, default=1000)
    parser.add_argument('--names', type=int, default=1203)
    parser.add_argument('--dim', type=int, default=512, help='width of the features')
    parser.add_argument('--chunk', type=int, default=2048, help='names at a time')
    parser.add_argument('--side', type=int, default=320, help='side of the image in pixels')
    parser.add_argument('--batch', type=int, default=1, help='images of a training step')
    parser.add_argument(
        '--configs',
        nargs=2,
        default=['clip_vit-b16_ov-coco', 'hyperclip_vit-b16_ov-coco'],
        help='baseline and adapted detector, of configs/hyperclip',
    )
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--repeats', type=int, default=21, help='measured runs')
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f'torch {torch.__version__}, {args.threads} threads')
    if args.only != 'detector':
        regions(args)
    if args.only != 'regions':
        detector(args)


if __name__ == '__main__':
    main()
