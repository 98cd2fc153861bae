"""Tokenizers, and what a folder of token ids says of them."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from hypothesis import given

pytest.importorskip('mmengine')

from hyper_mm.datasets.text_tokenizers import (  # noqa: E402
    CompactTokenizer,
    FileTokenizer,
    StopStrings,
    build_tokenizer,
    tokenizer_of,
)
from tests.helpers.fuzz import FAST, changed, damaged, reads  # noqa: E402
from tests.helpers.tokens import EOS, build, write  # noqa: E402

# tokenizers


def test_open_clip_tokenizer(tmp_path):
    pytest.importorskip('open_clip')
    tokenizer = build_tokenizer()
    ids = tokenizer.encode('A black Cat => a photo')
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == 'a black cat => a photo'
    kept = sorted({*ids, tokenizer.bos_id, tokenizer.eos_id})
    compact = CompactTokenizer(tokenizer, kept)
    assert compact.vocab_size == len(kept)
    assert [kept[i] for i in compact.encode('a black cat => a photo')] == ids
    assert compact.decode(compact.encode('a cat')) == 'a cat'
    with pytest.raises(ValueError, match=r"without \['dog'\]"):
        compact.encode('a dog')
    with pytest.raises(ValueError, match='must hold the ids of the ends'):
        CompactTokenizer(tokenizer, ids)
    ends = dict(bos_id=compact.bos_id, eos_id=compact.eos_id, vocab_size=len(kept))
    root = write(tmp_path, range(5), original_ids=kept, **ends)
    assert tokenizer_of(root).encode('cat') == [kept.index(tokenizer.encode('cat')[0])]
    for wrong, message in (([*kept, kept[0]], '1 twice'), ([*kept, 10**6], '1000000')):
        with pytest.raises(ValueError, match=f'original_ids must differ and be below .*{message}'):
            CompactTokenizer(tokenizer, wrong)
    with pytest.raises(ValueError, match=r'meta\.json: vocab_size is 10, the tokenizer has 49408'):
        tokenizer_of(write(tmp_path, range(5)))


@pytest.mark.parametrize(
    'text',
    ['a <end_of_text> b', '<END_OF_TEXT>', '&lt;end_of_text&gt;', '<start_of_text><end_of_text>'],
)
def test_a_text_cannot_forge_the_end_of_a_document(text):
    pytest.importorskip('open_clip')
    tokenizer = build_tokenizer()
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos_id, tokenizer.eos_id} & {*ids}
    assert 'end_of_text' in tokenizer.decode(ids).replace(' ', '')


class FakeTokenizer:
    """What is used of ``tokenizers.Tokenizer``."""

    names = ('<s>', '</s>', 'a', 'b')

    @classmethod
    def from_file(cls, file):
        return cls()

    def get_vocab_size(self):
        return len(self.names)

    def token_to_id(self, name):
        return self.names.index(name) if name in self.names else None

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        encoding = ModuleType('encoding')
        encoding.ids = [self.names.index(word) for word in text.split()]
        return encoding

    def decode(self, ids, skip_special_tokens):
        return ' '.join(self.names[i] for i in ids if i > 1 or not skip_special_tokens)


@pytest.fixture
def tokenizers(monkeypatch):
    """The package of Hugging Face, or what is used of it."""
    module = ModuleType('tokenizers')
    module.Tokenizer = FakeTokenizer
    module.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, 'tokenizers', module)


def test_tokenizer_file(tmp_path, tokenizers):
    file = tmp_path / 'tokenizer.json'
    file.write_text('{}')
    tokenizer = build_tokenizer(file, eos='</s>', bos='<s>')
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.vocab_size) == (0, 1, 4)
    assert tokenizer.encode('b a') == [3, 2] and tokenizer.decode([0, 3, 2, 1]) == 'b a'
    root = write(tmp_path, [2, 3], tokenizer=tokenizer.spec, vocab_size=4, bos_id=0, eos_id=1)
    assert tokenizer_of(root).encode('b') == [3]
    assert FileTokenizer(file, '</s>').bos_id is None
    with pytest.raises(ValueError, match="eos must be a token of the tokenizer, got '<end>'"):
        build_tokenizer(file, eos='<end>')
    with pytest.raises(ValueError, match="a text must not hold .'</s>'., which begins or ends"):
        tokenizer.encode('a </s> b')


def test_real_tokenizer_files(tmp_path):
    tokenizers = pytest.importorskip('tokenizers')
    file = tmp_path / 'tokenizer.json'
    letters = {c: i for i, c in enumerate(['<unk>', *'abcdefghijklmnopqrstuvwxyz</>|_'])}
    real = tokenizers.Tokenizer(tokenizers.models.BPE(letters, [], unk_token='<unk>'))
    real.add_special_tokens(['<s>', '</s>'])
    real.save(str(file))
    tokenizer = build_tokenizer(file, eos='</s>', bos='<s>')
    ids = tokenizer.encode('a</s>b<s>')
    assert not {tokenizer.bos_id, tokenizer.eos_id} & {*ids}
    assert tokenizer.decode(ids).replace(' ', '') == 'a</s>b<s>'


@given(changed(b'{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}'))
@FAST
def test_damaged_tokenizer_files(tmp_path, data):
    pytest.importorskip('tokenizers')
    (tmp_path / 'tokenizer.json').write_bytes(data)
    reads(lambda: build_tokenizer(tmp_path / 'tokenizer.json', eos='x'), 'tokenizer')


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(dtype='int64'), "dtype must be 'uint16' or 'uint32', got int64"),
        (dict(vocab_size=0), 'vocab_size must be an integer from 1'),
        (dict(vocab_size=70000), 'vocab_size must be an integer from 1 to 65536'),
        (dict(eos_id=10), 'eos_id must be an id below 10, got 10'),
        (dict(bos_id='a'), 'bos_id must be null or an id below 10'),
        (dict(splits={}), 'splits must be an object with a split'),
        (dict(splits=dict(train=dict(tokens=-1))), 'splits must be objects with the number'),
        (dict(splits={'../x': dict(tokens=3)}), 'a path must stay below its folder'),
        (dict(tokenizer=dict(type='file', file='../x', eos='e', bos=None)), 'must stay below'),
        (dict(tokenizer=dict(type='python')), 'tokenizer must be .type'),
        (dict(original_ids=[1, 2]), 'original_ids must be null or 10 ids'),
    ],
)
def test_meta_that_cannot_be(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf'meta\.json.*{message}'):
        build(write(tmp_path, range(10), **changes))


@given(
    damaged(
        dict(
            dtype='uint16',
            vocab_size=10,
            bos_id=None,
            eos_id=EOS,
            splits=dict(train=dict(tokens=10, documents=1)),
            tokenizer=dict(type='open_clip'),
            original_ids=None,
        )
    )
)
@FAST
def test_damaged_meta(tmp_path, data):
    root = write(tmp_path, range(10))
    (tmp_path / 'meta.json').write_bytes(data)
    found = reads(lambda: build(root), 'meta.json', 'train.bin', "split must be one of ['")
    if found is not None:
        reads(lambda: list(found), 'train.bin')


def test_bad_tokenizers(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='must be left out'):
        build_tokenizer('open_clip', eos='x')
    with pytest.raises(ValueError, match='eos must name'):
        build_tokenizer(tmp_path / 'x.json')
    with pytest.raises(FileNotFoundError, match='x.json does not exist'):
        build_tokenizer(tmp_path / 'x.json', eos='x')
    (tmp_path / 'x.json').touch()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install tokenizers'):
        build_tokenizer(tmp_path / 'x.json', eos='x')


def test_strings_that_end_a_text():
    letters = 'abcdef'

    def decode(ids):
        return ''.join(letters[i] for i in ids)

    stop = StopStrings(['cd', 'f'], decode, [[2], []])
    found = stop(torch.tensor([[3, 0], [3, 0]]))
    assert found.tolist() == [True, False]  # the first text began with c
    assert StopStrings('f', decode)(torch.tensor([[0, 5], [1, 1]])).tolist() == [True, False]
    assert stop.cut('abcdf') == 'ab' and stop.cut('ab') == 'ab' and stop.cut('fa') == ''
    with pytest.raises(ValueError, match='strings must not be empty'):
        StopStrings([''], decode)
