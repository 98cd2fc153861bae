r"""Adapt a segmentor to a new site by a handful of labeled images, and show what it gains.

    python tools/adapt.py configs/metaseg/maml_unet_nuclei.py CHECKPOINT --support site/support \
        --query site/query --steps 20 --out work_dirs/adapted

A folder holds images/NAME.jpg (or another suffix, the same for all) and masks/NAME.png, whose
pixels are the numbers of the classes as the model counts them, 255 for no label. Images of more
than 8 bits take --window LOW HIGH, the values that become black and white. A meta-trained model
(hyper_mm.MetaLearner, EpisodicSegmentor) takes its inner steps on all support images at once, with
its own rate and its own number of steps unless told otherwise; a plain segmentor takes steps of
gradient descent. Scores are those of the query, or of the support where there is no query: then
they say nothing about other images.

Into the folder --out go adapted.pth and adapted.py (`python tools/test.py OUT/adapted.py
OUT/adapted.pth` tests the adapted model, without any meta-learning around it), metrics.json, and
pictures of image, labels, and predictions before and after.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from options import add_config_options, default_device
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.model import BaseModel
    from mmseg.datasets import BaseSegDataset

    from hyper_mm.models.meta.meta_learner import MetaLearner


PLAIN_STEPS, PLAIN_LR = 20, 0.01
"""What a model takes that was not meta-trained."""
IGNORED = 255
METRIC = 'hyper_mm.DiceHausdorffMetric'


def parse_args(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config of the trained model')
    add('checkpoint', help='its checkpoint')
    add('--support', type=Path, required=True, help='folder of the images to learn from')
    add('--query', type=Path, help='folder of the images to test on (default: the support)')
    add('--steps', type=int, help=f"steps (default: the model's test_steps, or {PLAIN_STEPS})")
    add('--lr', type=float, help=f"rate of the steps (default: the model's, or {PLAIN_LR})")
    add(
        '--window',
        type=float,
        nargs=2,
        metavar=('LOW', 'HIGH'),
        help='values of the images that become black and white, for those of more than 8 bits',
    )
    add('--out', type=Path, default=Path('work_dirs/adapted'), help='default: %(default)s')
    add('--pictures', type=int, default=8, help='how many to draw (default: %(default)s)')
    add('--device', help='default: cuda where there is a GPU, cpu elsewhere')
    add_config_options(parser, 'changes to the config')
    return parser, parser.parse_args(argv)


def build_learner(cfg: Config, checkpoint: str, steps: int | None, lr: float | None) -> MetaLearner:
    """The model of a config with its weights, as one that adapts.

    Args:
        cfg: The config.
        checkpoint: Its checkpoint, which must fit to the last weight.
        steps: Number of steps, None for that of the model.
        lr: Their rate, None for that of the model.

    Raises:
        TypeError: If the model is no segmentor or does not adapt by steps.
        ValueError: If a number is not positive, or the model has learned its rates.
    """
    from mmengine.runner import load_checkpoint

    from hyper_mm import checkpoints as compat
    from hyper_mm.models.meta.episodic_model import EpisodicModel
    from hyper_mm.models.meta.meta_learner import MetaLearner
    from hyper_mm.registry import MODELS

    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    model = MODELS.build(model)
    compat.install_checkpoint_loader()
    load_checkpoint(model, checkpoint, map_location='cpu', strict=True)
    if not isinstance(model, EpisodicModel):
        model = MetaLearner(model, 'fomaml', PLAIN_LR, test_steps=PLAIN_STEPS)
    if not isinstance(model, MetaLearner) or not hasattr(model.model, 'decode_head'):
        raise TypeError(f'{cfg.model.type} is no segmentor that adapts by gradient steps')
    if lr is not None and model.rates is not None:
        raise ValueError(f'--lr must be left out: the model has learned its rates; got {lr}')
    for name, value in (('--steps', steps), ('--lr', lr)):
        if value is not None and not value > 0:
            raise ValueError(f'{name} must be positive, got {value}')
    model.test_steps = model.test_steps if steps is None else steps
    model.inner_lr = model.inner_lr if lr is None else lr
    return model


def metainfo(cfg: Config, num_classes: int) -> dict:
    """Names and colors of the classes, those of the test data where it has as many."""
    from hyper_mm.engine.launch import innermost_datasets
    from hyper_mm.registry import DATASETS

    _, dataset = next(innermost_datasets(cfg.test_dataloader.dataset, ''))
    with DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as registry:
        kind = registry.get(dataset.type)
    known = dict(getattr(kind, 'METAINFO', {}), **dataset.get('metainfo', {}))
    names, palette = known.get('classes', ()), known.get('palette', ())
    if len(names) != num_classes:
        names = ['background', *(f'class {k}' for k in range(1, num_classes))]
    if len(palette) != num_classes:
        import matplotlib

        colors = matplotlib.colormaps['tab10'](np.arange(num_classes - 1) % 10)[:, :3]
        palette = [[0, 0, 0], *(255 * colors).astype(int).tolist()]
    return dict(classes=tuple(names), palette=[[int(c) for c in p] for p in palette])


def folder_dataset(
    cfg: Config,
    folder: Path,
    info: dict,
    resize_labels: bool,
    window: tuple[float, float] | None = None,
) -> dict:
    """Config of the data set of a folder, with the test pipeline of a config.

    Args:
        cfg: The config.
        folder: With ``images`` and ``masks``.
        info: Metainfo.
        resize_labels: Load labels before the other transforms (to learn from them), or after (to
            compare predictions with them, which are of the original size).
        window: Values of the images that become black and white; 0 and 255 if None.

    Raises:
        ValueError: If the folder has no images, images of several suffixes or, without a window, of
            more than 8 bits, or masks of more than 8 bits.
        FileNotFoundError: If a mask is missing.
    """
    from hyper_mm.datasets.image_folders import is_hidden
    from hyper_mm.datasets.transforms.load_image_window import check_depth, read_unchanged
    from hyper_mm.engine.launch import innermost_datasets

    images = sorted(f for f in (folder / 'images').glob('*') if not is_hidden(f.name))
    suffixes = {f.suffix for f in images}
    if len(suffixes) != 1:
        raise ValueError(
            f'{folder}/images must hold images of one suffix, got {sorted(suffixes) or "none"}'
        )
    for image in images:
        mask = folder / 'masks' / f'{image.stem}.png'
        if not mask.is_file():
            raise FileNotFoundError(f'{image} has no mask {mask}')
        if read_unchanged(mask).dtype != np.uint8:
            raise ValueError(f'{mask} must be of 8 bits: the numbers of the classes')
    if window is None:
        try:
            check_depth(images)
        except ValueError as error:
            raise ValueError(f'{error} (--window LOW HIGH does so)') from None
    _, dataset = next(innermost_datasets(cfg.test_dataloader.dataset, ''))
    load, *others = [t for t in dataset.pipeline if not t.type.endswith('LoadAnnotations')]
    if window is not None:
        load = dict(type='hyper_mm.LoadImageWindow', low=window[0], high=window[1])
    others.insert(0 if resize_labels else len(others) - 1, dict(type='LoadAnnotations'))
    return dict(
        type='mmseg.BaseSegDataset',
        data_root=str(folder.resolve()),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        img_suffix=suffixes.pop(),
        metainfo=info,
        pipeline=[load, *others],
    )


def check_labels(dataset: BaseSegDataset, num_classes: int) -> None:
    """Refuses masks that do not fit their images, and labels that are no class.

    Args:
        dataset: With labels of the original size.
        num_classes: Number of classes.

    Raises:
        ValueError: With the file and its size or labels, or if all labels are of one class.
    """
    seen: set[int] = set()
    for item in dataset:
        sample = item['data_samples']
        labels, size = sample.gt_sem_seg.data, tuple(sample.ori_shape[:2])
        if labels.shape != (1, *size):
            raise ValueError(
                f'{sample.seg_map_path} must have one channel of {size}, the size of its image, '
                f'got {(*labels.shape,)}'
            )
        found = set(labels.unique().tolist()) - {IGNORED}
        wrong = sorted(k for k in found if k >= num_classes)
        if wrong:
            raise ValueError(
                f'labels must be 0..{num_classes - 1} or {IGNORED}, {sample.seg_map_path} has '
                f'{wrong}'
            )
        seen |= found
    if len(seen) < 2:
        raise ValueError(
            f'{dataset.data_root}/masks must have pixels of at least two classes, got '
            f'{sorted(seen)}; {IGNORED} means no label'
        )


def support_batch(model: BaseModel, items: list[dict]) -> dict:
    """The support as one batch; images of several sizes are padded."""
    from mmengine.dataset import pseudo_collate

    preprocessor = model.data_preprocessor
    if getattr(preprocessor, 'size', None) is not None:
        sizes = [preprocessor.size, *(item['inputs'].shape[-2:] for item in items)]
        preprocessor.size = tuple(max(size) for size in zip(*sizes))
    return preprocessor(pseudo_collate(items), True)


def adapt(learner: MetaLearner, batch: dict, progress: Progress) -> list[float]:
    """Takes the steps; the weights of the model are adapted afterwards.

    Args:
        learner: The model.
        batch: The support.
        progress: Shows the steps.

    Returns:
        The loss of the support before each step.
    """
    import torch

    parameters, buffers = learner.initial_state()
    losses = []
    learner.model.train()
    task = progress.add_task('adapting', total=learner.test_steps)
    for _ in range(learner.test_steps):
        parameters, (loss,) = learner.inner(batch, parameters, buffers, 1, first_order=True)
        parameters = {name: p.detach() for name, p in parameters.items()}
        losses.append(loss.item())
        progress.update(task, advance=1, description=f'adapting, loss {losses[-1]:.4f}')
    learner.model.eval()
    with torch.no_grad():
        for values in (learner.model.named_parameters(), learner.model.named_buffers()):
            for name, value in values:
                value.copy_((buffers if name in buffers else parameters)[name])
    return losses


def predict(model: BaseModel, dataset: BaseSegDataset, name: str, progress: Progress) -> list:
    """Data samples of a data set with predictions."""
    import torch
    from mmengine.dataset import pseudo_collate

    model.eval()
    task = progress.add_task(name, total=len(dataset))
    found = []
    with torch.no_grad():
        for index in range(len(dataset)):
            found += [x.cpu() for x in model.test_step(pseudo_collate([dataset[index]]))]
            progress.advance(task)
    return found


def score(config: dict, info: dict, samples: list) -> dict[str, float]:
    """Dice and Hausdorff distance of predictions."""
    from hyper_mm.registry import METRICS

    metric = METRICS.build(config)
    metric.dataset_meta = info
    metric.process({}, [sample.to_dict() for sample in samples])
    return metric.evaluate(len(samples))


def draw(path: Path, load: dict, before, after, scores: list[float], palette: list) -> None:
    """Draws image, labels and both predictions side by side; ``load`` loads the image."""
    import matplotlib

    from hyper_mm.registry import TRANSFORMS

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    image = TRANSFORMS.build(load)(dict(img_path=before.img_path))['img']
    image = image[..., ::-1].astype(np.uint8)
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(palette)] = palette
    maps = [before.gt_sem_seg.data[0], before.pred_sem_seg.data[0], after.pred_sem_seg.data[0]]
    titles = ['labels', *(f'{n}, dice {s:.1f}' for n, s in zip(('before', 'after'), scores))]
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.9))
    axes[0].imshow(image)
    axes[0].set_title(Path(before.img_path).name)
    for axis, labels, title in zip(axes[1:], maps, titles):
        labels = labels.numpy()
        shown = (labels > 0) & (labels != IGNORED)
        mixed = np.where(shown[..., None], 0.4 * image + 0.6 * colors[labels % 256], image)
        axis.imshow(mixed.astype(np.uint8))
        axis.set_title(title)
    for axis in axes:
        axis.axis('off')
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def write_model(cfg: Config, learner: MetaLearner, dataset: dict, metric: dict, out: Path) -> None:
    """Writes the adapted model as a plain one: a config with test data, and a checkpoint."""
    from mmengine.runner import save_checkpoint

    cfg = copy.deepcopy(cfg)
    if 'model' in cfg.model:
        cfg.model = cfg.model.model
    for key in [k for k in cfg if k.startswith(('train_', 'val_', 'test_', 'optim_', 'param_'))]:
        cfg.pop(key)
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dataset,
    )
    cfg.test_evaluator, cfg.test_cfg = metric, dict(type='TestLoop')
    cfg.dump(out / 'adapted.py')
    meta = dict(dataset_meta=dataset['metainfo'], steps=learner.test_steps)
    state = {name: value.cpu() for name, value in learner.model.state_dict().items()}
    save_checkpoint(dict(meta=meta, state_dict=state), str(out / 'adapted.pth'))


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser, args = parse_args(argv)
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from hyper_mm.registry import DATASETS, METRICS

    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        if args.pictures < 0:
            raise ValueError(f'--pictures must be at least 0, got {args.pictures}')
        if cfg.get('test_dataloader') is None:
            raise ValueError(f'{args.config} must have a test_dataloader, whose pipeline is used')
        evaluators = cfg.get('test_evaluator') or {}
        evaluators = evaluators if isinstance(evaluators, list) else [evaluators]
        metric = next((m for m in evaluators if m.get('type') == METRIC), dict(type=METRIC))
        METRICS.build(metric)
        learner = build_learner(cfg, args.checkpoint, args.steps, args.lr).to(
            args.device or default_device()
        )
        model = learner.model
        num_classes = model.decode_head.num_classes
        info = metainfo(cfg, num_classes)
        support = DATASETS.build(folder_dataset(cfg, args.support, info, True, args.window))
        tested = folder_dataset(cfg, args.query or args.support, info, False, args.window)
        query = DATASETS.build(tested)
        check_labels(query, num_classes)
        if args.query is not None:
            original = folder_dataset(cfg, args.support, info, False, args.window)
            check_labels(DATASETS.build(original), num_classes)
    except (
        ValueError,
        TypeError,
        RuntimeError,
        ImportError,
        OSError,
        AssertionError,  # mmcv's for an image that it cannot read
    ) as error:
        parser.error(str(error))
    (args.out / 'pictures').mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        before = predict(model, query, 'testing before', progress)
        losses = adapt(learner, support_batch(model, [*support]), progress)
        after = predict(model, query, 'testing after', progress)
    scores = {n: score(metric, info, s) for n, s in (('before', before), ('after', after))}
    write_model(cfg, learner, tested, metric, args.out)
    scores.update(support=str(args.support), query=str(args.query or args.support), losses=losses)
    (args.out / 'metrics.json').write_text(json.dumps(scores, indent=2) + '\n')
    for old, new in list(zip(before, after))[: args.pictures]:
        dice = [score(metric, info, [sample])['dice'] for sample in (old, new)]
        picture = args.out / 'pictures' / f'{Path(old.img_path).stem}.png'
        draw(picture, tested['pipeline'][0], old, new, dice, info['palette'])
    table = Table(title=f'{len(support)} images, {learner.test_steps} steps')
    for column in ('support itself' if args.query is None else 'query', 'before', 'after'):
        table.add_column(column)
    for name in scores['before']:
        table.add_row(name, *(f'{scores[when][name]:.2f}' for when in ('before', 'after')))
    console = Console()
    console.print(table)
    command = f'python tools/test.py {args.out}/adapted.py {args.out}/adapted.pth'
    console.print(command, markup=False, soft_wrap=True)  # in one line, to be copied


if __name__ == '__main__':
    main()
