"""The package as a whole: mirrored tests, imports that run one way, no edits of ``sys.path``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import REPO

PACKAGE = REPO / 'hyper_mm'
FILES = {
    '.'.join(path.relative_to(REPO).with_suffix('').parts).removesuffix('.__init__'): path
    for path in sorted(PACKAGE.rglob('*.py'))
    if '.mim' not in path.parts
}
# from what needs nothing to what needs everything; a part imports parts before it, and itself
ORDER = (
    {
        'version',
        'compat',
        'near_misses',
        'checkpoint_types',
        'checks',
        'deprecation',
        'tensor_files',
    },
    {'ops'},
    {'layers'},
    {'package_weights', 'checkpoints', 'riemannian'},
    {'loaders', 'engine.records', 'engine.file_backend'},
    {'registry'},
    {'datasets'},
    {'evaluation'},
    {'models', 'deploy', 'doctor'},
    {'visualization'},
    {'engine'},
)
LAZY = {('hyper_mm.registry', 'hyper_mm.models.stock')}  # inside a function, on the first request
EDITS = {
    'hyper_mm/engine/runs.py'
}  # load_script: a script finds those beside it, as if it were run


def imports(source: str, name: str, package: bool) -> Iterator[str]:
    """Dotted names that a module imports anywhere, type checking and functions included."""
    inside = name if package else name.rpartition('.')[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = inside.split('.') if node.level else []
            parts = parts[: len(parts) - node.level + 1]
            base = '.'.join([*parts, *([node.module] if node.module else [])])
            yield from (f'{base}.{alias.name}' for alias in node.names)


def imported(name: str) -> set[str]:
    """Modules of this package that one of them imports."""
    path = FILES[name]
    found = set()
    for full in imports(path.read_text(encoding='utf-8'), name, path.name == '__init__.py'):
        if full.split('.')[0] == 'hyper_mm':
            found.add(full if full in FILES else full.rpartition('.')[0])
    return found - {name}


def rank(name: str) -> int:
    """Place of a module in ORDER, by its longest name in it; the package itself is last."""
    parts = name.split('.')[1:]
    for length in range(len(parts), 0, -1):
        for place, names in enumerate(ORDER):
            if '.'.join(parts[:length]) in names:
                return place
    assert name == 'hyper_mm', f'{name} is in no part of ORDER'
    return len(ORDER)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, in turn; none if there is no cycle."""
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next(filter(None, (visit(x, [*path, name]) for x in sorted(graph[name]))), [])
        done.add(name)
        return found

    return next(filter(None, (visit(name, []) for name in graph)), [])


def test_each_module_has_its_test_at_the_mirrored_place():
    missing = []
    for path in FILES.values():
        *folders, name = path.relative_to(PACKAGE).parts
        test = REPO.joinpath('tests', *(f'test_{folder}' for folder in folders), f'test_{name}')
        if not name.startswith('__') and not test.is_file():
            missing.append(str(test.relative_to(REPO)))
    assert not missing


def test_imports_run_one_way():
    wrong = [
        (name, other)
        for name in FILES
        for other in imported(name)
        if rank(other) > rank(name) and (name, other) not in LAZY
    ]
    assert not wrong


def test_no_module_imports_one_that_imports_it():
    assert cycle({name: imported(name) for name in FILES}) == []


def test_a_cycle_is_found():
    graph = dict(a={'b'}, b={'c'}, c={'d', 'b'}, d=set())
    assert cycle(graph) == ['b', 'c', 'b']
    source = 'from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..x import y\n'
    assert 'p.x.y' in set(imports(source, 'p.q.r', False))
    assert 'p.q.x.y' in set(imports(source, 'p.q.r', True))


@pytest.mark.parametrize('part', ['ops', 'layers'])
def test_ops_and_layers_import_torch_alone(part):
    allowed = {'torch', 'hyper_mm', *sys.stdlib_module_names}
    for name, path in FILES.items():
        if name.split('.')[1:2] == [part]:
            source = path.read_text(encoding='utf-8')
            found = {x.split('.')[0] for x in imports(source, name, path.name == '__init__.py')}
            assert found <= allowed, name


@pytest.mark.parametrize('folder', ['hyper_mm', 'tools'])
def test_private_names_stay_in_their_file(folder):
    for path in sorted((REPO / folder).rglob('*.py')):
        if '.mim' in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and (
                node.level or (node.module or '').startswith('hyper_mm')
            ):
                names = [alias.name for alias in node.names]
                assert not [x for x in names if x[0] == '_' and x[:2] != '__'], path


def edits_the_path(source: str) -> bool:
    """Whether a script changes ``sys.path``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = ast.unparse(node.func.value)
            if target == 'sys.path' and node.func.attr in ('insert', 'append', 'extend'):
                return True
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.Delete)):
            targets = [node.target] if isinstance(node, ast.AugAssign) else node.targets
            if any(ast.unparse(x).startswith('sys.path') for x in targets):
                return True
    return False


def test_nothing_edits_the_path_of_imports():
    found = {
        path.relative_to(REPO).as_posix()
        for folder in (PACKAGE, REPO / 'tools')
        for path in folder.rglob('*.py')
        if '.mim' not in path.parts and edits_the_path(path.read_text(encoding='utf-8'))
    }
    assert found == EDITS


@pytest.mark.parametrize(
    'source, edits',
    [
        ('import sys\nsys.path.insert(0, "x")', True),
        ('import sys\nsys.path[:0] = ["x"]', True),
        ('import sys\nsys.path += ["x"]', True),
        ('import sys\nprint(sys.path)\nhere = sys.path[0]', False),
    ],
)
def test_edits_are_found(source, edits):
    assert edits_the_path(source) == edits


def test_files_are_of_readable_length():
    folders = (PACKAGE, REPO / 'tools', REPO / 'tests')
    files = {p for folder in folders for p in folder.rglob('*.py') if '.mim' not in p.parts}
    lengths = {p: len(p.read_text(encoding='utf-8').splitlines()) for p in files}
    assert not {str(p): n for p, n in lengths.items() if n > 550}


def test_readme_is_readable_as_text():
    lines = (REPO / 'README.md').read_text(encoding='utf-8').splitlines()
    assert not [line for line in lines if len(line) >= 120]


MODULES = {'Image', 'tarfile', 'gzip', 'zipfile', 'os', 'lzma', 'bz2'}
"""Whose ``open`` opens bytes if its mode does not say otherwise."""


def texts_without_encoding(source: str) -> list[str]:
    """Calls that open a file as text in the encoding of the machine, which is not always UTF-8."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg == 'encoding' for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ''
        if name in ('read_text', 'write_text'):
            found.append(ast.unparse(node))
        elif name == 'open' or ast.unparse(node.func) == 'open':
            own = not name or ast.unparse(node.func.value) in MODULES
            given = [k.value for k in node.keywords if k.arg == 'mode'] or node.args[own : own + 1]
            mode = getattr(given[0], 'value', 'b') if given else 'r'
            if 't' in str(mode) if name and own else 'b' not in str(mode):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize(
    'source, count',
    [
        ("p.read_text()\np.write_text('x')\np.read_text(encoding='utf-8')", 2),
        ("open(p)\nopen(p, 'w')\nopen(p, 'rb')\nopen(p, encoding='utf-8')\nopen(p, mode='r')", 3),
        ("p.open()\np.open('w', newline='')\np.open('ab')", 2),
        ("Image.open(p)\ngzip.open(p)\ngzip.open(p, 'rt')\ntarfile.open(p, 'w:gz')", 1),
    ],
)
def test_texts_without_encoding_are_found(source, count):
    assert len(texts_without_encoding(source)) == count


def test_texts_are_opened_as_utf_8():
    left = {'.mim', 'experiments', 'benchmarks'}  # tools that read what they wrote themselves
    folders = (REPO / 'hyper_mm', REPO / 'tools')
    files = {p for folder in folders for p in folder.rglob('*.py') if not left & {*p.parts}}
    found = {str(p): texts_without_encoding(p.read_text(encoding='utf-8')) for p in sorted(files)}
    assert not {path: calls for path, calls in found.items() if calls}
