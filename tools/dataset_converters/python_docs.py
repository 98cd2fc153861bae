"""Collects the English text that every Python carries: language reference and docstrings.

    python tools/dataset_converters/python_docs.py data/pydoc/pydoc.jsonl
    python tools/dataset_converters/tokenize_text.py data/pydoc_tokens data/pydoc/pydoc.jsonl
        --columns text --group source --val-share 0.1 --tune-share 0.05 --compact

No download is needed. The texts are those of `help()` (`pydoc_data.topics`, chapters of the
language reference) and the docstrings of the standard library's modules written in Python; both are
under the PSF license. Modules are parsed, not imported; parts that distributions leave out (tests,
IDLE, tkinter) are not read. A row holds `text` and `source`, a topic or a file, by which the splits
are made: what belongs together stays together. Topics repeat paragraphs of each other: a paragraph
is kept in the longest topic that has it. A docstring that occurs several times is kept once.

The text depends on the Python version alone (3.11.7:
sha256 f0014d59...); what is printed says which it is. Python 3.10 or newer.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import platform
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

OPTIONAL = {'ensurepip', 'idlelib', 'lib2to3', 'test', 'tkinter', 'turtledemo'}
"""Modules that some distributions leave out."""
OTHERS = {'distutils', 'pydoc_data', 'this'}
"""Modules that later versions lack, that hold the topics, or a riddle."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def topics() -> Iterator[tuple[str, str]]:
    """Topics of ``help()``, the longest first, without the paragraphs of those before."""
    from pydoc_data.topics import topics as texts

    seen: set[str] = set()
    for name, text in sorted(texts.items(), key=lambda item: (-len(item[1]), item[0])):
        new = [part for part in text.split('\n\n') if part.strip() and part.strip() not in seen]
        seen.update(part.strip() for part in new)
        if new:
            yield f'topics/{name}', '\n\n'.join(new)


def docstrings(library: Path) -> Iterator[tuple[str, str]]:
    """Docstrings of the modules in a folder, in the order of files and lines, each once.

    Args:
        library: Folder of the standard library.

    Yields:
        File and docstring.
    """
    seen: set[str] = set()
    names = sorted(sys.stdlib_module_names - OPTIONAL - OTHERS)
    for name in names:
        package = sorted((library / name).rglob('*.py'), key=lambda path: path.as_posix())
        for file in package or [library / f'{name}.py']:
            source = file.relative_to(library)
            if not file.is_file() or {'test', 'tests'} & {*source.parts}:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                tree = ast.parse(file.read_bytes())
            nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
            for node in sorted(nodes, key=lambda node: getattr(node, 'lineno', 0)):
                text = ast.get_docstring(node)
                if text and text not in seen:
                    seen.add(text)
                    yield source.as_posix(), text


def convert(out: str | Path, library: str | Path | None = None) -> dict[str, int | str]:
    """Writes the texts, a row of JSON each.

    Args:
        out: File to write; one that is there is replaced.
        library: Folder of the standard library; None: that of this Python.

    Returns:
        Number of ``texts``, of their ``characters``, and the ``sha256`` of the file.

    Raises:
        FileNotFoundError: If the library is not there as files (a frozen or zipped Python).
        RuntimeError: In Python 3.9, which does not know the names of its modules.
    """
    if not hasattr(sys, 'stdlib_module_names'):
        raise RuntimeError(f'Python must be 3.10 or newer, got {platform.python_version()}')
    library = Path(library or sysconfig.get_paths()['stdlib'])
    if not (library / 'ast.py').is_file():
        raise FileNotFoundError(f'{library} holds no standard library as files')
    rows = [*topics(), *docstrings(library)]
    lines = (json.dumps(dict(source=source, text=text)) + '\n' for source, text in rows)
    content = ''.join(lines).encode()
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f'part-{out.name}')
    part.write_bytes(content)
    part.replace(out)
    return dict(
        texts=len(rows),
        characters=sum(len(text) for _, text in rows),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='file to write (.jsonl)')
    args = parser.parse_args()
    try:
        found = convert(args.out)
    except (FileNotFoundError, RuntimeError) as error:
        raise SystemExit(f'{Path(__file__).name}: {error}') from error
    print(
        f'Python {platform.python_version()}: {found["texts"]:,} texts of '
        f'{found["characters"]:,} characters, sha256 {found["sha256"]}'
    )


if __name__ == '__main__':
    main()
