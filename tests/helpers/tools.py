"""Loads the scripts of ``tools/`` as modules."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

TOOLS = Path(__file__).resolve().parents[2] / 'tools'


def load_tool(name: str) -> ModuleType:
    """Loads a script, and the scripts beside it that it imports, all anew.

    Args:
        name: Path in ``tools/``, such as ``'experiments/compare_arms.py'``. The scripts beside it
            become modules of the name of their file, as they are where Python runs the script.
    """
    return _load(TOOLS / name, f'tool_{Path(name).stem}')


def _load(path: Path, name: str) -> ModuleType:
    for sibling in siblings(path):
        _load(sibling, sibling.stem)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def siblings(path: Path) -> list[Path]:
    """Scripts in the same folder that a script imports when it is loaded."""
    names = []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.append(node.module)
    found = [path.with_name(f'{name}.py') for name in names]
    return [sibling for sibling in found if sibling.is_file()]
