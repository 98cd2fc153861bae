import pytest
import torch

from hyper_mm.layers import AssignmentFusion, Hierarchy, NodeFusion, TokenFusion
from tests.helpers.gradients import dead_parameters

MAKE = {
    'token': TokenFusion,
    'nodes': lambda *a, **k: NodeFusion(*a, width=8, num_heads=2, **k),
    'assignment': lambda *a, **k: AssignmentFusion(*a, num_levels=3, **k),
}


def inputs(length=9, **options):
    levels = tuple(torch.randn(2, n, 12, **options) for n in (8, 4, 2))
    shares = tuple(torch.randn(2, n, length, **options).softmax(1) for n in (8, 4, 2))
    token = torch.randn(2, 1, 12, **options)
    return torch.randn(2, length, 12, **options), Hierarchy(levels, token, token, shares)


@pytest.mark.parametrize('make', MAKE.values(), ids=MAKE)
class TestFusion:
    def test_closed_gate_changes_no_bit(self, make):
        tokens, found = inputs()
        assert torch.equal(make(12)(tokens, found), tokens)

    def test_open_gate_changes_every_position(self, make):
        tokens, found = inputs()
        fused = make(12, gate_init=0.5)(tokens, found)
        assert fused.shape == tokens.shape
        assert (fused != tokens).any(-1).all()

    def test_closed_gate_learns(self, make):
        fusion = make(12)
        fusion(*inputs()).square().sum().backward()
        assert (fusion.gate.grad != 0).all()

    def test_no_dead_parameters_behind_an_open_gate(self, make):
        fusion = make(12, gate_init=1.0).double()
        fusion(*inputs(dtype=torch.float64)).square().sum().backward()
        assert not dead_parameters(fusion)

    @pytest.mark.parametrize('length', [1, 300])
    def test_any_length(self, make, length):
        assert make(12)(*inputs(length)).shape == (2, length, 12)

    def test_gate_has_one_number_a_channel(self, make):
        assert torch.equal(make(12, gate_init=0.25).gate, torch.full((12,), 0.25))


@pytest.mark.parametrize(
    ('name', 'missing', 'remedy'),
    [('token', 'update', 'encode=True'), ('assignment', 'assignment', 'with_assignment=True')],
)
def test_hierarchy_that_lacks_a_part(name, missing, remedy):
    tokens, found = inputs()
    with pytest.raises(ValueError, match=f'must have an {missing}: .*{remedy}'):
        MAKE[name](12)(tokens, found._replace(**{missing: None}))


def test_token_fusion_adds_the_gated_update():
    tokens, found = inputs()
    fusion = TokenFusion(12)
    torch.nn.init.normal_(fusion.gate)
    for image in range(2):
        for position in range(9):
            expected = tokens[image, position] + fusion.gate * found.update[image, 0]
            torch.testing.assert_close(fusion(tokens, found)[image, position], expected)


def test_node_fusion_reads_the_nodes_of_all_levels():
    tokens, found = inputs()
    fusion = NodeFusion(12, 8, 2, gate_init=1.0)
    levels = tuple(x.requires_grad_() for x in found.levels)
    fusion(tokens, found).square().sum().backward()
    assert all((x.grad != 0).any(-1).all() for x in levels)


def test_node_fusion_depends_on_the_position():
    tokens, found = inputs()
    fusion = NodeFusion(12, 8, 2, gate_init=1.0)
    change = fusion(tokens, found) - tokens
    assert not torch.allclose(change[:, 0], change[:, 1], rtol=1e-6, atol=0)
    swapped = tokens.flip(1)
    torch.testing.assert_close(fusion(swapped, found) - swapped, change.flip(1))


def test_token_fusion_changes_all_positions_alike():
    tokens, found = inputs()
    change = TokenFusion(12, gate_init=1.0)(tokens, found) - tokens
    torch.testing.assert_close(change, found.update.expand_as(tokens))


def test_assignment_fusion_draws_each_position_from_its_nodes():
    tokens, found = inputs()
    hard = tuple(torch.nn.functional.one_hot(a.argmax(1), a.shape[1]).mT.float() for a in found[3])
    fusion = AssignmentFusion(12, 3, gate_init=1.0)
    change = fusion(tokens, found._replace(assignment=hard)) - tokens
    picked = [nodes[1, share[1, :, 4].argmax()] for nodes, share in zip(found.levels, hard)]
    expected = fusion.out_proj(sum(norm(x) for norm, x in zip(fusion.norms, picked)))
    torch.testing.assert_close(change[1, 4], expected)


def test_assignment_fusion_has_a_gradient_into_the_assignment():
    tokens, found = inputs()
    shares = tuple(a.requires_grad_() for a in found.assignment)
    fused = AssignmentFusion(12, 3, gate_init=1.0)(tokens, found._replace(assignment=shares))
    fused.square().sum().backward()
    assert all((a.grad != 0).any() for a in shares)
