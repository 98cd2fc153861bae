"""The converter of Python's own documentation."""

from __future__ import annotations

import hashlib
import json
import sys

import pytest

from tests.helpers.tools import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('dataset_converters/python_docs.py')


@pytest.fixture
def library(tmp_path):
    """A library of a module, a package with tests, and modules that are not read."""
    files = {
        'ast.py': '"""Trees."""\ndef f():\n    """Does\n    f."""\nclass A:\n    """Trees."""\n',
        'json/__init__.py': '"""Numbers \u03c0."""\nasync def g():\n    """Waits."""\n',
        'json/test/a.py': '"""A test."""\n',
        'tkinter/__init__.py': '"""Windows."""\n',
        'mine.py': '"""No part of Python."""\n',
    }
    for name, text in files.items():
        path = tmp_path / 'lib' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    return tmp_path / 'lib'


def test_docstrings(tool, library):
    assert list(tool.docstrings(library)) == [
        ('ast.py', 'Trees.'),
        ('ast.py', 'Does\nf.'),
        ('json/__init__.py', 'Numbers \u03c0.'),
        ('json/__init__.py', 'Waits.'),
    ]


def test_a_paragraph_is_in_one_topic(tool):
    from pydoc_data.topics import topics

    kept = [{part.strip() for part in text.split('\n\n')} for _, text in tool.topics()]
    assert sum(map(len, kept)) == len(set.union(*kept))
    assert set.union(*kept) == {
        p.strip() for t in topics.values() for p in t.split('\n\n') if p.strip()
    }


def test_file(tool, library, tmp_path):
    out = tmp_path / 'new' / 'pydoc.jsonl'
    found = tool.convert(out, library)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert found['texts'] == len(rows) and rows[-1] == dict(
        source='json/__init__.py', text='Waits.'
    )
    assert found['characters'] == sum(len(row['text']) for row in rows)
    assert found['sha256'] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert tool.convert(out, library) == found and [*out.parent.iterdir()] == [out]


def test_what_cannot_be_read(tool, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match='holds no standard library as files'):
        tool.convert(tmp_path / 'a.jsonl', tmp_path)
    monkeypatch.delattr(sys, 'stdlib_module_names')
    with pytest.raises(RuntimeError, match='must be 3.10 or newer'):
        tool.convert(tmp_path / 'a.jsonl')
    assert not (tmp_path / 'a.jsonl').exists()
