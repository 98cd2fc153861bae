"""Writes the tables of configs and the files that `mim` reads, from the headers of the configs.

    python tools/analysis_tools/config_index.py           # write
    python tools/analysis_tools/config_index.py --check   # exit with 1 if a file is out of date

A header has the title in its first line, the command in the second and the result in the third:

    # Hi-Mapper, DeiT-S + UPerNet on ADE20K.
    #   python tools/train.py configs/himapper/himapper_deit-s_ade20k.py
    # Result: not trained (paper: 46.3 mIoU)

For each folder of a method it writes the table of its README.md, between the marks of that file,
and its metafile.yml; for all of them model-index.yml at the top.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = '<!-- configs -->', '<!-- end of configs -->'
PAPERS = {
    'efficientnet_lite': (
        'EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks',
        'https://arxiv.org/abs/1905.11946',
    ),
    'helm': (
        'HELM: Hyperbolic Large Language Models via Mixture-of-Curvature Experts',
        'https://arxiv.org/abs/2505.24722',
    ),
    'himapper': (
        'Improving Visual Recognition with Hyperbolical Visual Hierarchy Mapping',
        'https://arxiv.org/abs/2404.00974',
    ),
    'hyperbolic': (
        'Fully Hyperbolic Convolutional Neural Networks for Computer Vision',
        'https://arxiv.org/abs/2303.15919',
    ),
    'hyperclip': (
        'Understanding Fine-tuning CLIP for Open-vocabulary Semantic Segmentation in Hyperbolic '
        'Space',
        None,
    ),
    'lathadapter': ('LatHAdapter: latent hierarchical adapters of vision-language models', None),
    'lite_clip': (
        'Extract Free Dense Labels from CLIP',
        'https://arxiv.org/abs/2112.01071',
    ),
    'lorentz_vit': (
        'HELM: Hyperbolic Large Language Models via Mixture-of-Curvature Experts',
        'https://arxiv.org/abs/2505.24722',
    ),
    'metaseg': (
        'FedDG: Federated Domain Generalization on Medical Image Segmentation via Episodic '
        'Learning in Continuous Frequency Space',
        'https://arxiv.org/abs/2103.06030',
    ),
    'radial': (
        'Emergent Visual-Semantic Hierarchies in Image-Text Representations',
        'https://arxiv.org/abs/2407.08521',
    ),
}
"""Title and address of the paper of each folder."""
VARIANTS = (
    '3x', 'cls', 'det', 'finetune', 'frequent', 'mixed', 'mmseg-base', 'mode-a', 'parts', 'text',
)  # fmt: skip
"""What stands behind the data set in the name of a config."""
COMMAND = re.compile(r'#   (?:\S+ )*?python tools/(train|test)\.py (configs/\S+\.py)')
FIGURE = re.compile(
    r'([\d.]+)(?: ± [\d.]+)? (% top-1|mIoU|Dice|box AP50)|(perplexity|leaf purity|tau_d) ([\d.]+)'
)
TASKS = {
    'top-1': 'Image Classification',
    'mIoU': 'Semantic Segmentation',
    'Dice': 'Semantic Segmentation',
    'box AP50': 'Object Detection',
    'perplexity': 'Language Modeling',
    'leaf purity': 'Part Discovery',
    'tau_d': 'Hierarchical Retrieval',
}
"""Task of each metric, as metafiles name it."""


@dataclass(frozen=True)
class Header:
    """What the first three lines of a config say.

    Attributes:
        path: Path of the config below the project.
        title: What it is.
        command: The command that trains it, or tests it where there is nothing to train.
        result: What it reached, or that it was not trained.
    """

    path: str
    title: str
    command: str
    result: str

    @property
    def figures(self) -> dict[str, float]:
        """Figures that were measured, by their metrics; none for a config that was not trained."""
        if self.result.startswith('not '):
            return {}
        found = (m.groups() for m in FIGURE.finditer(self.result.split(' (')[0]))
        return {(b or c).strip('% '): float(a or d) for a, b, c, d in found}


def read_header(path: Path, root: Path = ROOT) -> Header:
    """Reads the header of a config.

    Args:
        path: The config.
        root: The project.

    Returns:
        Its header.

    Raises:
        ValueError: If one of the three lines is missing, or the command is of another config.
    """
    first, second, third, *_ = [*path.read_text(encoding='utf-8').splitlines(), '', '', '']
    name = path.relative_to(root).as_posix()
    if not first.startswith('# ') or first.startswith('#   '):
        raise ValueError(f'{name}: the first line must be the title, got {first!r}')
    command = COMMAND.match(second)
    if command is None or Path(command[2]).name != path.name:
        raise ValueError(f'{name}: the second line must be its command, got {second!r}')
    if not third.startswith('# Result: '):
        raise ValueError(f'{name}: the third line must start with "# Result: ", got {third!r}')
    return Header(name, first[2:].strip(), second[4:].strip(), third[len('# Result: ') :].strip())


def read_headers(folder: Path, root: Path = ROOT) -> list[Header]:
    """Headers of the configs of a method, by name."""
    return [read_header(path, root) for path in sorted(folder.glob('*.py'))]


def linked(text: str) -> str:
    """Makes links of the paths in a result, as seen from the folder of a method."""
    return re.sub(r'docs/[\w./-]+\.md', lambda m: f'[{Path(m[0]).name}](../../{m[0]})', text)


def table(headers: list[Header]) -> str:
    """The table of a method's configs."""
    rows = [
        f'| [{Path(h.path).stem}]({Path(h.path).name}) | {h.title} | {linked(h.result)} |'
        for h in headers
    ]
    return '\n'.join(['| config | what it is | result |', '|---|---|---|', *rows])


def with_table(text: str, headers: list[Header], name: str) -> str:
    """The text of a README with the table between its marks.

    Raises:
        ValueError: If the marks are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f'{name} must hold the lines {BEGIN} and {END}')
    return f'{head}{BEGIN}\n\n{table(headers)}\n\n{END}{tail}'


def metafile(method: str, headers: list[Header]) -> str:
    """Text of the metafile.yml of a method."""
    title, address = PAPERS[method]
    paper = dict(Title=title, **(dict(URL=address) if address else {}))
    collection = dict(Name=method, Paper=paper, README=f'configs/{method}/README.md')
    models = []
    for header in headers:
        model = dict(Name=Path(header.path).stem, Config=header.path)
        model['In Collection'] = method
        model['Metadata'] = dict(Description=header.title, Result=header.result)
        if header.figures:
            dataset = [p for p in model['Name'].split('_') if p not in VARIANTS][-1]
            model['Results'] = [
                dict(Task=TASKS[metric], Dataset=dataset, Metrics={metric: value})
                for metric, value in header.figures.items()
            ]
        models.append(model)
    content = dict(Collections=[collection], Models=models)
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    source = 'tools/analysis_tools/config_index.py'
    return f'# Written by {source} from the headers of the configs.\n{text}'


def contents(root: Path = ROOT) -> dict[Path, str]:
    """All files that depend on the headers, and what they should hold."""
    found, imports = {}, []
    for method in sorted(PAPERS):
        folder = root / 'configs' / method
        headers = read_headers(folder, root)
        readme = folder / 'README.md'
        found[readme] = with_table(readme.read_text(encoding='utf-8'), headers, str(readme))
        found[folder / 'metafile.yml'] = metafile(method, headers)
        imports.append(f'configs/{method}/metafile.yml')
    found[root / 'model-index.yml'] = yaml.safe_dump(dict(Import=imports))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(arguments)
    changed = [
        path
        for path, text in contents().items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    ]
    for path in changed:
        if args.check:
            print(f'out of date: {path.relative_to(ROOT)}', file=sys.stderr)
        else:
            path.write_text(contents()[path], encoding='utf-8')
            print(f'wrote {path.relative_to(ROOT)}')
    return int(args.check and bool(changed))


if __name__ == '__main__':
    sys.exit(main())
