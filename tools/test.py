"""Test a checkpoint of mmseg, mmdet or mmpretrain.

Example:
    python tools/test.py configs/himapper_deit-s_ade20k.py work_dirs/.../iter_160000.pth
    python tools/test.py CONFIG CHECKPOINT --tta --show-dir pictures
    bash tools/dist_test.sh CONFIG CHECKPOINT 8
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from typing import TYPE_CHECKING

from options import add_run_options

if TYPE_CHECKING:
    from mmengine.config import Config


PICTURES = {'mmseg': 'draw', 'mmdet': 'draw', 'mmpretrain': 'enable'}
"""What switches the visualization hook of each library on."""
TTA_MODELS = {
    'mmseg': dict(type='SegTTAModel'),
    'mmdet': dict(
        type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)
    ),
    'mmpretrain': dict(type='AverageClsScoreTTA'),
}
METRIC_FILES = ('.json', '.yaml', '.yml', '.pkl', '.pickle')
"""What mmengine writes metrics to."""
OPEN_VOCABULARY, OPEN_VOCABULARY_TTA = 'OpenVocabSegmentor', 'hyper_mm.OpenVocabTTAModel'
MODELS_WITHOUT_TTA = dict(
    HelmForCausalLM='texts have no views',
    RadialCLIP='its metrics compare features, of which there is one an image',
)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', help='config file')
    add('checkpoint', help="checkpoint file, or 'none' for a model that needs no training")
    add(
        '--out',
        help='where predictions go: a folder of label maps (mmseg), a pickle file (mmdet, '
        'mmpretrain); see --out-item',
    )
    add(
        '--out-item',
        choices=['pred', 'metrics'],
        default='pred',
        help="with 'metrics', --out is the json file of the metrics (default: %(default)s)",
    )
    add('--tta', action='store_true', help='test-time augmentation')
    add('--show', action='store_true', help='show each prediction in a window')
    add('--show-dir', help='folder for pictures of the predictions')
    add('--wait-time', type=float, default=2, help='seconds for each window (default: 2)')
    add_run_options(parser)
    return parser


def use_pictures(cfg: Config, args: argparse.Namespace) -> None:
    """Makes the visualization hook draw every image of the test.

    Args:
        cfg: The config, changed in place.
        args: Parsed arguments.

    Raises:
        ValueError: If the config has no such hook.
    """
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None or cfg.default_scope not in PICTURES:
        raise ValueError(
            "--show and --show-dir need default_hooks.visualization of 'mmseg', 'mmdet' or "
            f"'mmpretrain' in the config; default_scope is {cfg.default_scope!r}"
        )
    hook.update({PICTURES[cfg.default_scope]: True}, show=args.show, wait_time=args.wait_time)
    hook['interval'] = 1
    if args.show_dir:
        if cfg.default_scope == 'mmseg':
            cfg.visualizer['save_dir'] = args.show_dir
        else:
            hook['test_out_dir' if cfg.default_scope == 'mmdet' else 'out_dir'] = args.show_dir


def use_tta(cfg: Config) -> None:
    """Replaces model and test pipeline by those of test-time augmentation.

    Without ``tta_pipeline`` in the config, the test pipeline is run plain and flipped.

    Args:
        cfg: The config, changed in place.

    Raises:
        ValueError: If the config has no ``tta_model`` and its model has none by default, or its
            pipeline cannot be run in several views.
    """
    from mmengine.config import ConfigDict

    from hyper_mm.engine.launch import innermost_datasets

    model = tta_model(cfg)
    for path, dataset in innermost_datasets(cfg.test_dataloader.dataset, 'test_dataloader.dataset'):
        pipeline = cfg.get('tta_pipeline')
        if pipeline is None and not dataset.get('pipeline'):
            raise ValueError(f'--tta needs tta_pipeline in the config, or {path}.pipeline')
        dataset.pipeline = pipeline or flipped_pipeline(dataset.pipeline)
    cfg.model = ConfigDict(**model, module=cfg.model)


def tta_model(cfg: Config) -> dict:
    """Returns the config's model of test-time augmentation, or that which suits its model.

    mmseg's ``SegTTAModel`` is the default of its runtime configs. It needs the logits of a softmax,
    so the open-vocabulary segmentor gets its own in its place.

    Args:
        cfg: The config.

    Raises:
        ValueError: If there is none.
    """
    kind = str(cfg.model.get('type')).rsplit('.', 1)[-1]
    own = MODELS_WITHOUT_TTA.get(kind) or (
        'masks have no mean' if has_masks(cfg.model) and 'tta_model' not in cfg else None
    )
    dataset = str(cfg.test_dataloader.dataset.get('type')).rsplit('.', 1)[-1]
    if dataset in ('EpisodeDataset', 'MixedEpisodeDataset'):
        own = f'a query of {dataset} is predicted by its support, not by itself'
    if own:
        raise ValueError(f'--tta does not suit {kind}: {own}')
    model = cfg.get('tta_model', TTA_MODELS.get(cfg.default_scope))
    if model is None:
        raise ValueError('--tta needs tta_model and tta_pipeline in the config')
    stock = str(model.get('type')).rsplit('.', 1)[-1] == 'SegTTAModel'
    return dict(model, type=OPEN_VOCABULARY_TTA) if stock and kind == OPEN_VOCABULARY else model


def has_masks(model: object) -> bool:
    """Returns whether a detector predicts masks, which mmdet cannot average over views."""
    if isinstance(model, dict):
        heads = (model.get(name) for name in ('mask_head', 'panoptic_head'))
        return any(head is not None for head in heads) or any(map(has_masks, model.values()))
    return isinstance(model, (list, tuple)) and any(has_masks(part) for part in model)


def flipped_pipeline(pipeline: list[dict]) -> list[dict]:
    """Returns the test pipeline with a flip, in two branches, before it packs its inputs."""
    *first, pack = deepcopy(pipeline)
    if 'meta_keys' in pack:
        pack['meta_keys'] = (*pack['meta_keys'], 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=prob) for prob in (0.0, 1.0)]
    return [*first, dict(type='TestTimeAug', transforms=[flips, [pack]])]


def save_label_maps(cfg: Config, folder: str) -> None:
    """Makes the metrics of mmseg write the predicted label maps."""
    metrics = cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    names = ('IoUMetric', 'CityscapesMetric', 'OVIoUMetric')
    writers = [m for m in metrics if m['type'].rsplit('.')[-1] in names]
    if not writers:
        raise ValueError(f'--out needs one of {", ".join(names)} in test_evaluator')
    for metric in writers:
        metric.update(output_dir=folder, keep_results=True)


def main() -> None:
    """Command line."""
    parser = build_parser()
    args = parser.parse_args()
    import mmengine
    from mmengine.evaluator import DumpResults
    from mmengine.registry import METRICS

    from hyper_mm.engine.launch import build_runner, load_config

    predictions = args.out if args.out_item == 'pred' else None
    try:  # before a test of hours
        if args.out_item == 'metrics' and not str(args.out).endswith(METRIC_FILES):
            raise ValueError(
                f'--out-item metrics needs --out FILE of {", ".join(METRIC_FILES)}, got {args.out}'
            )
        cfg = load_config(args, ('test',))
        cfg.load_from = None if args.checkpoint == 'none' else args.checkpoint
        if args.show or args.show_dir:
            use_pictures(cfg, args)
        if args.tta:
            use_tta(cfg)
        if predictions and cfg.default_scope == 'mmseg':
            save_label_maps(cfg, predictions)
        elif predictions and not predictions.endswith(('.pkl', '.pickle')):
            raise ValueError(f'--out must be a .pkl file, got {predictions!r}')
    except (ValueError, ImportError, FileNotFoundError) as error:
        parser.error(str(error))
    runner = build_runner(cfg)
    if predictions and cfg.default_scope != 'mmseg':
        dump = METRICS.get('mmdet.DumpDetResults') if cfg.default_scope == 'mmdet' else DumpResults
        runner.test_evaluator.metrics.append(dump(out_file_path=predictions))
    metrics = runner.test()
    if args.out and args.out_item == 'metrics':
        mmengine.dump(metrics, args.out)


if __name__ == '__main__':
    main()
