"""HELM and its Euclidean baseline as language models."""

import pytest
import torch

pytest.importorskip('mmengine')

from mmengine.optim import OptimWrapper  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from hyper_mm.models.language.helm import chunked_nll  # noqa: E402

from ...helpers.language import DECODERS, model_of  # noqa: E402

every = pytest.mark.parametrize('kind', list(DECODERS))


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
    assert ('loss_balance' in logs) == (kind in ('helm-mice', 'baseline-moe'))
    assert any('ffn.curvatures' in name for name in logs) == (kind == 'helm-mice')


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
@pytest.mark.parametrize('kind', ['helm-d', 'baseline-d'])
def test_bad_ids(kind, ids):
    with pytest.raises(ValueError, match='must be'):
        model_of(kind).loss(torch.tensor(ids))


@pytest.mark.parametrize('kind', ['helm-d', 'baseline-d'])
def test_bad_shapes(kind):
    model, ids = model_of(kind), torch.zeros(2, 5, dtype=torch.long)
    with pytest.raises(ValueError, match=r'ids must be \(B, N\), got \(5,\)'):
        model(ids[0])
    for doc_ids in (ids[:, :4], ids[:1]):
        with pytest.raises(ValueError, match=r'doc_ids must be of the shape of ids, \(2, 5\)'):
            model.loss(ids, doc_ids)


@every
@pytest.mark.parametrize('use_cache', [True, False])
def test_padded_prompts_continue_as_they_do_alone(kind, use_cache):
    model = model_of(kind).double().eval()
    prompts = [torch.randint(0, 37, (1, n)) for n in (3, 9, 6)]
    ids = torch.cat([F.pad(p, (9 - p.shape[1], 0), value=7) for p in prompts])
    mask = torch.tensor([[0] * (9 - p.shape[1]) + [1] * p.shape[1] for p in prompts])
    found = model.generate(ids, 20, use_cache=use_cache, attention_mask=mask)
    assert torch.equal(found[:, :9], ids)
    for row, prompt in zip(found, prompts):
        alone = model.generate(prompt, 20)[0, prompt.shape[1] :]
        assert torch.equal(row[9:], alone)


@every
def test_cached_logits_of_padded_prompts(kind):
    # to the digits of float32, where a padding of another length rounds otherwise
    model = model_of(kind).eval()
    torch.nn.init.normal_(model.head.weight)
    ids, pads = torch.randint(0, 37, (1, 12)), 40
    padded = F.pad(ids, (pads, 0), value=3)
    mask = (torch.arange(pads + 12) >= pads)[None]
    with torch.no_grad():
        caches, parts = model.decoder.new_caches(), []
        for start, end in ((0, pads + 5), (pads + 5, pads + 6), (pads + 6, pads + 12)):
            part = padded[:, start:end]
            parts.append(model.decoder(part, caches=caches, attention_mask=mask[:, :end]))
        logits = model.logits(torch.cat(parts, 1))[:, pads:]
        wanted = model.double()(ids)
    size = wanted.abs().max()
    # a few dozen roundings a layer
    assert (logits - wanted).abs().max() < 500 * torch.finfo(torch.float32).eps * size


@every
def test_padding_on_any_side_changes_no_loss(kind):
    model = model_of(kind).double()
    ids = torch.randint(0, 37, (2, 8))
    wanted = [model.loss(row[None])['loss_lm'] for row in (ids[0], ids[1, :5])]
    wanted, balances = (7 * wanted[0] + 4 * wanted[1]) / 11, []
    for left in (0, 2, 3):
        rows = [ids[0], F.pad(ids[1, :5], (left, 3 - left), value=11)]
        mask = torch.ones(2, 8, dtype=torch.long)
        mask[1] = F.pad(torch.ones(5), (left, 3 - left))
        batch = dict(input_ids=torch.stack(rows), attention_mask=mask)
        losses = model(**batch, mode='loss')
        torch.testing.assert_close(losses['loss_lm'], wanted)
        # the balance of the experts, too
        balance = losses.get('loss_balance', torch.zeros(()))
        balances.append(balance.item())
        losses['loss_lm'].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
        found = model(**batch, mode='predict')
        assert [int(sample.valid.sum()) for sample in found] == [7, 4]
    assert balances == pytest.approx([balances[0]] * 3, rel=1e-9)
    logits = model(ids[1:, :5])
    found = model(F.pad(ids[1:, :5], (3, 0)), attention_mask=F.pad(torch.ones(1, 5).bool(), (3, 0)))
    torch.testing.assert_close(found[:, 3:], logits)


@every
def test_documents_and_padding_together(kind):
    model = model_of(kind).double()
    ids, documents = torch.randint(0, 37, (1, 9)), torch.tensor([[4, 4, 4, 0, 0, 0, 0, 0, 0]])
    mask = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0, 0]])
    found = model(ids, documents, mask)
    torch.testing.assert_close(found[:, 1:3], model(ids[:, 1:3]))
    torch.testing.assert_close(found[:, 3:7], model(ids[:, 3:7]))
    (sample,) = model(ids, documents, mask, mode='predict')
    assert sample.valid.tolist() == [False, True, False, True, True, True, False, False]


@every
def test_labels_choose_what_is_predicted(kind):
    model = model_of(kind, loss_chunk=3).double()
    ids = torch.randint(0, 37, (2, 9))
    labels = ids.clone()
    labels[:, :6] = -100
    labels[0, 7] = 5
    nll = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:], reduction='none')
    other = -model(ids)[0, 6].log_softmax(-1)[5]
    wanted = (nll[:, 5:].sum() - nll[0, 6] + other) / 6
    torch.testing.assert_close(model(ids, labels=labels, mode='loss')['loss_lm'], wanted)
    found = model(ids, labels=labels, mode='predict')
    assert all(s.valid.tolist() == [False] * 5 + [True] * 3 for s in found)
    torch.testing.assert_close(found[1].log_probs[5:], -nll[1, 5:].detach())
    none = model(ids, labels=torch.full_like(ids, -100), mode='loss')['loss_lm']
    assert none == 0  # no label at all: a loss, and a gradient, of zero
    with pytest.raises(ValueError, match=r'labels must be of the shape of input_ids, \(2, 9\)'):
        model.loss(ids, labels=labels[:, 1:])
    with pytest.raises(ValueError, match='labels must be 0 to 36, got -7 to'):
        model.loss(ids, labels=labels.masked_fill(labels == 5, -7))


def test_entries_that_a_mode_does_not_use_are_refused():
    model, ids = model_of('helm-d'), torch.zeros(1, 4, dtype=torch.long)
    for mode in ('tensor', 'loss'):
        with pytest.raises(TypeError, match=r"takes input_ids.* got \['position_ids'\]"):
            model(ids, position_ids=ids, mode=mode)
    with pytest.raises(TypeError, match='labels must be left out'):
        model(ids, labels=ids)
    with pytest.raises(
        TypeError, match='attention_mask must be bool or integers, .* got torch.float32'
    ):
        model(ids, attention_mask=torch.zeros(1, 4))


@every
def test_generation_stops_where_a_criterion_says_so(kind):
    model = model_of(kind).double()
    ids = torch.randint(0, 37, (3, 5))
    free, seen = model.generate(ids, 12)[:, 5:], []

    def stop(new):
        seen.append(new.shape)
        return torch.tensor([new.shape[1] >= n for n in (2, 4, 3)])

    found = model.generate(ids, 12, eos_id=36, stop=stop)[:, 5:]
    end = [row.tolist().index(36) if 36 in row else 12 for row in free]
    lasts = [min(n, e + 1) for n, e in zip((2, 4, 3), end)]
    assert found.shape[1] == max(lasts) and seen == [(3, n + 1) for n in range(max(lasts))]
    for row, plain, last in zip(found, free, lasts):
        assert torch.equal(row[:last], plain[:last]) and (row[last:] == 36).all()
    single = model.generate(ids[:1], 12, stop=lambda new: new.shape[1] == 3 and [True] or [False])
    assert single.shape == (1, 8)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(attention_mask=[[1, 1, 0], [1, 1, 1]]), 'attention_mask must be 0 .* on the left'),
        (dict(attention_mask=[[1, 0, 1], [1, 1, 1]]), 'attention_mask must be 0 .* on the left'),
        (dict(attention_mask=[[0, 0, 0], [1, 1, 1]]), 'attention_mask must be 0 .* on the left'),
        (dict(attention_mask=[[1, 1, 1]]), r'of the shape of input_ids, \(2, 3\), got \(1, 3\)'),
        (dict(stop=lambda new: [True] * 2), 'eos_id must be given with stop'),
        (dict(stop=lambda new: [True], eos_id=1), r'stop must return \(2,\) booleans'),
    ],
)
def test_bad_prompts(options, message):
    if 'attention_mask' in options:
        options = dict(attention_mask=torch.tensor(options['attention_mask']))
    with pytest.raises(ValueError, match=message):
        model_of('helm-d').generate(torch.zeros(2, 3, dtype=torch.long), 2, **options)


@every
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(kind, dtype):
    model, ids = model_of(kind).eval(), torch.randint(0, 37, (2, 12))
    wanted = model(ids)
    model.to(dtype)
    found = model(ids)
    assert found.dtype == dtype
    # features of size about 1 through a few rounded maps
    assert (found - wanted).norm() < 16 * torch.finfo(dtype).eps * wanted.norm()
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    new = model.generate(ids, 4, attention_mask=mask)
    assert torch.equal(new, model.generate(ids, 4, attention_mask=mask)) and new.shape == (2, 16)
    loss = model.loss(ids)['loss_lm']
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_weights_that_are_not_finite_raise_in_generation():
    model = model_of('helm-d')
    with torch.no_grad():
        model.head.weight[3, 2] = float('nan')
    for options in ({}, dict(temperature=1.0)):
        with pytest.raises(ValueError, match='logits must be finite .* got nan as the highest'):
            model.generate(torch.zeros(2, 3, dtype=torch.long), 2, **options)


@every
def test_streaming_yields_what_generation_returns(kind):
    model, ids = model_of(kind).double(), torch.randint(0, 37, (2, 5))
    options = dict(temperature=0.9, top_k=20)
    found = model.generate(ids, 9, generator=torch.Generator().manual_seed(2), **options)
    stream = model.stream(ids, 9, generator=torch.Generator().manual_seed(2), **options)
    first = next(stream)
    assert not model.training and not first.requires_grad
    assert torch.equal(torch.stack([first, *stream], 1), found[:, 5:]) and model.training
    broken = model.stream(ids, 9)
    next(broken)
    broken.close()
    assert model.training
    with pytest.raises(ValueError, match='max_new_tokens must be positive'):
        model.stream(ids, 0)  # at the call, not at the first token


def test_any_of_several_ends():
    model, ids = model_of('helm-d').double(), torch.randint(0, 37, (3, 5))
    free = model.generate(ids, 12)[:, 5:]
    ends = [free[0, 3].item(), free[1, 6].item()]
    found = model.generate(ids, 12, eos_id=ends)[:, 5:]
    for row, plain in zip(found, free):
        last = next((i for i, token in enumerate(plain.tolist()) if token in ends), 11)
        last = min(last, found.shape[1] - 1)
        assert (
            torch.equal(row[: last + 1], plain[: last + 1]) and (row[last + 1 :] == ends[0]).all()
        )
    for wrong, message in (([], 'an empty sequence'), ([3, 37], 'eos_id must be in')):
        with pytest.raises(ValueError, match=message):
            model.generate(ids, 2, eos_id=wrong)


@pytest.mark.parametrize('use_cache', [True, False])
def test_repetition_penalty(use_cache):
    model, ids = model_of('helm-d').double(), torch.randint(0, 37, (2, 5))
    torch.nn.init.normal_(model.head.weight)
    mask = torch.ones_like(ids)
    mask[0, :2] = 0
    options = dict(attention_mask=mask, use_cache=use_cache)
    found = model.generate(ids, 20, repetition_penalty=1e6, **options)
    for row, kept in zip(found.tolist(), mask.tolist()):
        seen = [token for token, one in zip(row, kept) if one]
        for token in row[5:]:  # 37 tokens are enough: none comes twice
            assert token not in seen
            seen.append(token)
    plain = model.generate(ids, 20, **options)
    assert torch.equal(model.generate(ids, 20, repetition_penalty=1.0, **options), plain)
    with pytest.raises(ValueError, match='repetition_penalty must be in'):
        model.generate(ids, 2, repetition_penalty=0.0)
