"""Reading of texts, JSON, csv and paths: what is read, and what is refused with its place."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_mm.datasets.files import csv_rows, is_integer, parse_json, read_json, read_text, relative

from ..helpers.fuzz import FAST, JSON


def test_texts(tmp_path):
    path = tmp_path / 'a.txt'
    path.write_bytes('\ufeffä\r\nb'.encode())
    assert read_text(path) == 'ä\r\nb'
    path = tmp_path / 'a.txt.gz'
    path.write_bytes(gzip.compress('ä'.encode()))
    assert read_text(path) == 'ä'
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r'a\.txt\.gz is no whole gzip file'):
        read_text(path)
    path = tmp_path / 'b.txt'
    path.write_bytes('one\ntwö\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'b\.txt, line 2 must be UTF-8, got byte 0xf6'):
        read_text(path)
    with pytest.raises(FileNotFoundError, match='none does not exist'):
        read_text(tmp_path / 'none')


@pytest.mark.parametrize(
    'text, message',
    [
        ('{"a": 1', r'x\.json is no JSON: .* line 1 column 8'),
        ('[1]', r'x\.json must hold an object, got list'),
        ('{"a": 1, "a": 2}', r"x\.json: a key occurs twice: 'a'"),
        ('{"a": NaN}', r'x\.json: numbers must be finite, got NaN'),
        ('[' * 100000, 'nested too deeply'),
    ],
)
def test_bad_json(tmp_path, text, message):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / 'x.json')


@given(JSON, st.sampled_from([dict, list]))
@FAST
def test_json_is_what_was_written_or_refused(value, kind):
    text = json.dumps(value)
    if isinstance(value, kind):
        assert parse_json(text, 'here', kind) == value
    else:
        with pytest.raises(ValueError, match='here must hold'):
            parse_json(text, 'here', kind)


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'here is empty'),
        ('a,a\n1,2\n', 'must have names that differ'),
        ('a,\n1,2\n', 'must have names'),
        ('a,b\n1,2\n3\n', 'here, line 3 must have 2 cells.*got 1'),
        ('a,b\n1,2,3\n', 'here, line 2 must have 2 cells.*got 3'),
        ('a,b\n1,"2\n3,4\n5,6\n', 'here, row that begins at line 2: .*quote'),
        ('a,b\n1,"2\n3,"4"\n5,6\n', 'here, row that begins at line 2: .*quote'),
    ],
)
def test_bad_csv(text, message):
    with pytest.raises(ValueError, match=message):
        list(csv_rows(text, 'here'))


def test_csv_cells_may_span_lines():
    rows = list(csv_rows('a,b\n"1\n2","x ""y"""\n\n3,4\n', 'here'))
    assert rows == [(3, dict(a='1\n2', b='x "y"')), (5, dict(a='3', b='4'))]


@given(st.text(alphabet='a,"\n\r ;=', max_size=40))
@FAST
def test_no_row_of_a_csv_is_merged_or_cut(text):
    try:
        rows = list(csv_rows(text, 'here'))
    except ValueError as error:
        assert str(error).startswith('here')
    else:
        assert all(row.keys() == rows[0][1].keys() for _, row in rows)


@pytest.mark.parametrize(
    'name',
    ['', ' ', '/etc/passwd', '../a', 'a/../../b', 'C:\\a', '\\a', 'a\\..\\b', 'a\0', 3, None],
)
def test_paths_that_leave_their_folder(name):
    with pytest.raises(ValueError, match='here: a path must'):
        relative(name, 'here')


@pytest.mark.parametrize('name', ['a', 'a/b.png', './a', '..a/b', 'a b', 'ä'])
def test_paths_below_their_folder(name):
    assert relative(name, 'here') == name


@pytest.mark.parametrize('value', [-1, 3, True, 1.0, '1', None])
def test_integers(value):
    assert not is_integer(value, 0, 3)
    assert is_integer(2, 0, 3) and is_integer(5)
