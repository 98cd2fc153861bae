"""Language models of this package in transformers."""

from __future__ import annotations

import itertools

import pytest
import torch

pytest.importorskip('mmengine')
pytest.importorskip('transformers')

from transformers import AutoModelForCausalLM  # noqa: E402

from hyper_mm.models.language.transformers_model import HelmConfig, HelmForTransformers  # noqa: E402

from ...helpers.language import DECODERS, model_of  # noqa: E402


def wrapped(kind):
    torch.manual_seed(0)
    model = model_of(kind).double()
    torch.nn.init.normal_(model.head.weight)  # so that choices are clear
    cfg = dict(type='hyper_mm.HelmForCausalLM', decoder=DECODERS[kind])
    return HelmForTransformers(HelmConfig(cfg), model).eval()


@pytest.mark.parametrize('kind', list(DECODERS))
def test_generate(kind):
    model = wrapped(kind)
    ids = torch.randint(0, 37, (2, 5))
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    options = dict(max_new_tokens=12, do_sample=False, pad_token_id=0)
    wanted = model.model.generate(ids, 12, attention_mask=mask)
    for use_cache in (True, False):
        found = model.generate(ids, attention_mask=mask, use_cache=use_cache, **options)
        assert torch.equal(found, wanted)


def test_beam_search_finds_the_best_of_all():
    model = wrapped('helm-d')
    ids = torch.randint(0, 37, (1, 4))
    options = dict(max_new_tokens=2, do_sample=False, pad_token_id=0, num_beams=37)
    found = model.generate(ids, **options)[0, 4:].tolist()
    pairs = torch.tensor(list(itertools.product(range(37), repeat=2)))
    whole = torch.cat([ids.expand(len(pairs), -1), pairs], 1)
    with torch.no_grad():
        logs = model(whole).logits.log_softmax(-1)
    total = sum(logs[:, 3 + i].gather(-1, pairs[:, i : i + 1]) for i in range(2))
    assert found == pairs[total.argmax()].tolist()


def test_loss_and_folders(tmp_path):
    model = wrapped('helm-mice').float()
    ids = torch.randint(0, 37, (2, 6))
    found = model(ids, labels=ids)
    torch.testing.assert_close(found.loss, model.model.loss(ids)['loss_lm'])
    model.save_pretrained(tmp_path)
    for again in (
        HelmForTransformers.from_pretrained(tmp_path),
        AutoModelForCausalLM.from_pretrained(tmp_path),
    ):
        assert isinstance(again, HelmForTransformers)
        assert torch.equal(again(ids).logits, model(ids).logits)
    for given in (torch.bfloat16, 'bfloat16', 'torch.bfloat16'):
        half = HelmForTransformers.from_pretrained(tmp_path, torch_dtype=given)
        assert half(ids).logits.dtype == torch.bfloat16
    assert HelmForTransformers.from_pretrained(tmp_path, dtype='float64').dtype == torch.float64
    assert HelmForTransformers.from_pretrained(tmp_path, torch_dtype='auto').dtype == torch.float32
    with pytest.raises(ValueError, match="torch_dtype must be .* got 'half2'"):
        HelmForTransformers.from_pretrained(tmp_path, torch_dtype='half2')
