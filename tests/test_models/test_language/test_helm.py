"""HELM and its Euclidean twin as language models."""

import copy

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.optim import OptimWrapper  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from hyper_mm.models.language.helm import chunked_nll  # noqa: E402
from hyper_mm.models.language.sampling import sample  # noqa: E402
from hyper_mm.ops import lorentz  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402

LATENT = dict(num_heads=2, latent_dims=5, nope_dims=3, rope_dims=4, v_dims=3)
HELM = dict(type='hyper_mm.HelmDecoder', vocab_size=37, dims=17, depth=2, max_length=80)
TWIN = dict(type='hyper_mm.EuclideanDecoder', vocab_size=37, dims=18, depth=2, max_length=80)
DECODERS = {
    'helm-d': dict(
        HELM,
        attention=dict(type='LorentzAttention', num_heads=2),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=15),
    ),
    'helm-mice': dict(
        HELM,
        attention=dict(type='HMLA', **LATENT),
        ffn=dict(type='MiCE', hidden_dims=7),
        dense_ffn=dict(type='LorentzSwiGLU', hidden_dims=15),
        num_dense_layers=1,
    ),
    'twin-d': dict(
        TWIN,
        dims=16,
        attention=dict(type='RotaryAttention', num_heads=2),
        ffn=dict(type='SwiGLU', hidden_dims=15),
    ),
    'twin-moe': dict(
        TWIN,
        attention=dict(type='MLA', **LATENT),
        ffn=dict(type='MoE', hidden_dims=7),
        dense_ffn=dict(type='SwiGLU', hidden_dims=15),
        num_dense_layers=1,
    ),
}
every = pytest.mark.parametrize('kind', list(DECODERS))


def model_of(kind, **options):
    cfg = dict(type='hyper_mm.HelmForCausalLM', decoder=copy.deepcopy(DECODERS[kind]), **options)
    return MODELS.build(cfg)


@every
def test_cached_generation_equals_uncached(kind):
    model = model_of(kind).double()
    ids = torch.randint(0, 37, (2, 5))
    cached = model.generate(ids, 70)
    assert torch.equal(cached, model.generate(ids, 70, use_cache=False))
    assert torch.equal(cached[:, :5], ids) and cached.shape == (2, 75) and model.training
    options = dict(temperature=0.8, top_k=9, top_p=0.9)
    drawn = [
        model.generate(
            ids, 20, use_cache=use, generator=torch.Generator().manual_seed(1), **options
        )
        for use in (True, False)
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize('kind, numbers', [('helm-mice', 9), ('twin-moe', 9), ('helm-d', 36)])
def test_cache_holds_what_it_should(kind, numbers):
    decoder = model_of(kind).decoder
    caches = decoder.new_caches()
    with torch.no_grad():
        decoder(torch.zeros(1, 4, dtype=torch.long), caches=caches)
    assert [cache.numbers_per_token for cache in caches] == [numbers, numbers]


@every
def test_documents_and_later_tokens_are_not_seen(kind):
    model = model_of(kind).double()
    ids = torch.randint(0, 37, (1, 9))
    logits = model(ids)
    assert logits.shape == (1, 9, 37)
    torch.testing.assert_close(model(ids[:, :4]), logits[:, :4])
    documents = torch.tensor([[0] * 4 + [1] * 5])
    apart = torch.cat([model(ids[:, :4]), model(ids[:, 4:])], 1)
    torch.testing.assert_close(model(ids, documents), apart)
    loss = model(ids, documents, mode='loss')['loss_lm']
    nll = F.cross_entropy(apart[0, :-1], ids[0, 1:], reduction='none')
    torch.testing.assert_close(loss, nll[[0, 1, 2, 4, 5, 6, 7]].mean())
    (found,) = model(ids, documents, mode='predict', name=['a'])
    assert found.name == 'a' and found.valid.tolist() == [True] * 3 + [False] + [True] * 4
    torch.testing.assert_close(found.log_probs, -nll.where(found.valid, 0).detach())


@every
@pytest.mark.parametrize('half', [False, True])
def test_training_lowers_the_loss(kind, half):
    model = model_of(kind, loss_chunk=16)
    ids = torch.arange(24).expand(2, -1) % 6
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    wrapper, first = OptimWrapper(optimizer), None
    for _ in range(20):
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            logs = model.train_step(dict(input_ids=ids), wrapper)
        first = first or logs['loss_lm'].item()
    assert logs['loss_lm'] < 0.6 * first
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        model.parse_losses(model.loss(ids))[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert ('loss_balance' in logs) == (kind in ('helm-mice', 'twin-moe'))
    assert any('ffn.curvatures' in name for name in logs) == (kind == 'helm-mice')


def test_start_of_training():
    options = dict(embedding_distance=3.0, residual_weight=0.3)
    decoder = MODELS.build({**DECODERS['helm-mice'], **options})
    torch.testing.assert_close(lorentz.dist0(decoder.embedding.weight, 1.0), torch.full((37,), 3.0))
    weights = [res.weight for block in decoder.blocks for res in (block.res1, block.res2)]
    assert torch.tensor(weights).eq(torch.tensor(0.3)).all()


@pytest.mark.parametrize('chunk', [3, 100])
def test_chunks_change_nothing(chunk):
    x, weight = torch.randn(10, 6, requires_grad=True), torch.randn(20, 6, requires_grad=True)
    labels = torch.randint(0, 20, (10,))
    labels[4] = -100
    found = chunked_nll(x, weight, labels, chunk)
    wanted = F.cross_entropy(x @ weight.T, labels, reduction='none')
    torch.testing.assert_close(found, wanted)
    for a, b in zip(*(torch.autograd.grad(y.square().sum(), (x, weight)) for y in (found, wanted))):
        torch.testing.assert_close(a, b)


def test_scores_depend_on_relative_positions():
    # positions enter by rotations alone: a sequence behind another document is as it was
    model = model_of('helm-d').double()
    ids = torch.randint(0, 37, (1, 6))
    shifted = model(torch.cat([ids, ids], 1), torch.arange(2).repeat_interleave(6)[None])
    torch.testing.assert_close(shifted[:, 6:], model(ids))


def test_sampling():
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]]).log_softmax(-1)
    rows = logits.expand(20000, -1)
    assert sample(logits).item() == 0
    assert sample(rows, 1.0, top_k=1).unique().tolist() == [0]
    assert sample(rows, 1.0, top_p=0.5).unique().tolist() == [0]
    assert sample(rows, 1.0, top_p=0.7).unique().tolist() == [0, 1]
    assert sample(rows, 1.0, top_k=3).unique().tolist() == [0, 1, 2]
    for temperature in (1.0, 2.0):
        share = sample(rows, temperature).bincount(minlength=4) / len(rows)
        wanted = (logits[0] / temperature).softmax(-1)
        torch.testing.assert_close(share, wanted, atol=0.02, rtol=0)
    assert sample(rows, 1e-40).unique().tolist() == [0]  # nothing overflows
    assert len(sample(torch.zeros(1000, 5), 1.0, top_k=2).unique()) == 2  # of equal ones as well


def test_generation_stops_once_all_have_ended():
    model = model_of('helm-d').double()
    ids = torch.randint(0, 37, (3, 5))
    free = model.generate(ids, 30)
    end = free[0, 8].item()
    found = model.generate(ids, 30, eos_id=end)
    stop = [row.tolist().index(end) if end in row else 29 for row in free[:, 5:]]
    assert found.shape[1] == 5 + max(stop) + 1
    for row, plain, last in zip(found[:, 5:], free[:, 5:], stop):
        assert torch.equal(row[: last + 1], plain[: last + 1])
        assert (row[last + 1 :] == end).all()


@pytest.mark.parametrize(
    'options',
    [
        {'max_new_tokens': 0},
        {'max_new_tokens': 76},
        {'max_new_tokens': 1, 'temperature': -1.0},
        {'max_new_tokens': 1, 'temperature': float('nan')},
        {'max_new_tokens': 1, 'top_k': 0},
        {'max_new_tokens': 1, 'top_k': 2.5},
        {'max_new_tokens': 1, 'eos_id': 37},
        {'max_new_tokens': 1, 'top_p': 0.0},
    ],
)
def test_bad_generation(options):
    with pytest.raises(ValueError, match='must be'):
        model_of('helm-d').generate(torch.zeros(1, 5, dtype=torch.long), **options)


@pytest.mark.parametrize(
    'ids', [[[0, 37]], [[-1, 2]], [[5]], [list(range(30)) * 3]], ids=lambda i: str(len(i[0]))
)
@pytest.mark.parametrize('kind', ['helm-d', 'twin-d'])
def test_bad_ids(kind, ids):
    with pytest.raises(ValueError, match='must be'):
        model_of(kind).loss(torch.tensor(ids))


@pytest.mark.parametrize('kind', ['helm-d', 'twin-d'])
def test_bad_shapes(kind):
    model, ids = model_of(kind), torch.zeros(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r'ids must be \(B, N\), got \(5,\)'):
        model(ids[0])
    for doc_ids in (ids[:, :4], ids[:1]):
        with pytest.raises(ValueError, match=r'doc_ids must be of the shape of ids, \(2, 5\)'):
            model.loss(ids, doc_ids)


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
        {'dims': 18},
    ],
)
def test_bad_input(wrong):
    with pytest.raises(ValueError, match='must be'):
        MODELS.build({**DECODERS['helm-d'], **wrong})
