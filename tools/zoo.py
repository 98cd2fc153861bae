"""Trains the small checkpoints of the zoo, tests them, and compares with the figures expected.

No checkpoint of this package can be downloaded; these take minutes each. tools/zoo.json says which
there are: config, data, figure and tolerance. Data that is not here (HYPER_MM_DATA or data) leaves
a checkpoint out, with the name of the folder. A run that was interrupted goes on, and one that is
done is not done again; where the config has changed it begins anew, and where it was other code
that made it, that is said.

    python tools/zoo.py --list
    python tools/zoo.py                                   # all that the data here allows
    python tools/zoo.py --only himapper_part-scenes
    python tools/zoo.py --record                          # write figure and hash to tools/zoo.json

For each checkpoint, weights, log and `result.json` are in a folder of its name below --work-dir;
`result.json` has the figure, the hash of the weights and the versions. Equal hashes are equal bits:
they depend on processor, threads and versions, the figures hardly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

REPO = Path(__file__).resolve().parents[1]
MANIFEST = Path(__file__).with_suffix('.json')
SEED = '0'


class Missing(Exception):
    """What a checkpoint needs is not here."""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--only', nargs='+', metavar='NAME', help='names of checkpoints; all if left out')
    add('--list', action='store_true', help='say what there is and how long it takes, and stop')
    add('--work-dir', type=Path, default=REPO / 'work_dirs' / 'zoo')
    add('--record', action='store_true', help='write what is measured to tools/zoo.json')
    add(
        '--iterations',
        type=int,
        metavar='N',
        help='train so many iterations only; the figure is then not compared',
    )
    return parser


def data_folder() -> Path:
    """Where the data of the configs is."""
    return Path(os.environ.get('HYPER_MM_DATA', 'data')).resolve()


def check(entry: dict[str, Any]) -> None:
    """Raises :class:`Missing` where data or a library is not here."""
    for folder in entry.get('needs', ()):
        if not (data_folder() / folder).is_dir():
            raise Missing(f'no data in {data_folder() / folder} (HYPER_MM_DATA)')
    for library in entry.get('libraries', ()):
        if importlib.util.find_spec(library) is None:
            raise Missing(f'{library} is not installed')


def run(script: str, arguments: Sequence[object], log: Path) -> str:
    """Runs a script of this project; returns what it printed.

    Args:
        script: Its path in the project.
        arguments: Its arguments.
        log: File for what it prints.
    """
    from hyper_mm.engine.runs import run_script

    run_script(REPO / script, [str(word) for word in arguments], log)
    return log.read_text(encoding='utf-8')


def options_of(entry: dict[str, Any], iterations: int | None, places: dict[str, Path]) -> list[str]:
    """The ``--cfg-options`` of a checkpoint, with folders filled in."""
    found = list(entry.get('options', ()))
    for loader, root in entry.get('roots', {}).items():
        found.append(f'{loader}.dataset.data_root={root.format(**places)}')
    if iterations is not None:
        found += [f'train_cfg.max_iters={iterations}', f'train_cfg.val_interval={iterations}']
    return ['--cfg-options', *found] if found else []


def digest(state: dict[str, torch.Tensor]) -> str:
    """Hash of weights: names, shapes and bits."""
    import hashlib

    import torch

    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        found.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint that a run of a folder ended with."""
    named = folder / 'last_checkpoint'
    path = Path(named.read_text(encoding='utf-8').strip()) if named.is_file() else None
    return path if path is not None and path.is_file() else None


def figure(text: str, metric: str) -> float:
    """The last value of a metric in the printout of tools/test.py.

    Raises:
        ValueError: If it is not there.
    """
    found = re.findall(rf'(?:^|\s){re.escape(metric)}: *([-+0-9.e]+|nan)', text)
    if not found:
        raise ValueError(f'the test printed no {metric}')
    return float(found[-1])


def make(name: str, entry: dict[str, Any], work: Path, iterations: int | None) -> dict[str, Any]:
    """Makes a checkpoint and tests it.

    Args:
        name: Its name.
        entry: What tools/zoo.json says of it.
        work: Folder of all of them.
        iterations: Fewer iterations than the config's; None: those.

    Returns:
        ``figure``, ``sha256`` of the weights (None where nothing is trained), ``checkpoint``,
        ``minutes``, ``versions`` and ``code``, its digest.
    """
    from mmengine.config import Config

    from hyper_mm.engine.launch import parse_options
    from hyper_mm.engine.records import claim, key_of

    folder = work / (name if iterations is None else f'{name}_{iterations}-iterations')
    places = dict(made=work / 'data', data=data_folder())
    config = REPO / 'configs' / entry['config']
    options = options_of(entry, iterations, places)
    cfg = Config.fromfile(config, import_custom_modules=False)
    cfg.merge_from_dict(parse_options(options[1:]))
    with claim(folder, dict(config=key_of(cfg)['config'])):  # what is of another config goes aside
        return make_in(folder, entry, places, config, options, iterations)


def make_in(
    folder: Path,
    entry: dict[str, Any],
    places: dict[str, Path],
    config: Path,
    options: list[str],
    iterations: int | None,
) -> dict[str, Any]:
    """Makes a checkpoint in a folder that is claimed for it; see :func:`make`."""
    from hyper_mm.engine.records import code_digest, package_versions, write_text

    made, work = places['made'], places['made'].parent
    result = folder / 'result.json'
    wanted = dict(entry={k: v for k, v in entry.items() if k in ('config', 'options')},
                  iterations=iterations)  # fmt: skip
    if result.is_file():
        old = json.loads(result.read_text(encoding='utf-8'))
        if old.get('wanted') == wanted and Path(old['checkpoint'] or result).is_file():
            return old
    started = time.monotonic()
    for what, script, *words in entry.get('makes', ()):
        if not (made / f'{what}.done').is_file():
            run(script, [word.format(**places) for word in words], work / f'{what}.log')
            write_text(made / f'{what}.done', '')
    checkpoint, sha = None, None
    if entry.get('trained', True):
        given = [config, '--work-dir', folder, '--seed', SEED, '--resume', *options]
        run('tools/train.py', given, folder / 'train.log')
        checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            raise FileNotFoundError(f'{folder} has no checkpoint after its training')
        from hyper_mm.checkpoints import load_from_local

        sha = digest(load_from_local(str(checkpoint))['state_dict'])
    options = options_of(entry, None, places)
    given = [config, checkpoint or 'none', '--work-dir', folder / 'test', *options]
    text = run('tools/test.py', given, folder / 'test.log')
    found = dict(
        wanted=wanted,
        figure=figure(text, entry['metric']),
        sha256=sha,
        checkpoint=checkpoint and str(checkpoint),
        minutes=round((time.monotonic() - started) / 60, 1),
        versions=package_versions(),
        code=code_digest(),
    )
    write_text(result, json.dumps(found, indent=1) + '\n')
    return found


def verdict(entry: dict[str, Any], found: dict[str, Any]) -> tuple[bool, str]:
    """Compares a checkpoint with what is expected.

    Args:
        entry: What tools/zoo.json says of it.
        found: See :func:`make`.

    Returns:
        Whether the figure is as expected, and a sentence.
    """
    from hyper_mm.engine.records import code_digest

    value = f'{entry["metric"]} {found["figure"]:.4g}'
    if found.get('code', code_digest()) != code_digest():
        value += ' (made by other code; delete its folder to make it anew)'
    if found['wanted']['iterations'] is not None:
        return True, f'{value} after {found["wanted"]["iterations"]} iterations, not compared'
    if entry.get('expected') is None:
        return True, f'{value}; none is recorded'
    off = abs(found['figure'] - entry['expected'])
    good = off <= entry['tolerance']
    text = f'{value}, expected {entry["expected"]} ± {entry["tolerance"]}'
    if entry.get('sha256') and found['sha256']:
        same = entry['sha256'] == found['sha256']
        text += '; weights as recorded' if same else '; other bits than recorded'
    return good, text if good else f'{text}: NOT as expected'


def print_list(entries: dict[str, dict[str, Any]]) -> None:
    """Prints all checkpoints, and which cannot be made here."""
    for name, entry in entries.items():
        try:
            check(entry)
            state = ''
        except Missing as error:
            state = f'; not here: {error}'
        figure = 'no figure yet' if entry['expected'] is None else f'{entry["expected"]}'
        print(f'{name}: {entry["minutes"]} minutes, {entry["metric"]} {figure}{state}')


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the number of checkpoints that are not as expected."""
    parser = build_parser()
    args = parser.parse_args(argv)
    manifest = json.loads(MANIFEST.read_text(encoding='utf-8'))
    entries = manifest['checkpoints']
    unknown = sorted(set(args.only or ()) - entries.keys())
    if unknown:
        parser.error(f'--only {" ".join(unknown)}: the zoo has {", ".join(entries)}')
    if args.record and args.iterations is not None:
        parser.error('--record needs whole trainings, without --iterations')
    chosen = {k: v for k, v in entries.items() if args.only is None or k in args.only}
    if args.list:
        print_list(chosen)
        return 0
    from hyper_mm.engine.records import write_text

    work, wrong = args.work_dir.resolve(), 0
    for name, entry in chosen.items():
        try:
            check(entry)
        except Missing as error:
            print(f'{name}: left out, {error}', flush=True)
            continue
        print(f'{name}: about {entry["minutes"]} minutes, log in {work / name}', flush=True)
        found = make(name, entry, work, args.iterations)
        good, text = verdict(entry, found)
        wrong += not good
        print(f'    {text}; {found["checkpoint"] or "nothing is trained"}', flush=True)
        if args.record:
            entry.update(expected=found['figure'], sha256=found['sha256'], source='tools/zoo.py')
            entry.update(minutes=found['minutes'], versions=found['versions'])
            write_text(MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + '\n')
    return wrong


if __name__ == '__main__':
    sys.exit(main())
