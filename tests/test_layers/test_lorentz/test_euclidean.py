"""Euclidean baselines of the layers of HELM."""

import pytest
import torch
from torch.nn import functional as F

from hyper_mm.layers.lorentz.cache import TokenCache
from hyper_mm.layers.lorentz.euclidean import MLA, MoE, RotaryAttention, _expert
from hyper_mm.layers.lorentz.routed_experts import by_blocks

ATTENTIONS = [lambda: RotaryAttention(24, 3), lambda: MLA(22, 2, 5, 3, 4, 3)]


@pytest.mark.parametrize('build', ATTENTIONS)
def test_cached_decoding_equals_the_whole_sequence(build):
    layer, cache = build().double(), TokenCache()
    x = torch.randn(2, 7, layer.wq.in_features, dtype=torch.float64)
    with torch.no_grad():
        parts = [layer(part, cache) for part in x.split([4, 1, 2], 1)]
        torch.testing.assert_close(torch.cat(parts, 1), layer(x))


@pytest.mark.parametrize('build', ATTENTIONS)
def test_tokens_see_those_before_in_their_document(build):
    layer = build().double()
    x = torch.randn(1, 7, layer.wq.in_features, dtype=torch.float64)
    torch.testing.assert_close(layer(x)[:, :4], layer(x[:, :4]))
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    mask = (documents[:, :, None] == documents[:, None])[:, None]
    apart = torch.cat([layer(x[:, :3]), layer(x[:, 3:])], 1)
    torch.testing.assert_close(layer(x, mask=mask), apart)


def test_experts_add_up_token_by_token():
    layer, x = MoE(9, 7, 4).double(), torch.randn(2, 5, 9, dtype=torch.float64)
    found, rows = layer(x).flatten(0, 1), x.flatten(0, 1)
    routing = layer.route(rows)
    for row, out, indices, gates in zip(rows, found, routing.indices, routing.gates):
        wanted = layer.shared[0](row)
        for i, gate in zip(indices, gates):
            hidden = F.silu(layer.w1[i] @ row) * (layer.w3[i] @ row)  # biases start at 0
            wanted = wanted + gate * (layer.w2[i] @ hidden)
        torch.testing.assert_close(out, wanted)
    parameters = (layer.w1, layer.w3, layer.w2, layer.b1, layer.b3, layer.b2)
    owners, order = routing.indices[:, 0].sort()
    blocks = by_blocks(rows[order], owners, owners.bincount(minlength=4), _expert, parameters)
    single = [_expert(r[None], *(p[i] for p in parameters)) for r, i in zip(rows[order], owners)]
    torch.testing.assert_close(blocks, torch.cat(single))


@pytest.mark.parametrize(
    'build',
    [
        lambda: RotaryAttention(24, 5),
        lambda: RotaryAttention(15, 3),
        lambda: MLA(24, 2, 5, 3, 3, 3),
        lambda: MLA(24, 2, 0, 3, 4, 3),
        lambda: MoE(9, 7, 2, top_k=3),
    ],
)
def test_bad_input(build):
    with pytest.raises(ValueError, match='must be'):
        build()
