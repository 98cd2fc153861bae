"""Files of token ids: tokenizers, sequences, documents, bad input."""

from __future__ import annotations

import json
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

pytest.importorskip('mmengine')

from hyper_mm.datasets.text_tokenizers import (  # noqa: E402
    CompactTokenizer,
    FileTokenizer,
    build_tokenizer,
    tokenizer_of,
)
from hyper_mm.registry import DATASETS, MODELS  # noqa: E402

EOS = 9


def write(folder, ids, dtype='uint16', **changes):
    """A folder of one split, as the converter writes it."""
    folder.mkdir(exist_ok=True)
    np.array(ids, np.dtype(dtype).newbyteorder('<')).tofile(folder / 'train.bin')
    meta = dict(
        dtype=dtype,
        vocab_size=10,
        bos_id=None,
        eos_id=EOS,
        splits=dict(train=dict(tokens=len(ids), documents=1)),
        tokenizer=dict(type='open_clip'),
        original_ids=None,
    )
    (folder / 'meta.json').write_text(json.dumps({**meta, **changes}))
    return str(folder)


def build(root, **options):
    return DATASETS.build(dict(type='hyper_mm.PackedTokenDataset', data_root=root, **options))


@pytest.mark.parametrize('dtype', ['uint16', 'uint32'])
@pytest.mark.parametrize('length', [2, 4, 7, 30, 31, 50])
def test_every_token_is_predicted_once(tmp_path, dtype, length):
    ids = [*range(9), EOS] * 3
    data = build(write(tmp_path, ids, dtype), length=length, document_masks=False)
    labels = []
    for i in range(len(data)):
        item = data[i]
        assert {v.dtype for v in item.values()} == {torch.int64}
        assert all(v.shape == (length,) for v in item.values())
        same = item['doc_ids'][1:] == item['doc_ids'][:-1]
        labels += item['input_ids'][1:][same].tolist()
    assert labels == ids[1:]
    with pytest.raises(IndexError):
        data[len(data)]


def test_documents(tmp_path):
    data = build(write(tmp_path, [1, 2, EOS, 3, EOS, EOS, 4, 5]), length=5)
    first, last = data
    assert first['doc_ids'].tolist() == [0, 0, 0, 1, 1]
    assert last['input_ids'].tolist() == [EOS, EOS, 4, 5, EOS]
    assert last['doc_ids'].tolist() == [0, 1, 2, 2, -1]


def test_model_sees_what_it_should(tmp_path):
    ids = [1, 2, 3, EOS, 4, 5, 6, 7, EOS, 8, 1]
    data = build(write(tmp_path, ids), length=8)
    decoder = dict(
        type='hyper_mm.EuclideanDecoder',
        vocab_size=10,
        dims=8,
        depth=2,
        attention=dict(type='RotaryAttention', num_heads=2),
        ffn=dict(type='SwiGLU', hidden_dims=5),
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder)).double()
    nll, labels = model._nll(**default_collate(list(data)))
    # by hand: documents apart, cut where the sequences are
    pieces = [[1, 2, 3, EOS], [4, 5, 6, 7], [7, EOS], [8, 1]]
    wanted = []
    for piece in pieces:
        piece = torch.tensor([piece])
        wanted.append(model._nll(piece, None)[0][0])
    torch.testing.assert_close(nll[labels != -100], torch.cat(wanted))


def test_items_are_the_same_in_a_worker(tmp_path):
    data = build(write(tmp_path, list(range(10)) * 5), length=9)
    copy = pickle.loads(pickle.dumps(data))
    assert len(pickle.dumps(data)) < 2000
    for a, b in zip(data, copy):
        assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    'options, changes, error, match',
    [
        ({'length': 1}, {}, ValueError, 'length must be at least 2, got 1'),
        ({'split': 'val'}, {}, ValueError, "split must be one of .'train'., got 'val'"),
        ({'vocab_size': 9}, {}, ValueError, 'vocab_size must be at least 10'),
        ({}, {'splits': {'train': {'tokens': 12}}}, ValueError, 'must have 24 bytes'),
        ({'split': 'val'}, {'splits': {'val': {'tokens': 3}}}, FileNotFoundError, 'val.bin'),
    ],
)
def test_bad_input(tmp_path, options, changes, error, match):
    root = write(tmp_path, range(10), **changes)
    with pytest.raises(error, match=match):
        build(root, **options)


def test_empty_folder_says_which_tool_writes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'tokenize_text\.py'):
        build(str(tmp_path))


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
    assert tokenizer_of(write(tmp_path, range(10), original_ids=kept)).encode('cat') == [
        kept.index(tokenizer.encode('cat')[0])
    ]


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
    root = write(tmp_path, range(10), tokenizer=tokenizer.spec)
    assert tokenizer_of(root).encode('b') == [3]
    assert FileTokenizer(file, '</s>').bos_id is None
    with pytest.raises(ValueError, match="eos must be a token of the tokenizer, got '<end>'"):
        build_tokenizer(file, eos='<end>')


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
