"""Curvatures and radii of trained language models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg')
pytest.importorskip('open_clip')

from hyper_mm.datasets.text_tokenizers import CompactTokenizer, OpenClipTokenizer  # noqa: E402
from hyper_mm.engine.records import claim, save_result  # noqa: E402
from hyper_mm.ops import lorentz  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402
from tests.conftest import REPO  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


@pytest.fixture(scope='module')
def tool():
    return load_tool('experiments/helm_report.py')


@pytest.fixture
def data(tmp_path):
    """Two chains and a text that is none, and their tokenizer."""
    base = OpenClipTokenizer()
    texts = ['animal => cat => black cat => a black cat', 'a => cat => black => a cat', 'a cat']
    documents = [[base.bos_id, *base.encode(text), base.eos_id] for text in texts]
    kept = sorted({i for document in documents for i in document})
    ids = [kept.index(i) for document in documents for i in document]
    for split in ('train', 'val'):
        np.array(ids, '<u2').tofile(tmp_path / f'{split}.bin')
    meta = dict(dtype='uint16', vocab_size=len(kept))
    meta.update(bos_id=kept.index(base.bos_id), eos_id=kept.index(base.eos_id))
    meta['splits'] = {split: dict(tokens=len(ids)) for split in ('train', 'val')}
    meta.update(tokenizer=dict(type='open_clip'), original_ids=kept)
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    return tmp_path, CompactTokenizer(base, kept)


def test_chains_and_pairs(tool, data):
    folder, tokenizer = data
    found = [[tokenizer.decode(tier) for tier in chain] for chain in tool.chains(folder, tokenizer)]
    assert found == [
        ['animal', 'cat', 'black cat', 'a black cat'],
        ['a', 'cat', 'black', 'a cat'],
    ]
    pairs = folder / 'pairs.txt'
    pairs.write_text('WORD1 WORD2 POS TYPE AVG_SCORE\ncat animal N hyp-1 5.5\ndog cat N no 0.5\n')
    found, unknown = tool.word_pairs(pairs, tokenizer)
    assert unknown == 1 and len(found) == 1 and found[0][2] == 5.5
    assert tokenizer.decode(found[0][0]) == 'cat'


def test_radii(tool, data):
    _, tokenizer = data
    decoder = dict(
        type='hyper_mm.HelmDecoder',
        vocab_size=tokenizer.vocab_size,
        embed_dims=9,
        depth=1,
        attention=dict(type='LorentzAttention', num_heads=2),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=5),
        curvature=dict(init=2.0),
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder))
    torch.nn.init.normal_(model.decoder.embedding.weight)
    radii = tool.Radii(model, tokenizer.bos_id)
    texts = [[3], [1, 2], [4, 0], [2, 3, 1]]
    found = radii.of(texts)
    for ids, (embedding, block) in zip(texts, found.T):
        points = model.decoder.embedding(torch.tensor(ids))
        torch.testing.assert_close(embedding, lorentz.dist0(points, 2.0).mean())
        x = model.decoder.embedding(torch.tensor([[tokenizer.bos_id, *ids]]))
        last = model.decoder.blocks[0](x, torch.tensor(2.0))[0, -1]
        torch.testing.assert_close(block, lorentz.dist0(last, 2.0), rtol=1e-4, atol=1e-5)


def test_curvatures(tool):
    last = {f'decoder/blocks.{b}.ffn.curvatures.{e}': b + e / 10 for b in (1, 2) for e in (0, 1)}
    assert tool.curvatures({**last, 'loss': 1.0}) == '1.00 1.10; 2.00 2.10'


def test_stock_script_of_this_project():
    compare_arms = load_tool('experiments/compare_arms.py')
    assert compare_arms.script_of('train.py', 'hyper_mm') == REPO / 'tools' / 'train.py'
    assert (
        compare_arms.scope_of(str(REPO / 'configs' / 'helm/llama_mini_hierarcaps.py')) == 'hyper_mm'
    )


def test_runs_are_found_and_must_be_finished(tool, tmp_path):
    with pytest.raises(FileNotFoundError, match='no runs of helm'):
        tool.seed_folders(tmp_path, 'helm')
    for seed in (1, 0):
        folder = tmp_path / 'helm' / f'seed{seed}'
        with claim(folder, dict(config=f'{seed}')):
            save_result(folder / 'result.json', dict(config='0'), dict(seconds=1.0))
    first, second = tool.seed_folders(tmp_path, 'helm')
    assert tool.finished(first) == dict(seconds=1.0)
    with pytest.raises(ValueError, match='holds no finished run'):
        tool.finished(second)
