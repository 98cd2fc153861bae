"""Language models out of checkpoints."""

from __future__ import annotations

import json
import sys

import pytest
import torch

pytest.importorskip('mmengine')
pytest.importorskip('safetensors')

from hyper_mm.datasets.text_tokenizers import META  # noqa: E402
from hyper_mm.models.language.interchange import load_pretrained  # noqa: E402
from tests.helpers.language import DECODERS, model_of  # noqa: E402
from tests.helpers.tools import load_tool  # noqa: E402


def test_writes_a_folder(tmp_path, monkeypatch):
    tool = load_tool('model_converters/export_language_model.py')
    model = model_of('helm-mice').eval()
    torch.save(dict(state_dict=model.state_dict(), meta={}), tmp_path / 'model.pth')
    meta = dict(dtype='uint16', vocab_size=37, bos_id=0, eos_id=1, original_ids=None)
    meta.update(splits=dict(train=dict(tokens=3)), tokenizer=dict(type='open_clip'))
    (tmp_path / META).write_text(json.dumps(meta))
    cfg = dict(type='hyper_mm.HelmForCausalLM', decoder=DECODERS['helm-mice'])
    data = dict(dataset=dict(data_root=str(tmp_path)))
    (tmp_path / 'config.py').write_text(f'model = {cfg!r}\ntrain_dataloader = {data!r}\n')
    command = [tmp_path / 'config.py', tmp_path / 'model.pth', tmp_path / 'out']
    monkeypatch.setattr(sys, 'argv', ['export_language_model.py', *map(str, command)])
    tool.main()
    ids = torch.arange(8)[None]
    assert torch.equal(load_pretrained(tmp_path / 'out')(ids), model(ids))
    assert (tmp_path / 'out' / META).is_file()
    (tmp_path / META).unlink()
    with pytest.raises(SystemExit, match='meta.json does not exist'):
        tool.main()
