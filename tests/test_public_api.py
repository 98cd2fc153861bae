"""The public names and the arguments that they take, compared with the list public_api.txt.

``python -m tests.test_public_api`` writes the list anew.
"""

from __future__ import annotations

import ast
import difflib
import functools
import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import hyper_mm
from hyper_mm import layers, ops
from tests.conftest import REPO

LIST = Path(__file__).with_name('public_api.txt')
ADVICE = (
    'The public interface is not the one of tests/public_api.txt. If that is meant, write the list '
    'anew by `python -m tests.test_public_api` and add a line to docs/changelog.md; a name or an '
    'argument that goes or is renamed stays accepted for a release, with a DeprecationWarning.'
)
LINE = re.compile(r'hyper_mm(: \w+)?(\.\w+)+(\(.*\))?')


# what can be imported with torch alone: asked of the objects


def parameters(function) -> list[inspect.Parameter]:
    """Parameters of a function or of a class, those that ``**kwargs`` hand to its bases too."""
    if not isinstance(function, type) or issubclass(function, tuple):
        return list(inspect.signature(function).parameters.values())
    found: dict[str, inspect.Parameter] = {}
    for base in function.__mro__:
        if '__init__' not in vars(base):
            continue
        signature = inspect.signature(vars(base)['__init__'])
        own = list(signature.parameters.values())[1:]
        open_ended = [p for p in own if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        found |= {p.name: p for p in own if p not in open_ended and p.name not in found}
        if not open_ended:
            break
    return list(found.values())


def arguments(function) -> str:
    """``(dim, num_levels=4)``: arguments and their defaults."""
    shown = [p.replace(annotation=p.empty, kind=p.KEYWORD_ONLY) for p in parameters(function)]
    return f'({", ".join(map(str, shown))})'


def importable() -> list[str]:
    """Lines of ``hyper_mm``, ``hyper_mm.ops`` and ``hyper_mm.layers``."""
    lines = [f'hyper_mm.{name}' for name in hyper_mm.__all__]
    for part in ops.__all__:
        module = importlib.import_module(f'hyper_mm.ops.{part}')
        names = getattr(module, '__all__', None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, '__module__', None) == module.__name__ and name[0] != '_'
        ]
        for name in sorted(names):
            lines.append(f'hyper_mm.ops.{part}.{name}{arguments(getattr(module, name))}')
    for name in sorted(layers.__all__):
        lines.append(f'hyper_mm.layers.{name}{arguments(getattr(layers, name))}')
    return lines


# components: read from the source, since importing them takes all of OpenMMLab


@functools.cache
def module_of(name: str) -> ast.Module:
    path = REPO.joinpath(*name.split('.'))
    file = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    return ast.parse(file.read_text(encoding='utf-8'))


def origin(module: str, name: str) -> tuple[str, str]:
    """Where a name that a module uses comes from: full name of the module, and name there."""
    package = module.split('.')[:-1]
    for node in ast.walk(module_of(module)):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = '.'.join([*above, *filter(None, [node.module])])
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return source, alias.name
    return module, name


def class_of(module: str, name: str) -> ast.ClassDef:
    for node in module_of(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    raise LookupError(f'{module} defines no class {name}')


def hands_on(initialize: ast.FunctionDef) -> bool:
    """Whether a constructor hands what it does not know to that of its bases."""
    for call in ast.walk(initialize):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == 'super().__init__':
            more = [x.value for x in call.args if isinstance(x, ast.Starred)]
            more += [x.value for x in call.keywords if x.arg is None]
            if any(isinstance(x, ast.Name) for x in more):
                return True
    return False


def constructor(module: str, name: str) -> dict[str, str]:
    """Arguments of a class and their defaults, ``''`` for none; ``**`` for what others take."""
    kind = class_of(module, name)
    found: dict[str, str] = {}
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name == '__init__':
            args = node.args
            positional = [*args.posonlyargs, *args.args]
            defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
            pairs = [*zip(positional, defaults), *zip(args.kwonlyargs, args.kw_defaults)][1:]
            found = {a.arg: '' if d is None else f'={ast.unparse(d)}' for a, d in pairs}
            if not hands_on(node):
                return found if args.kwarg is None else {**found, f'**{args.kwarg.arg}': ''}
    for base in kind.bases:
        place, last = through(module, *ast.unparse(base).split('[')[0].rpartition('.')[::2])
        if place.split('.')[0] == 'hyper_mm':
            found |= {k: v for k, v in constructor(place, last).items() if k not in found}
        elif last not in ('object', 'ABC'):
            found[f'**{last}'] = ''
    return found


def through(module: str, prefix: str, name: str) -> tuple[str, str]:
    """Module and name of the definition of ``name`` or ``prefix.name`` that a module uses."""
    if prefix:
        source, part = origin(module, prefix)
        module = prefix if (source, part) == (module, prefix) else f'{source}.{part}'
    while module.split('.')[0] == 'hyper_mm':
        place = origin(module, name)
        if place == (module, name):
            break
        module, name = place
    return module, name


def components() -> list[str]:
    """Lines of all registered components."""
    registry = pytest.importorskip('hyper_mm.registry', reason='needs mmengine')
    lines = []
    for kind, rows in registry.COMPONENTS.items():
        for name, (module, *_) in sorted(rows.items()):
            found = constructor(*through(f'hyper_mm.{module}', '', name))
            listed = ', '.join(f'{k}{v}' for k, v in found.items())
            lines.append(f'hyper_mm: {kind.replace(" ", "_")}.{name}({listed})')
    return lines


def written() -> list[str]:
    """What the list should hold."""
    return [*importable(), *components()]


def differences(frozen: list[str], now: list[str]) -> list[str]:
    """Lines that are gone (``-``) and lines that are new (``+``)."""
    return [x for x in difflib.ndiff(frozen, now) if x[0] in '+-']


def test_the_public_interface_is_the_one_of_the_list():
    frozen = LIST.read_text(encoding='utf-8').splitlines()
    found = differences(frozen, written())
    assert not found, '\n'.join([ADVICE, *found])


def test_lines_are_readable_and_differ():
    lines = LIST.read_text(encoding='utf-8').splitlines()
    assert len(set(lines)) == len(lines)
    assert not [line for line in lines if not LINE.fullmatch(line)]


def test_a_change_is_found():
    frozen = ['hyper_mm.layers.A(dim, width=3)', 'hyper_mm.layers.B()']
    now = ['hyper_mm.layers.A(dim, width=4)', 'hyper_mm.layers.B()', 'hyper_mm.layers.C()']
    assert differences(frozen, now) == [f'- {frozen[0]}', f'+ {now[0]}', f'+ {now[2]}']


def test_arguments_pass_through_bases():
    class Base:
        def __init__(self, dim: int, *, depth: int = 2):
            self.size = dim, depth

    class Open(Base):
        def __init__(self, *args, width: float = 0.5, **kwargs):
            super().__init__(*args, **kwargs)
            self.width = width

    assert arguments(Open) == '(width=0.5, dim, depth=2)'


@pytest.mark.slow
def test_arguments_read_from_the_source_are_those_of_the_classes():
    """The classes take every argument that the list names."""
    for library in ('mmseg', 'mmdet', 'mmpretrain', 'open_clip'):
        pytest.importorskip(library)
    from hyper_mm.near_misses import arguments_of
    from hyper_mm.registry import COMPONENTS, load_component

    for rows in COMPONENTS.values():
        for name, (module, *libraries) in rows.items():
            if all(importlib.util.find_spec(library) for library in libraries):
                found = constructor(*through(f'hyper_mm.{module}', '', name))
                known = arguments_of(load_component(name, module))
                assert {x for x in found if x[0] != '*'} <= known, name


if __name__ == '__main__':
    LIST.write_text('\n'.join([*written(), '']), encoding='utf-8')
