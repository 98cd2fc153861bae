"""Language models as folders of safetensors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

pytest.importorskip('mmengine')
pytest.importorskip('safetensors')

from hyper_mm.datasets.text_tokenizers import tokenizer_of  # noqa: E402
from hyper_mm.models.language.interchange import load_pretrained, save_pretrained  # noqa: E402

from ...helpers.language import DECODERS, model_of  # noqa: E402

IDS = torch.arange(12).view(2, 6)


def config_of(kind):
    return dict(type='hyper_mm.HelmForCausalLM', decoder=DECODERS[kind])


@pytest.mark.parametrize('kind', list(DECODERS))
def test_a_folder_holds_the_model(kind, tmp_path):
    model = model_of(kind).eval()
    save_pretrained(tmp_path / 'model', model, config_of(kind))
    assert sorted(path.name for path in (tmp_path / 'model').iterdir()) == [
        'config.json',
        'model.safetensors',
    ]
    found = load_pretrained(tmp_path / 'model')
    assert torch.equal(found(IDS), model(IDS)) and not found.training


def test_the_tokenizer_goes_with_it(tmp_path):
    pytest.importorskip('tokenizers')
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(('<s>', '</s>', 'a', 'cat', 'dog'))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token='a'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / 'tokenizer.json'))
    np.array([0, 3, 1], '<u2').tofile(tmp_path / 'train.bin')
    spec = dict(type='file', file='tokenizer.json', bos='<s>', eos='</s>')
    meta = dict(
        dtype='uint16',
        vocab_size=5,
        bos_id=0,
        eos_id=1,
        splits=dict(train=dict(tokens=3)),
        tokenizer=spec,
        original_ids=None,
        made_from=dict(files=[['private.txt', 3]]),
    )
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    out = tmp_path / 'out'
    save_pretrained(out, model_of('helm-d'), config_of('helm-d'), tmp_path)
    assert tokenizer_of(out).encode('a dog') == [2, 4]
    assert 'private' not in (out / 'meta.json').read_text() and not (out / 'train.bin').exists()
    meta['vocab_size'] = 38
    (tmp_path / 'meta.json').write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="at most the model's 37 ids, got 38"):
        save_pretrained(out, model_of('helm-d'), config_of('helm-d'), tmp_path)


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match="cfg.type must be hyper_mm.HelmForCausalLM, got 'x'"):
        save_pretrained(tmp_path, model_of('helm-d'), dict(type='x'))
    with pytest.raises(FileNotFoundError, match='model.safetensors does not exist'):
        load_pretrained(tmp_path)
    save_pretrained(tmp_path, model_of('helm-d'), config_of('helm-d'))
    content = json.loads((tmp_path / 'config.json').read_text())
    for change in (
        dict(model_type='llama'),
        dict(model=dict(type='torch.nn.Linear')),
        dict(model=dict(content['model'], decoder=dict(type='mmengine.Runner'))),
    ):
        (tmp_path / 'config.json').write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match='config.json: model'):
            load_pretrained(tmp_path)
    wide = dict(content['model'], decoder=dict(content['model']['decoder'], depth=3))
    (tmp_path / 'config.json').write_text(json.dumps(dict(content, model=wide)))
    with pytest.raises(RuntimeError, match='Missing key'):
        load_pretrained(tmp_path)
