"""The encoder against a reading of the specification in plain loops."""

import pytest
import torch

from hyper_mm.layers import HierarchyEncoder
from tests.helpers.hierarchy import DIM, HEADS, WIDTH, Reference, random, randomised


@pytest.fixture
def encoder():
    return randomised(HierarchyEncoder(DIM, 3, WIDTH, HEADS))


class TestEncoder:
    def test_equals_the_formulas(self, encoder):
        tokens = random(2, 3, DIM)
        levels = tuple(random(2, n, DIM) for n in (8, 4, 2))
        states = encoder(tokens, levels, every_level=True)
        last = encoder(tokens, levels)
        assert states.shape == (3, 2, 3, DIM)
        reference = Reference(encoder)
        for image in range(2):
            for token in range(3):
                expected = reference.encode(tokens[image, token], [x[image] for x in levels])
                torch.testing.assert_close(states[:, image, token], torch.stack(expected))
                torch.testing.assert_close(last[image, token], expected[-1])

    def test_tokens_do_not_see_each_other(self, encoder):
        tokens, levels = random(2, 3, DIM), tuple(random(2, n, DIM) for n in (8, 4, 2))
        together = encoder(tokens, levels)
        for token in range(3):
            alone = encoder(tokens[:, token : token + 1], levels)
            torch.testing.assert_close(alone[:, 0], together[:, token])

    def test_every_level_counts(self, encoder):
        levels = [random(1, n, DIM).requires_grad_() for n in (8, 4, 2)]
        encoder(random(1, 1, DIM), tuple(levels)).square().sum().backward()
        assert all((x.grad != 0).any(-1).all() for x in levels)

    def test_zero_init_out(self):
        made = HierarchyEncoder(DIM, 3, WIDTH, HEADS, zero_init_out=True)
        levels = tuple(torch.randn(2, n, DIM) for n in (8, 4, 2))
        update = made(torch.randn(2, 1, DIM), levels)
        assert (update == 0).all()
        update.sum().backward()
        assert (made.out_proj[1].weight.grad != 0).any()

    def test_one_block_a_level(self):
        assert len(HierarchyEncoder(DIM, 5, WIDTH, HEADS).blocks) == 5


def test_dropout_is_of_training_alone(encoder):
    module = HierarchyEncoder(DIM, 3, WIDTH, HEADS, dropout=0.5).double().eval()
    module.load_state_dict(encoder.state_dict())
    tokens, levels = random(2, 3, DIM), tuple(random(2, n, DIM) for n in (8, 4, 2))
    torch.testing.assert_close(module(tokens, levels), encoder(tokens, levels))
    a, b = (module.train()(tokens, levels) for _ in range(2))
    assert not torch.allclose(a, b)
