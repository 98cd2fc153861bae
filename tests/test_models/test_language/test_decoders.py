"""Decoders of points and of vectors."""

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.ops import lorentz  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

from ...helpers.language import DECODERS, model_of  # noqa: E402

every = pytest.mark.parametrize('kind', list(DECODERS))


@pytest.mark.parametrize('kind, numbers', [('helm-mice', 9), ('baseline-moe', 9), ('helm-d', 36)])
def test_cache_holds_what_it_should(kind, numbers):
    decoder = model_of(kind).decoder
    caches = decoder.new_caches()
    with torch.no_grad():
        decoder(torch.zeros(1, 4, dtype=torch.long), caches=caches)
    assert [cache.numbers_per_token for cache in caches] == [numbers, numbers]


def test_start_of_training():
    options = dict(embedding_distance=3.0, residual_weight=0.3)
    decoder = MODELS.build({**DECODERS['helm-mice'], **options})
    torch.testing.assert_close(lorentz.dist0(decoder.embedding.weight, 1.0), torch.full((37,), 3.0))
    weights = [res.weight for block in decoder.blocks for res in (block.res1, block.res2)]
    assert torch.tensor(weights).eq(torch.tensor(0.3)).all()


def test_scores_depend_on_relative_positions():
    # positions enter by rotations alone: a sequence behind another document is as it was
    model = model_of('helm-d').double()
    ids = torch.randint(0, 37, (1, 6))
    shifted = model(torch.cat([ids, ids], 1), torch.arange(2).repeat_interleave(6)[None])
    torch.testing.assert_close(shifted[:, 6:], model(ids))


@pytest.mark.parametrize(
    'wrong',
    [
        {'attention': {'type': 'MLA'}},
        {'attention': {'type': 'LorentzAttention', 'num_heads': 3}},  # odd: no pairs to rotate
        {'attention': {'type': 'LorentzAttention', 'num_heads': 4}},
        {'ffn': {'type': 'MiCE', 'hidden_dims': 7, 'curvatures': (-0.1, 2.0)}},
        {'ffn': {'type': 'MiCE', 'hidden_dims': 7, 'top_k': 9}},
        {'num_dense_layers': 1},
        {'num_dense_layers': -1},
        {'num_dense_layers': 3, 'dense_ffn': {'type': 'LorentzSwiGLU', 'hidden_dims': 15}},
        {'curvature': {'init': -1.0}},
        {'residual_scale': 0.0},
        {'residual_weight': 0.0},
        {'embedding_distance': -1.0},
        {'depth': 0},
        {'embed_dims': 18},
    ],
)
def test_bad_input(wrong):
    with pytest.raises(ValueError, match='must be'):
        MODELS.build({**DECODERS['helm-d'], **wrong})


@every
def test_masks_of_cached_tokens(kind):
    decoder = model_of(kind).decoder.double()
    ids = torch.randint(0, 37, (2, 8))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 2, 2, 2]])
    mask = torch.tensor([[1] * 8, [0, 0, 1, 1, 1, 1, 1, 1]])
    caches, parts = decoder.new_caches(), []
    with torch.no_grad():
        wanted = decoder(ids, documents, attention_mask=mask)
        for start, end in ((0, 4), (4, 5), (5, 8)):
            seen = dict(doc_ids=documents[:, :end], attention_mask=mask[:, :end])
            parts.append(decoder(ids[:, start:end], caches=caches, **seen))
        found = torch.cat(parts, 1)
        torch.testing.assert_close(found[0], wanted[0])
        torch.testing.assert_close(found[1, 2:], wanted[1, 2:])
        for name in ('doc_ids', 'attention_mask'):
            with pytest.raises(ValueError, match=rf'{name} must .* 8 tokens .*, \(2, 10\), got'):
                decoder(ids[:, :2], caches=caches, **{name: mask[:, :2]})


@every
def test_the_old_name_of_the_width_is_accepted(kind):
    cfg = dict(DECODERS[kind])
    width = cfg.pop('embed_dims')
    with pytest.warns(DeprecationWarning, match="'dims' .*'embed_dims'"):
        decoder = MODELS.build(dict(cfg, dims=width))
    assert decoder.embedding.weight.shape[1] == width


def test_scale_of_the_residual_connections():
    ids = torch.arange(6)[None]
    outputs = {}
    for scale in (None, 4 * 18**0.5, 2.0):
        torch.manual_seed(0)
        decoder = MODELS.build({**DECODERS['helm-d'], 'residual_scale': scale}).double()
        outputs[scale] = decoder(ids)
        scales = {res.scale for block in decoder.blocks for res in (block.res1, block.res2)}
        assert scales == {scale or 4 * 18**0.5}
    assert torch.equal(outputs[None], outputs[4 * 18**0.5])
    assert not torch.allclose(outputs[None], outputs[2.0])
