import copy

import pytest
import torch
from torch import nn

from hyper_mm.layers.hyperclip.adapted_weight import merge_weights
from hyper_mm.layers.hyperclip.weight_updates import (
    LowRankUpdate,
    TrainedParts,
    apply_lora,
    train_parts,
)


@pytest.fixture
def model():
    return nn.Sequential(*(nn.MultiheadAttention(12, 3, batch_first=True) for _ in range(2)))


def run(model, x):
    for layer in model:
        x = x + layer(x, x, x)[0]
    return x


def trained(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


class TestLowRankUpdate:
    def test_values(self):
        update = LowRankUpdate(6, rank=2, alpha=3.0, projections=('q', 'v'))
        nn.init.normal_(update.up)
        weight = torch.randn(18, 6)
        expected = weight.clone()
        expected[:6] += 1.5 * update.up[0] @ update.down[0]
        expected[12:] += 1.5 * update.up[1] @ update.down[1]
        torch.testing.assert_close(update(weight), expected)

    def test_gradient(self):
        update = LowRankUpdate(4, rank=2).double()
        nn.init.normal_(update.up)
        weight = torch.randn(12, 4, dtype=torch.float64)

        def forward(down, up):
            return torch.func.functional_call(update, dict(down=down, up=up), (weight,))

        assert torch.autograd.gradcheck(forward, (update.down, update.up))

    @pytest.mark.parametrize('rank', [0, 7])
    def test_rank(self, rank):
        with pytest.raises(ValueError, match=rf'rank must lie in 1..6, got {rank}'):
            LowRankUpdate(6, rank)

    @pytest.mark.parametrize('projections', ['', 'qo', ['out']])
    def test_projections(self, projections):
        with pytest.raises(ValueError, match='projections must be some of'):
            LowRankUpdate(6, 2, projections=projections)


class TestApplyLora:
    def test_starts_as_the_model_was(self, model):
        x = torch.randn(2, 5, 12)
        before = run(model, x)
        apply_lora(model, rank=3)
        torch.testing.assert_close(run(model, x), before)

    def test_only_the_updates_train(self, model):
        base = copy.deepcopy(model)
        apply_lora(model, rank=3)
        assert sum(p.numel() for p in trained(model).values()) == 2 * 3 * 2 * 3 * 12
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):  # the first step moves B alone, for B = 0
            run(model, torch.randn(2, 5, 12)).square().sum().backward()
            optimizer.step()
        assert all(p.grad.ne(0).any() for p in trained(model).values())
        for old, new in zip(base, model):
            assert not torch.equal(old.in_proj_weight, new.in_proj_weight)
            original = new.parametrizations.in_proj_weight.original
            torch.testing.assert_close(original, old.in_proj_weight, rtol=0, atol=0)
            torch.testing.assert_close(new.out_proj.weight, old.out_proj.weight, rtol=0, atol=0)

    def test_folds_away(self, model):
        apply_lora(model)
        for module in model:
            nn.init.normal_(module.parametrizations.in_proj_weight[0].up)
        x = torch.randn(2, 5, 12)
        before = run(model, x)
        merge_weights(model)
        assert {type(module) for module in model} == {nn.MultiheadAttention}
        torch.testing.assert_close(run(model, x), before)

    def test_twice(self, model):
        apply_lora(model)
        for adapt in (apply_lora, train_parts):
            with pytest.raises(ValueError, match='0 of the model has an adapter already'):
                adapt(model)

    def test_another_scale_is_refused(self, model):
        """The factors do not know alpha: the same numbers would be another update."""
        other = copy.deepcopy(model)
        apply_lora(model, rank=2, alpha=4.0)
        apply_lora(other, rank=2, alpha=8.0)
        with pytest.raises(ValueError, match='scale=2.0, the model has scale=4.0'):
            other.load_state_dict(model.state_dict())

    def test_nothing_to_adapt(self):
        with pytest.raises(ValueError, match='Linear has no attention layer whose projections'):
            apply_lora(nn.Linear(2, 2))


class TestTrainParts:
    def test_starts_as_the_model_was(self, model):
        x = torch.randn(2, 5, 12)
        before = run(model, x)
        train_parts(model)
        torch.testing.assert_close(run(model, x), before, rtol=0, atol=0)

    def test_queries_and_values_train_and_keys_stay(self, model):
        before = [module.in_proj_weight.clone() for module in model]
        train_parts(model, 'qv')
        assert sum(p.numel() for p in trained(model).values()) == 2 * 2 * 12 * 12
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        run(model, torch.randn(2, 5, 12)).square().sum().backward()
        optimizer.step()
        for old, module in zip(before, model):
            new = module.in_proj_weight.chunk(3)
            changed = [not torch.equal(a, b) for a, b in zip(old.chunk(3), new)]
            assert changed == [True, False, True]

    def test_parts(self):
        weight = torch.arange(12.0)[:, None].expand(12, 4).clone()
        parts = TrainedParts(weight, 'k')
        with torch.no_grad():
            parts.parts.zero_()
        assert parts(weight)[:, 0].tolist() == [0, 1, 2, 3, 0, 0, 0, 0, 8, 9, 10, 11]
