import pytest
import torch
from torch import nn

from hyper_mm.layers import Attention
from hyper_mm.layers.common.attention import Mlp


def torch_attention(attention: Attention, dropout: float = 0.0) -> nn.MultiheadAttention:
    """torch's own attention with the weights of ours."""
    width = attention.proj.in_features
    reference = nn.MultiheadAttention(width, attention.num_heads, dropout, batch_first=True)
    usual = (width // attention.num_heads) ** -0.5
    with torch.no_grad():
        query = attention.q_proj.weight * (attention.scale / usual)
        reference.in_proj_weight.copy_(
            torch.cat([query, attention.k_proj.weight, attention.v_proj.weight])
        )
        reference.in_proj_bias.zero_()
        reference.out_proj.load_state_dict(attention.proj.state_dict())
    return reference


@pytest.mark.parametrize('scale', [None, 1 / 0.07, 0.01])
def test_equals_multihead_attention(scale):
    attention = Attention(16, 4, scale)
    query, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    expected, weights = torch_attention(attention)(query, memory, memory)
    torch.testing.assert_close(attention(query, memory), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention.weights(query, memory), weights, rtol=1e-5, atol=1e-6)


def test_mask_allows_where_true():
    attention = Attention(16, 4)
    query, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    mask = torch.rand(5, 7) > 0.5
    mask[:, 0] = True
    expected, _ = torch_attention(attention)(query, memory, memory, attn_mask=~mask)
    torch.testing.assert_close(attention(query, memory, mask=mask), expected, rtol=1e-5, atol=1e-6)


def test_shared_queries_equal_repeated_ones():
    attention = Attention(16, 4)
    query, memory = torch.randn(5, 16), torch.randn(3, 7, 16)
    repeated = query.expand(3, 5, 16)
    torch.testing.assert_close(attention(query, memory), attention(repeated, memory))
    torch.testing.assert_close(
        attention.weights(query, memory), attention.weights(repeated, memory)
    )


@pytest.mark.parametrize('memory_length', [1, 2, 300])
def test_weights_are_a_distribution(memory_length):
    attention = Attention(16, 2, scale=100.0)
    weights = attention.weights(torch.randn(5, 16), torch.randn(3, memory_length, 16))
    assert weights.shape == (3, 5, memory_length)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 5))


def test_dropout_acts_in_training_only():
    attention = Attention(16, 2, dropout=0.5)
    query, memory = torch.randn(1, 50, 16), torch.randn(1, 7, 16)
    dropped = (attention(query, memory) == 0).float().mean()
    assert 0.4 < dropped < 0.6
    attention.eval()
    assert (attention(query, memory) != 0).all()
    torch.testing.assert_close(attention(query, memory), attention(query, memory))


def test_only_the_output_has_a_bias():
    names = {name for name, _ in Attention(16, 2).named_parameters() if name.endswith('bias')}
    assert names == {'proj.bias'}


@pytest.mark.parametrize('heads', [3, 5, 32])
def test_heads_must_divide_the_width(heads):
    with pytest.raises(ValueError, match=rf'num_heads must divide width 16, got {heads}'):
        Attention(16, heads)


def test_mlp_is_linear_gelu_linear():
    mlp = Mlp(8, 32, dropout=0.1).eval()
    x = torch.randn(5, 8)
    hidden = nn.functional.gelu(x @ mlp[0].weight.T + mlp[0].bias)
    torch.testing.assert_close(mlp(x), hidden @ mlp[3].weight.T + mlp[3].bias)
    assert mlp[0].out_features == 32


class TestCompetition:
    """Slot-attention normalisation: the softmax is over the queries of a group."""

    def make(self):
        return Attention(8, 2, competition=True)

    def test_by_hand(self):
        attn, query, memory = self.make(), torch.randn(2, 5, 8), torch.randn(2, 7, 8)
        q = attn.q_proj(query).unflatten(-1, (2, 4)).transpose(1, 2)
        k = attn.k_proj(memory).unflatten(-1, (2, 4)).transpose(1, 2)
        v = attn.v_proj(memory).unflatten(-1, (2, 4)).transpose(1, 2)
        logits = q @ k.mT / 2
        share = torch.cat([logits[:, :, :3].softmax(2), logits[:, :, 3:].softmax(2)], 2) + 1e-6
        out = (share / share.sum(-1, keepdim=True)) @ v
        expected = attn.proj(out.transpose(1, 2).flatten(2))
        torch.testing.assert_close(attn(query, memory, groups=(3, 2)), expected)

    def test_copies_of_a_query_change_nothing(self):
        attn, query, memory = self.make(), torch.randn(3, 8), torch.randn(2, 7, 8)
        once = attn(query, memory)
        twice = attn(query.repeat_interleave(2, 0), memory)
        torch.testing.assert_close(twice[:, ::2], once, rtol=1e-4, atol=1e-5)

    def test_loser_of_every_position_is_finite(self):
        attn, memory = Attention(8, 2, scale=1e4, competition=True), torch.randn(1, 7, 8)
        query = torch.randn(4, 8, requires_grad=True)
        out = attn(query, memory)
        out.sum().backward()
        assert out.isfinite().all() and query.grad.isfinite().all()


@pytest.mark.parametrize('competition', [False, True])
def test_assignment_sums_to_one_over_each_group(competition):
    attn = Attention(8, 2, competition=competition)
    share = attn.assignment(torch.randn(5, 8), torch.randn(2, 7, 8), (3, 2))
    torch.testing.assert_close(share[:, :3].sum(1), torch.ones(2, 7))
    torch.testing.assert_close(share[:, 3:].sum(1), torch.ones(2, 7))


def test_assignment_without_competition_is_the_posterior_of_the_weights():
    attn = Attention(8, 1)
    query, memory = torch.randn(5, 8), torch.randn(2, 7, 8)
    weights = attn.weights(query, memory)
    expected = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(attn.assignment(query, memory), expected)


class TestLevels:
    """Queries that are the leaves of a tree."""

    LEVELS = (4, 2, 1)

    def parts(self):
        torch.manual_seed(0)
        attention = Attention(8, 2, competition=True).double()
        return attention, torch.randn(4, 8).double(), torch.randn(2, 5, 8).double()

    def test_share_of_a_node_is_the_sum_of_its_childrens(self):
        attention, query, memory = self.parts()
        out, share = attention.read(query, memory, levels=self.LEVELS)
        assert out.shape == (2, 7, 8) and share.shape == (2, 7, 5)
        leaves, middle, top = share.split(self.LEVELS, 1)
        torch.testing.assert_close(leaves, attention.assignment(query, memory))
        torch.testing.assert_close(middle, leaves[:, 0::2] + leaves[:, 1::2])
        torch.testing.assert_close(top, torch.ones_like(top))

    def test_a_node_reads_the_mean_over_its_region(self):
        attention, query, memory = self.parts()
        out, _ = attention.read(query, memory, levels=self.LEVELS)
        assert torch.equal(out, attention(query, memory, levels=self.LEVELS))
        values = attention.v_proj(memory).unflatten(-1, (2, 4))  # (B, M, heads, 4)
        torch.testing.assert_close(out[:, -1], attention.proj(values.mean(1).flatten(1)))

    def test_weights_are_shares_over_their_sum(self):
        torch.manual_seed(0)
        attention = Attention(8, 1, competition=True).double()
        query, memory = torch.randn(4, 8).double(), torch.randn(2, 5, 8).double()
        share = attention.read(query, memory, levels=self.LEVELS)[1] + 1e-6
        expected = share / share.sum(-1, keepdim=True)
        torch.testing.assert_close(attention.weights(query, memory, levels=self.LEVELS), expected)
