"""Configuration of the documentation: `make docs` writes docs/_build/html."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from hyper_mm.registry import COMPONENTS
from hyper_mm.version import __version__

project = 'hyper_mm'
author = 'The hyper_mm contributors'
version = release = __version__

extensions = [
    'myst_parser',  # the pages are Markdown, as the files of a repository are read
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
]
exclude_patterns = ['_build']
html_theme = 'furo'  # kept up, readable on a telephone, search without a server
html_title = f'hyper_mm {version}'
html_static_path = ['_static']
html_css_files = ['tables.css']

myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_heading_anchors = 4

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_default_options = {'show-inheritance': True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
FILES = {
    'CONTRIBUTING.md': 'contributing',
    'SECURITY.md': 'security',
    **{
        f'configs/{path.parent.name}/README.md': f'configs/{path.parent.name}'
        for path in sorted(ROOT.glob('configs/*/README.md'))
    },
}
"""Files outside of this folder that are pages of the site."""
LINK = re.compile(r'\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)')
KINDS = {
    'model': 'Models, necks, heads, losses, adapters',
    'dataset': 'Data sets',
    'transform': 'Transforms',
    'metric': 'Metrics',
    'hook': 'Hooks',
    'loop': 'Loops',
}
"""Headings of the registries in the list of components; the others come under their own names."""


def rewrite_links(text: str, place: Path, page: str) -> str:
    """Turns links between files of the repository into links between pages of the site.

    Args:
        text: A page in Markdown.
        place: Folder that its links are relative to.
        page: Name of the page, that they shall be relative to.

    Returns:
        The page. Links to files without a page offer the file; folders become plain text.
    """

    def rewrite(match: re.Match) -> str:
        label, target, anchor = match[1], match[2], match[3] or ''
        path = (place / target).resolve()
        if ':' in target or not path.is_relative_to(ROOT):
            return match[0]
        if path.is_dir():
            return label
        known = FILES.get(path.relative_to(ROOT).as_posix())
        path = DOCS / f'{known}.md' if known else path
        return f'[{label}]({os.path.relpath(path, (DOCS / page).parent)}{anchor})'

    return LINK.sub(rewrite, text)


def list_of_components() -> str:
    """The table of all registered components, by registry, with the first line of each."""
    lines = ['# Components', '']
    lines += [
        "What `type='hyper_mm.X'` may name. A component loads when a config first names it.",
        '',
    ]
    for kind, rows in COMPONENTS.items():
        lines += [f'## {KINDS.get(kind, kind.capitalize())}', '']
        for name, (module, *_) in sorted(rows.items()):
            module = f'hyper_mm.{module}'
            found = getattr(import_module(module), name)
            lines += ['```{eval-rst}', f'.. autoclass:: {found.__module__}.{name}', '```', '']
    return '\n'.join(lines)


def read_source(app, page: str, source: list[str]) -> None:
    """Fills the pages that are files of other folders, and mends the links of all."""
    file = next((file for file, name in FILES.items() if name == page), None)
    text, place = source[0], (DOCS / page).parent
    if file is not None:
        text, place = (ROOT / file).read_text(encoding='utf-8'), (ROOT / file).parent
    elif page == 'api/components':
        text = list_of_components()
    source[0] = rewrite_links(text, place, page)


def write_stubs(app) -> None:
    """Makes a file for each page that is filled from elsewhere, so that Sphinx finds it."""
    for name in [*FILES.values(), 'api/components']:
        path = DOCS / f'{name}.md'
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text('filled by docs/conf.py\n', encoding='utf-8')


def setup(app) -> None:
    """Connects the above with Sphinx."""
    app.connect('builder-inited', write_stubs)
    app.connect('source-read', read_source)
