"""Tests a checkpoint on the six open-vocabulary benchmarks and prints the row of the papers' table.

    python tools/analysis_tools/open_vocab_table.py CONFIG CHECKPOINT

Data and metrics are those of configs/_base_/datasets/{ade847,pc459,ade150_ov,pc59,voc20,voc20b}.py;
the model is CONFIG's, with the vocabulary of the set. Sets whose data are missing are left out, and
said so. Each test leaves its config (for `tools/test.py`) and its output in the work directory;
finished ones are kept, and used again for the same checkpoint, config, options and code: the
command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from mmengine.config import Config

DATASETS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'
SETS = {
    'ade847': 'A-847',
    'pc459': 'PC-459',
    'ade150': 'A-150',
    'pc59': 'PC-59',
    'voc20': 'PAS-20',
    'voc20b': 'PAS-20b',
}
"""Vocabularies of the benchmarks in the order of the papers, and what they call them."""


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path, help='config whose model is tested')
    parser.add_argument('checkpoint', type=Path, help='its checkpoint')
    parser.add_argument('--sets', nargs='+', choices=list(SETS), default=list(SETS))
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/CONFIG/open_vocab')
    parser.add_argument('--threads', type=int, default=2, help='threads of a run')
    parser.add_argument(
        '--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='changes of all tests'
    )
    args = parser.parse_args()
    from hyper_mm.engine.launch import parse_options

    try:
        args.cfg_options = parse_options(args.cfg_options)
    except ValueError as error:
        parser.error(str(error))
    for path in (args.config, args.checkpoint):
        if not path.is_file():
            parser.error(f'no such file: {path}')
    args.work_dir = args.work_dir or Path('work_dirs') / args.config.stem / 'open_vocab'
    return args


def test_config(config: Path, name: str, options: dict | None = None) -> Config:
    """Config of a model with the data, the vocabulary and the metric of a benchmark.

    Args:
        config: Config of the model.
        name: Key of :data:`SETS`.
        options: Changes, by dotted keys.
    """
    from mmengine.config import Config

    cfg = Config.fromfile(config)
    benchmark = Config.fromfile(DATASETS / f'{"ade150_ov" if name == "ade150" else name}.py')
    cfg.model.vocabulary = name
    for key in ('dataloader', 'evaluator'):
        cfg[f'val_{key}'] = cfg[f'test_{key}'] = benchmark[f'test_{key}']
    cfg.merge_from_dict(options or {})
    return cfg


def missing_data(cfg: Config) -> Path | None:
    """The folder or file that a test would need and that does not exist."""
    dataset = cfg.test_dataloader.dataset
    root = Path(dataset.data_root)
    parts = [*dataset.data_prefix.values(), dataset.get('ann_file', '')]
    return next((root / part for part in parts if not (root / part).exists()), None)


def test(args: argparse.Namespace, name: str) -> float | str:
    """Score on one set, or why there is none."""
    from hyper_mm.engine.records import claim, key_of, load_result, name_of, save_result
    from hyper_mm.engine.runs import run_script, stock_script

    cfg = test_config(args.config, name, args.cfg_options)
    missing = missing_data(cfg)
    if missing is not None:
        return f'left out, no {missing}'
    key = key_of(cfg, args.checkpoint)
    folder = args.work_dir / f'{name}_{name_of(key)}'
    kept = load_result(folder / 'result.json', key)
    if kept is None:
        with claim(folder, key) as lock:
            cfg.dump(folder / 'config.py')
            arguments = [folder / 'config.py', args.checkpoint, '--work-dir', folder]
            script, log = stock_script('test.py', 'mmseg'), folder / 'test.log'
            run_script(script, arguments, log, threads=args.threads, lock=lock)
            found = score(log)
            if found is None:
                return f'no mIoU in {log}'
            kept = dict(mIoU=found)
            save_result(folder / 'result.json', key, kept)
    return kept['mIoU']


def score(log: Path) -> float | None:
    """Score (mIoU) in the output of a test."""
    text = log.read_text(encoding='utf-8', errors='replace')
    found = re.findall(r'\bmIoU: +([0-9.]+|nan)\b', text)
    return float(found[-1]) if found else None


def table(name: str, results: dict[str, float | str]) -> str:
    """The row, in markdown."""
    scores = [f'{results[s]:.1f}' if isinstance(results.get(s), float) else '' for s in SETS]
    return '\n'.join(
        (
            f'| model | {" | ".join(SETS.values())} |',
            '|---' * (len(SETS) + 1) + '|',
            f'| {name} | {" | ".join(scores)} |',
        )
    )


def main() -> None:
    """Command line."""
    args, console, results = parse_args(), Console(), {}
    for name in args.sets:
        with console.status(f'{SETS[name]} ...'):
            results[name] = test(args, name)
        console.print(f'{SETS[name]}: {results[name]}', markup=False, soft_wrap=True)
    console.print(table(args.config.stem, results), markup=False, soft_wrap=True)


if __name__ == '__main__':
    main()
