"""Files of token ids: sequences, documents, bad input."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import default_collate

pytest.importorskip('mmengine')

from hyper_mm.registry import MODELS  # noqa: E402
from tests.helpers.tokens import EOS, build, write  # noqa: E402


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
        embed_dims=8,
        depth=2,
        attention=dict(type='RotaryAttention', num_heads=2),
        ffn=dict(type='SwiGLU', hidden_dims=5),
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder)).double()
    nll, labels = model._nll(**default_collate(list(data)), attention_mask=None, labels=None)
    # by hand: documents apart, cut where the sequences are
    pieces = [[1, 2, 3, EOS], [4, 5, 6, 7], [7, EOS], [8, 1]]
    wanted = []
    for piece in pieces:
        piece = torch.tensor([piece])
        wanted.append(model._nll(piece, None, None, None)[0][0])
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


def test_ids_beyond_the_vocabulary(tmp_path):
    data = build(write(tmp_path, [1, 2, 3, 4, 10, 5]), length=3)
    assert data[0]['input_ids'].tolist() == [1, 2, 3]
    with pytest.raises(
        ValueError, match=r'train\.bin, token 4 must be below vocab_size=10 .*got 10'
    ):
        data[1]
