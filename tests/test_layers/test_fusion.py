import pytest
import torch

from hyper_mm.layers import NodeFusion, TokenFusion

MAKE = {'token': TokenFusion, 'nodes': lambda *a, **k: NodeFusion(*a, width=8, num_heads=2, **k)}


def inputs(length=9):
    levels = tuple(torch.randn(2, n, 12) for n in (8, 4, 2))
    return torch.randn(2, length, 12), torch.randn(2, 1, 12), levels


@pytest.mark.parametrize('make', MAKE.values(), ids=MAKE)
class TestFusion:
    def test_closed_gate_changes_no_bit(self, make):
        tokens, update, levels = inputs()
        assert torch.equal(make(12)(tokens, update, levels), tokens)

    def test_open_gate_changes_every_position(self, make):
        tokens, update, levels = inputs()
        fused = make(12, gate_init=0.5)(tokens, update, levels)
        assert fused.shape == tokens.shape
        assert (fused != tokens).any(-1).all()

    def test_closed_gate_learns(self, make):
        fusion = make(12)
        fusion(*inputs()).square().sum().backward()
        assert (fusion.gate.grad != 0).all()

    def test_no_dead_parameters_behind_an_open_gate(self, make):
        fusion = make(12, gate_init=1.0)
        fusion(*inputs()).square().sum().backward()
        assert all((p.grad != 0).any() for p in fusion.parameters())

    @pytest.mark.parametrize('length', [1, 300])
    def test_any_length(self, make, length):
        assert make(12)(*inputs(length)).shape == (2, length, 12)

    def test_gate_has_one_number_a_channel(self, make):
        assert torch.equal(make(12, gate_init=0.25).gate, torch.full((12,), 0.25))


def test_token_fusion_adds_the_gated_update():
    tokens, update, levels = inputs()
    fusion = TokenFusion(12)
    torch.nn.init.normal_(fusion.gate)
    for image in range(2):
        for position in range(9):
            expected = tokens[image, position] + fusion.gate * update[image, 0]
            found = fusion(tokens, update, levels)[image, position]
            torch.testing.assert_close(found, expected)


def test_node_fusion_reads_the_nodes_of_all_levels():
    tokens, update, levels = inputs()
    fusion = NodeFusion(12, 8, 2, gate_init=1.0)
    levels = tuple(x.requires_grad_() for x in levels)
    fusion(tokens, update, levels).square().sum().backward()
    assert all((x.grad != 0).any(-1).all() for x in levels)


def test_node_fusion_depends_on_the_position():
    tokens, update, levels = inputs()
    fusion = NodeFusion(12, 8, 2, gate_init=1.0)
    change = fusion(tokens, update, levels) - tokens
    assert not torch.allclose(change[:, 0], change[:, 1], rtol=1e-6, atol=0)
    swapped = tokens.flip(1)
    torch.testing.assert_close(fusion(swapped, update, levels) - swapped, change.flip(1))


def test_token_fusion_changes_all_positions_alike():
    tokens, update, levels = inputs()
    change = TokenFusion(12, gate_init=1.0)(tokens, update, levels) - tokens
    torch.testing.assert_close(change, update.expand_as(tokens))
