"""Text files to files of ids: formats, splits, renumbering, going on after a kill."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip('mmengine')
pytest.importorskip('open_clip')

from hyper_mm.datasets import text_tokenizers  # noqa: E402
from hyper_mm.datasets.text_tokenizers import build_tokenizer, tokenizer_of  # noqa: E402
from tests.helpers.fuzz import FAST, changed, damaged, reads  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture(scope='module')
def tool():
    return load_tool('dataset_converters/tokenize_text.py')


def convert(tool, out, *arguments):
    return tool.convert(tool.parse_args([str(out), *map(str, arguments), '--quiet']))


def texts(folder, split):
    """Texts of the documents of a split."""
    tokenizer = tokenizer_of(folder)
    dtype = json.loads((folder / 'meta.json').read_text())['dtype']
    ids = np.fromfile(folder / f'{split}.bin', dtype)
    ends = np.flatnonzero(ids == tokenizer.eos_id) + 1
    found = [part for part in np.split(ids, ends) if len(part)]
    assert all(part[0] == tokenizer.bos_id and part[-1] == tokenizer.eos_id for part in found)
    return [tokenizer.decode(part) for part in found]


WORDS = ('red', 'green', 'blue', 'black', 'white')
NAMES = 'abcdefghijkl'


@pytest.fixture
def table(tmp_path):
    """A csv file, gzipped: 60 rows of 12 pictures with two captions each."""
    path = tmp_path / 'table.csv.gz'
    with gzip.open(path, 'wt', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['id', 'short', 'long', 'image'])
        for i in range(60):
            word = WORDS[i % 5]
            rows.writerow([i, word, f'a {word} car,\nand {NAMES[i // 5]}', f'image{i // 5}.jpg'])
    return path


def test_table(tool, table, tmp_path):
    options = (table, '--columns', 'short', 'long', '--group', 'image', '--val-share', '0.3')
    meta = convert(tool, tmp_path / 'out', *options, '--compact')
    train, val = (texts(tmp_path / 'out', split) for split in ('train', 'val'))
    assert len(train) + len(val) == 120 and 0 < len(val) < 80
    assert meta['splits']['val']['documents'] == len(val)
    pictures = [{t.split()[-1] for t in part if 'car' in t} for part in (train, val)]
    assert not pictures[0] & pictures[1] and len(pictures[0] | pictures[1]) == 12
    assert f'a red car , and {min(pictures[0])}' in train
    assert meta['vocab_size'] == len(meta['original_ids']) < 40
    plain = convert(tool, tmp_path / 'plain', *options)
    assert plain['vocab_size'] == 49408 and plain['dtype'] == 'uint16'
    assert texts(tmp_path / 'plain', 'val') == val
    names = {path.name for path in (tmp_path / 'out').iterdir()}
    assert names == {'train.bin', 'val.bin', 'meta.json'}


def test_a_part_for_choosing_hyperparameters(tool, table, tmp_path):
    options = (table, '--columns', 'short', 'long', '--group', 'image', '--val-share', '0.3')
    convert(tool, tmp_path / 'plain', *options)
    meta = convert(tool, tmp_path / 'out', *options, '--tune-share', '0.3')
    parts = {split: texts(tmp_path / 'out', split) for split in meta['splits']}
    assert set(parts) == {'train', 'val', 'tune'}
    assert parts['val'] == texts(tmp_path / 'plain', 'val')  # as without
    train = texts(tmp_path / 'plain', 'train')
    assert sorted(parts['train'] + parts['tune']) == sorted(train) and parts['tune']
    of_image = [{t.split()[-1] for t in parts[s] if 'car' in t} for s in ('train', 'tune')]
    assert not of_image[0] & of_image[1]


class KilledError(BaseException):
    """What ends the process."""


class Dying:
    """A tokenizer in whose call the process is killed."""

    def __init__(self, base, calls):
        self.base, self.calls = base, calls

    def __getattr__(self, name):
        return getattr(self.base, name)

    def encode(self, text):
        self.calls -= 1
        if not self.calls:
            raise KilledError
        return self.base.encode(text)


@pytest.mark.parametrize('kill_at', [1, 7, 8, 9, 45])
def test_goes_on_after_a_kill(tool, table, tmp_path, monkeypatch, kill_at):
    lines = tmp_path / 'lines.txt'
    lines.write_text('\n\n'.join(f'{word} {word}' for word in WORDS))
    options = (lines, table, '--columns', 'long', '--save-every', '4', '--val-share', '0.4')
    wanted = convert(tool, tmp_path / 'whole', *options)
    out = tmp_path / 'out'
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        dying = Dying(text_tokenizers.build_tokenizer(), kill_at)
        patch.setattr(text_tokenizers, 'build_tokenizer', lambda *args: dying)
        convert(tool, out, *options)
    assert not (out / 'meta.json').exists()
    assert convert(tool, out, *options) == wanted
    for name in ('train.bin', 'val.bin'):
        assert (out / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


@pytest.mark.parametrize(
    'what, wanted',
    [
        ('paragraph', ['one two', 'three four', 'five']),
        ('line', ['one', 'two', 'three', 'four', 'five']),
        ('file', ['one two three four five']),
    ],
)
def test_plain_text(tool, tmp_path, what, wanted):
    path = tmp_path / 'a.txt'
    path.write_text('\none\ntwo\n\n \nthree\nfour\n\nfive')
    meta = convert(tool, tmp_path / 'out', path, '--documents', what, '--val-share', '0')
    assert texts(tmp_path / 'out', 'train') == wanted
    assert list(meta['splits']) == ['train']
    assert meta['empty_documents'] == (4 if what == 'line' else 0)


def test_json_lines(tool, tmp_path):
    path = tmp_path / 'a.jsonl.gz'
    with gzip.open(path, 'wt') as file:
        file.write('{"text": "one"}\n\n{"text": "two", "other": 1}\n{"text": ""}\n')
    meta = convert(tool, tmp_path / 'out', path, '--columns', 'text', '--val-share', '0')
    assert texts(tmp_path / 'out', 'train') == ['one', 'two'] and meta['empty_documents'] == 1


def test_mark_of_byte_order_is_no_text(tool, tmp_path):
    path = tmp_path / 'a.csv'
    path.write_text('text,other\n\N{SNOWMAN} one,1\n', encoding='utf-8-sig')
    convert(tool, tmp_path / 'out', path, '--columns', 'text', '--val-share', '0')
    assert texts(tmp_path / 'out', 'train') == ['\N{SNOWMAN} one']


def test_finished_folder_is_kept_and_other_options_are_refused(tool, table, tmp_path):
    options = (tmp_path / 'out', table, '--columns', 'short')
    meta = convert(tool, *options)
    written = (tmp_path / 'out' / 'train.bin').stat().st_mtime_ns
    assert convert(tool, *options) == meta
    assert (tmp_path / 'out' / 'train.bin').stat().st_mtime_ns == written
    with pytest.raises(ValueError, match='must be empty or of the same files and options'):
        convert(tool, *options, '--val-share', '0.5')


@pytest.mark.parametrize(
    'name, content, options, error, match',
    [
        ('a.csv', b'x,y\n1,2\n', (), ValueError, '--columns must name columns'),
        ('a.csv', b'x,y\n1,2\n', ('--columns', 'z'), ValueError, r"line 2 has no \['z'\]"),
        ('a.csv', b'x,y\n1,\n', ('--columns', 'x', '--group', 'y'), ValueError, r"no \['y'\]"),
        ('a.csv', b'x,y\n1,2\n', ('--columns', 'x', 'z'), ValueError, r"\['z'\] are in none"),
        ('a.txt', b'ab\xff', (), ValueError, 'a.txt: .*utf-8'),
        ('a.jsonl', b'{"x"', ('--columns', 'x'), ValueError, 'a.jsonl, line 1 is no JSON'),
        (
            'a.jsonl',
            b'[1]\n',
            ('--columns', 'x'),
            ValueError,
            'line 1 must hold an object',
        ),
        ('a.jsonl', b'{"x": 1}\n', ('--columns', 'x'), ValueError, 'line 1: x must be a text'),
        ('a.txt.gz', b'no gzip', (), ValueError, 'a.txt.gz: Not a gzipped file'),
        ('a.txt.gz', gzip.compress(b'one two', mtime=0)[:-9], (), ValueError, 'a.txt.gz: .*ended'),
        ('a.csv', b'x,y\n1,"2\n3,4\n', ('--columns', 'x'), ValueError, 'at line 2: .*quote'),
        ('a.csv', b'x,y\n1,"2\n3,"4\n', ('--columns', 'x'), ValueError, 'at line 2: .*quote'),
        ('a.csv', b'x,y\n1,2\n3\n', ('--columns', 'x'), ValueError, 'line 3 must have 2 cells'),
        ('a.tsv', b'x\ty\n1\n', ('--columns', 'x'), ValueError, 'line 2 must have 2 cells'),
        ('a.csv', b'', ('--columns', 'x'), ValueError, 'a.csv is empty'),
        ('a.txt', b' \n', (), ValueError, 'no text'),
        ('a.txt', b'one', ('--save-every', '0'), ValueError, '--save-every must be'),
        ('a.txt', b'one', ('--val-share', '1'), ValueError, '--val-share must be'),
        ('a.txt', b'one', ('--tune-share', '0.95'), ValueError, '--tune-share must be'),
        ('a.txt', None, (), FileNotFoundError, 'a.txt'),
    ],
)
def test_bad_input(tool, tmp_path, name, content, options, error, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        convert(tool, tmp_path / 'out', tmp_path / name, *options)


def test_a_text_does_not_end_its_document(tool, tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text('{"text": "one <end_of_text> two"}\n{"text": "&lt;end_of_text&gt;"}\n')
    meta = convert(tool, tmp_path / 'out', path, '--columns', 'text', '--val-share', '0')
    assert meta['splits']['train']['documents'] == 2
    found = texts(tmp_path / 'out', 'train')
    assert len(found) == 2 and found[0].startswith('one') and found[0].endswith('two')


PROGRESS = dict(
    file=0,
    document=4,
    empty=0,
    columns=[],
    tokens=dict(train=12, val=0),
    documents=dict(train=4, val=0),
)


@pytest.fixture
def halfway(tool, tmp_path):
    """Files, and the folder of a conversion that was interrupted after four documents."""
    path, out = tmp_path / 'a.txt', tmp_path / 'out'
    path.write_text('\n\n'.join(WORDS))
    options = (path, '--val-share', '0', '--save-every', '4')
    args = tool.parse_args([str(out), *map(str, options)])
    out.mkdir()
    ids = build_tokenizer()
    start = [i for word in WORDS[:4] for i in (ids.bos_id, *ids.encode(word), ids.eos_id)]
    state = dict(PROGRESS, made_from=tool.description(args, ids.spec))
    state['tokens'] = dict(train=len(start), val=0)

    def write(data):
        for name in ('meta.json', 'train.bin'):
            (out / name).unlink(missing_ok=True)
        np.array(start, '<u4').tofile(out / 'part-train.bin')
        (out / 'part-val.bin').touch()
        (out / 'progress.json').write_bytes(data)
        return convert(tool, out, *options)

    return write, state


def test_a_state_to_go_on_from(halfway, tmp_path):
    write, state = halfway
    write(json.dumps(state).encode())
    assert texts(tmp_path / 'out', 'train') == list(WORDS)


@pytest.mark.parametrize(
    'changes',
    [
        dict(file=-1),
        dict(file=7),
        dict(document='4'),
        dict(document=6),
        dict(tokens=dict(train=10**6, val=0)),
        dict(tokens=dict(train=12)),
        dict(columns=None),
        dict(other=1),
    ],
)
def test_a_state_that_does_not_fit(halfway, changes):
    write, state = halfway
    with pytest.raises(ValueError, match=r'progress\.json .* to begin anew'):
        write(json.dumps({**state, **changes}).encode())


@given(data=st.data())
@FAST
def test_damaged_states(halfway, data):
    write, state = halfway
    reads(lambda: write(data.draw(damaged(state))), 'progress.json', 'a.txt', 'no text')


@given(changed(b'x,y\n"a, ""b""",2\n"c\nd",3\n4,5\n'))
@FAST
def test_damaged_tables(tool, tmp_path, data):
    (tmp_path / 'a.csv').write_bytes(data)
    args = tool.parse_args([str(tmp_path), str(tmp_path / 'a.csv'), '--columns', 'x', 'y'])
    with (tmp_path / 'a.csv').open('rb') as file:
        reads(lambda: list(tool.documents(file, tmp_path / 'a.csv', args)), 'a.csv')


def test_files_of_the_same_size_are_told_apart(tool, tmp_path):
    """A conversion is not taken for that of other texts; an older one has no digests."""
    path, out = tmp_path / 'a.txt', tmp_path / 'out'
    path.write_text('red')
    meta = convert(tool, out, path, '--val-share', '0')
    assert convert(tool, out, path, '--val-share', '0') == meta
    older = json.loads((out / 'meta.json').read_text())
    older['made_from']['files'] = [entry[:2] for entry in older['made_from']['files']]
    path.write_text('tan')
    with pytest.raises(ValueError, match='must be empty or of the same files'):
        convert(tool, out, path, '--val-share', '0')
    (out / 'meta.json').write_text(json.dumps(older))
    convert(tool, out, path, '--val-share', '0')
