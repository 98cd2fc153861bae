"""What a large vocabulary costs, and half precision far from the origin."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip('mmengine')

from hyper_mm.models.language.helm import chunked_nll  # noqa: E402
from hyper_mm.registry import MODELS  # noqa: E402


class Largest(TorchDispatchMode):
    """Notes the most elements of a tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize('chunk', [8, 100])
def test_logits_of_one_chunk_at_a_time(chunk):
    tokens, vocab, width = 100, 5000, 4
    x = torch.randn(tokens, width, requires_grad=True)
    weight = torch.randn(vocab, width, requires_grad=True)
    with Largest() as largest:
        chunked_nll(x, weight, torch.randint(0, vocab, (tokens,)), chunk).sum().backward()
    assert largest.elements == max(chunk * vocab, vocab * width)
    assert x.grad.isfinite().all() and weight.grad.isfinite().all()


def test_nothing_of_the_logits_is_kept_for_the_backward_pass():
    kept = []
    x, weight = torch.randn(64, 4, requires_grad=True), torch.randn(3000, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        chunked_nll(x, weight, torch.zeros(64, dtype=torch.long), 8)
    assert not any(numel >= 8 * 3000 for numel in kept)


@pytest.mark.parametrize('attention', ['LorentzAttention', 'HMLA'])
@pytest.mark.parametrize('far', [1e-4, 1.0, 1e3])
def test_half_precision_far_out(attention, far):
    parts = dict(
        LorentzAttention=dict(num_heads=2),
        HMLA=dict(num_heads=2, latent_dims=4, nope_dims=3, rope_dims=4, v_dims=3),
    )
    decoder = dict(
        type='hyper_mm.HelmDecoder',
        vocab_size=20,
        embed_dims=9,
        depth=2,
        attention=dict(type=attention, **parts[attention]),
        ffn=dict(type='MiCE', hidden_dims=7),
    )
    model = MODELS.build(dict(type='hyper_mm.HelmForCausalLM', decoder=decoder, loss_chunk=8))
    with torch.no_grad():
        model.decoder.embedding.weight.mul_(far)
    ids = torch.randint(0, 20, (2, 12))
    ids[0] = 3  # points that coincide
    documents = torch.tensor([[0] * 5 + [1] * 7, [0] * 12])
    losses = {}
    for half in (False, True):
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=half):
            losses[half] = model.loss(ids, documents)['loss_lm']
        losses[half].backward()
        assert losses[half].isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(losses[True], losses[False], rtol=0.03, atol=0)
