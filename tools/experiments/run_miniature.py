"""The protocol of the Hi-Mapper paper in miniature: pretrain, fine-tune with and without, transfer.

    python tools/experiments/run_miniature.py --out docs/tables/miniature.md

1. A small ViT is trained on Tiny ImageNet plainly, once.
2. It is fine-tuned for equal epochs in several arms: plainly, with Hi-Mapper, with its ablations,
   and with plain blocks of as many parameters.
3. Each is transferred to CamVid (segmentation) and BCCD (detection): mode A takes its backbone
   alone, mode B its Hi-Mapper, too.

All of it runs through the stock scripts of the frameworks. Data: data/tiny_imagenet, data/camvid,
data/bccd. Finished runs are kept: the command resumes where it stopped, and --stages runs a part.
Marks in the file of --out, for each stage: <!-- miniature camvid -->; see compare_arms.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import compare_arms
from tables import command, versions, write_table

PLAIN = 'configs/himapper/vit-mini_tiny-imagenet_finetune.py'
HI_MAPPER = 'configs/himapper/himapper_vit-mini_tiny-imagenet_finetune.py'
BLOCKS = 'model.backbone.arch.num_layers=6'
STRUCTURE = [
    'model.neck.competition=True',
    'model.neck.loss.reconstruction=1.0',
    'model.neck.loss.balance=0.1',
    'model.neck.loss.containment=0.1',
    'model.neck.loss.entailment=0.1',
]
ARMS = {
    'plain': (PLAIN,),
    'hi-mapper': (HI_MAPPER,),
    'official sign and map': (HI_MAPPER, 'model.neck.compat=official'),
    'euclidean': (HI_MAPPER, 'model.neck.lift.manifold=euclidean'),
    'no losses': (HI_MAPPER, 'model.neck.loss.contrastive=0', 'model.neck.loss.kl=0'),
    'losses stop': (HI_MAPPER, 'model.neck.loss_grad=0.0'),
    'structure': (HI_MAPPER, *STRUCTURE),
    'plain blocks': (PLAIN, BLOCKS),
}
"""Arms of the fine-tuning: config and options."""
TASKS = {
    'camvid': (
        'configs/himapper/vit-mini_camvid.py',
        'configs/himapper/himapper_vit-mini_camvid.py',
    ),
    'bccd': ('configs/himapper/vit-mini_bccd.py', 'configs/himapper/himapper_vit-mini_bccd.py'),
}
"""Tasks of the transfer: config of mode A, and of mode B."""
MODE_B = ('hi-mapper', 'official sign and map', 'euclidean', 'no losses', 'structure')
METRICS = {'camvid': ['mIoU'], 'bccd': ['coco/bbox_mAP_50']}
STAGES = ('pretrain', 'finetune', *TASKS)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/miniature'))
    parser.add_argument('--out', type=Path, help='markdown file, written between its marks')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--stages', nargs='+', choices=STAGES, default=STAGES)
    parser.add_argument('--arms', nargs='+', choices=ARMS, default=list(ARMS))
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time')
    parser.add_argument('--threads', type=int, default=1, help='threads of a run')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='options of all runs')
    return parser.parse_args()


def checkpoint(folder: Path) -> str:
    """Last checkpoint of a folder with finished runs, with ``{seed}`` for the seed."""
    found = sorted(folder.glob('epoch_*.pth'), key=lambda path: int(path.stem.split('_')[1]))
    if not found:
        raise FileNotFoundError(f'no checkpoint in {folder}: run the stage before this first')
    return str(found[-1])


def stage_arms(stage: str, args: argparse.Namespace) -> list[list[str]]:
    """Arms of a stage, each a name, a config and options."""
    if stage == 'pretrain':
        return [['pretrained', 'configs/himapper/vit-mini_tiny-imagenet.py']]
    pretrained = checkpoint(compare_arms.run_folder(args.work_dir / 'pretrain', 'pretrained', 0))
    start = f'load_from={pretrained}'
    if stage == 'finetune':
        return [[name, *ARMS[name], start] for name in args.arms]
    mode_a, mode_b = TASKS[stage]
    arms = [['scratch', mode_a], ['pretrained', mode_a, start]]
    for name in args.arms:
        folder = compare_arms.run_folder(args.work_dir / 'finetune', name, args.seeds[0])
        tuned = f'load_from={folder.parent}/seed{{seed}}/{Path(checkpoint(folder)).name}'
        blocks = [BLOCKS] if BLOCKS in ARMS[name] else []
        if blocks:
            blocks.append('model.backbone.out_indices=[0,1,3,5]')
        arms.append([f'{name}, A', mode_a, tuned, *blocks])
        if name in MODE_B:
            arms.append([f'{name}, B', mode_b, tuned, *ARMS[name][1:]])
    return arms


def title(stage: str) -> str:
    """Heading of the table of a stage."""
    return {
        'pretrain': 'Tiny ImageNet, from random weights',
        'finetune': 'Tiny ImageNet, fine-tuned',
        'camvid': 'CamVid, transferred',
        'bccd': 'BCCD, transferred (box AP50, in percent)',
    }[stage]


def main() -> None:
    """Command line."""
    args = parse_args()
    for stage in args.stages:
        arms = stage_arms(stage, args)
        options = argparse.Namespace(
            arm=arms,
            seeds=[0] if stage == 'pretrain' else args.seeds,
            work_dir=args.work_dir / stage,
            metric=METRICS.get(stage),
            jobs=args.jobs,
            threads=args.threads,
            cfg_options=args.cfg_options,
        )
        text = f'### {title(stage)}\n\n{compare_arms.compare(options)}'
        if args.out:
            text += f'\n\n{command()}\n\n{versions()}.'
            name = f'{args.work_dir.resolve().name} {stage}'
            write_table(args.out, name, text)


if __name__ == '__main__':
    main()
