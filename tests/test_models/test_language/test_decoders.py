"""Decoders of points and of vectors."""

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.layers.lorentz.hope import HoPE  # noqa: E402
from hyper_mm.ops import lorentz  # noqa: E402
from hyper_mm.ops.fused import to_ambient  # noqa: E402
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


@pytest.mark.parametrize('init_std', [None, 0.02])
def test_options_of_the_initialization(init_std):
    options = dict(embedding_distance=3.0, residual_weight=0.3, init_std=init_std)
    decoder = MODELS.build({**DECODERS['helm-mice'], **options})
    distances = lorentz.dist0(decoder.embedding(torch.arange(37)), 1.0)
    torch.testing.assert_close(distances, torch.full((37,), 3.0))
    for block in decoder.blocks:
        for res in (block.res1, block.res2):
            assert torch.equal(res.weight, torch.tensor([0.3]))


def test_the_initialization_of_the_official_code_is_one_switch_away():
    decoder = MODELS.build({**DECODERS['helm-d'], 'init_std': None})
    assert decoder.saved_options() == dict(embedding_gain=1.0, residual_scale=4 * 18**0.5)
    torch.testing.assert_close(lorentz.dist0(decoder.embedding.weight, 1.0), torch.ones(37))
    for name, weight in decoder.blocks.named_parameters():
        if weight.ndim > 1:  # uniform, to the bound of xavier with a gain of sqrt(2)
            bound = (12 / sum(weight.shape)) ** 0.5
            assert 0.9 * bound < weight.abs().max() <= bound, name


def weights_before_options(decoder):
    """A state dict of before options were saved, with single numbers of no dimensions."""
    state = {k: v for k, v in decoder.state_dict().items() if k != '_extra_state'}
    numbers = ('tau', 'res1.weight', 'res2.weight')
    return {k: v.squeeze() if k.endswith(numbers) else v for k, v in state.items()}


def test_old_weights_keep_their_gain_and_scale():
    ids = torch.arange(6)[None]
    old = MODELS.build({**DECODERS['helm-d'], 'init_std': None}).double()
    wanted, state = old(ids), weights_before_options(old)
    decoder = MODELS.build(DECODERS['helm-d']).double()
    assert decoder.saved_options() != old.saved_options()
    decoder.load_state_dict(state)
    assert torch.equal(decoder(ids), wanted) and decoder.saved_options() == old.saved_options()
    again = MODELS.build(DECODERS['helm-d']).double()
    again.load_state_dict(decoder.state_dict())  # as saved by the new code
    assert torch.equal(again(ids), wanted)
    # a scale that the config gave, and gives still
    old = MODELS.build({**DECODERS['helm-d'], 'init_std': None, 'residual_scale': 2.0}).double()
    given = MODELS.build({**DECODERS['helm-d'], 'residual_scale': 2.0}).double()
    given.load_state_dict(weights_before_options(old))
    assert torch.equal(given(ids), old(ids))


@pytest.mark.parametrize('options', [dict(residual_scale=3.0), dict(embedding_gain=2.0)])
def test_weights_of_other_options(options):
    (name,) = options
    plain, other = (MODELS.build({**DECODERS['helm-d'], **own}) for own in ({}, options))
    with pytest.raises(ValueError, match=f'was trained with {name}='):
        other.load_state_dict(plain.state_dict())
    plain.load_state_dict(other.state_dict())
    assert plain.saved_options() == other.saved_options()
    ids = torch.arange(6)[None]
    assert torch.equal(plain(ids), other(ids))


def signal(decoder, ids):
    """Peaks of attention, share of the time in queries, and mean squares behind each block."""
    peaks, shares, sizes = [], [], []

    def attention(module, inputs, _):
        x = to_ambient(inputs[0], 1.0)
        shape = (module.num_heads, module.head_dims)
        q, k = (w.map(x).unflatten(-1, shape) for w in (module.wq, module.wk))
        q, k = (to_ambient(module.rope(t), 1.0).transpose(1, 2) for t in (q, k))
        q[..., 0].neg_()
        scores = 2 * q @ k.mT / module.tau
        later = torch.ones(scores.shape[-2:]).triu(1).bool()
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        peaks.append(weights[..., ids.shape[1] // 2 :, :].amax(-1).mean().item())
        by_time, by_space = (
            part.square().mean().item()
            for part in (
                x[..., :1] * module.wq.weight[:, 0],
                x[..., 1:] @ module.wq.weight[:, 1:].T,
            )
        )
        shares.append(by_time / (by_time + by_space))

    for block in decoder.blocks:
        block.attention.register_forward_hook(attention)
        block.register_forward_hook(lambda *found: sizes.append(found[2].square().mean().item()))
    with torch.no_grad():
        features = decoder(ids)[0, :, 1:]
    features = torch.nn.functional.normalize(features, dim=-1)
    cosines = (features @ features.T)[~torch.eye(len(features), dtype=torch.bool)]
    return peaks, shares, sizes, cosines.mean().item()


@pytest.mark.parametrize('depth', [4, 24])
def test_signal_at_initialization(depth):
    torch.manual_seed(0)
    wide = dict(vocab_size=64, embed_dims=131, depth=depth, max_length=64)
    parts = dict(
        attention=dict(type='LorentzAttention', num_heads=4),
        ffn=dict(type='LorentzSwiGLU', hidden_dims=511),
    )
    cfg, ids = {**DECODERS['helm-d'], **wide, **parts}, torch.randperm(64)[None]
    peaks, shares, sizes, cosine = signal(MODELS.build(cfg), ids)
    old_peaks, _, _, old_cosine = signal(MODELS.build({**cfg, 'init_std': None}), ids)
    # 32 to 64 tokens are seen: 1/48 where all are seen alike
    assert max(peaks) < 0.05 and max(old_peaks) > 0.3
    assert cosine < 0.75 and old_cosine > 0.9
    # half of the energy of a query is the time of its point: that is the norm, not the weights
    assert all(0.4 < share < 0.6 for share in shares)
    assert max(sizes) < 100 * sizes[0]


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
        {'embedding_gain': 0.0},
        {'init_std': 0.0},
        {'position_scale': 0.0},
        {'embedding': 'manifold', 'embedding_gain': 2.0},
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
    for scale in (None, 18**0.5, 2.0):
        torch.manual_seed(0)
        decoder = MODELS.build({**DECODERS['helm-d'], 'residual_scale': scale}).double()
        outputs[scale] = decoder(ids)
        scales = {res.scale for block in decoder.blocks for res in (block.res1, block.res2)}
        assert scales == {scale or 18**0.5}
    assert torch.equal(outputs[None], outputs[18**0.5])
    assert not torch.allclose(outputs[None], outputs[2.0])


@every
def test_positions_of_longer_sequences(kind):
    """With half the scale, every second position turns as the positions of before do."""
    torch.manual_seed(0)
    short = model_of(kind).double()
    long = MODELS.build({**DECODERS[kind], 'max_length': 160, 'position_scale': 0.5}).double()
    long.load_state_dict(short.decoder.state_dict())
    ids = torch.randint(0, 37, (1, 6))
    assert not torch.allclose(long(ids), short.decoder(ids))
    ropes = [
        [m for m in decoder.modules() if isinstance(m, HoPE)] for decoder in (short.decoder, long)
    ]
    for a, b in zip(*ropes):
        x = torch.randn(1, 9, 2, a.head_dims, dtype=torch.float64)
        torch.testing.assert_close(b(x)[:, ::2], a(x[:, ::2]))
    caches = long.new_caches()
    with torch.no_grad():
        parts = [long(part, caches=caches) for part in ids.split([3, 1, 1, 1], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), long(ids))
