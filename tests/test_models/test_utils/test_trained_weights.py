import pytest
import torch
from torch import nn

from hyper_mm.models.utils.trained_weights import (
    FROZEN,
    LoadsTrainedWeights,
    fingerprint,
    without_frozen,
)


class Model(LoadsTrainedWeights, nn.Module):
    def __init__(self, seed=0, frozen=True):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(300, 300), nn.BatchNorm1d(300))
        self.body.requires_grad_(not frozen)
        torch.manual_seed(seed + 10)
        self.head = nn.Linear(300, 2)


class TestFingerprint:
    def test_shape_and_repetition(self):
        tensors = [torch.randn(70000), torch.randn(3, 4), torch.tensor(2.0), torch.zeros(0)]
        found = fingerprint(tensors)
        assert found.shape == (4, 2)
        assert torch.equal(found, fingerprint(tensors))
        assert fingerprint([]).shape == (0, 2)

    @pytest.mark.parametrize('change', ['flip', 'shift', 'noise', 'sign'])
    @pytest.mark.parametrize('size', [300, 200000])
    def test_other_values_are_seen(self, change, size):
        x = torch.randn(size, dtype=torch.float64)
        y = dict(flip=x.flip(0), shift=x.roll(1), noise=x + 1e-3 * torch.randn_like(x), sign=-x)[
            change
        ]
        a, b = fingerprint([x, y])
        assert (a - b).abs().max() > 1e-5 * a[0]

    def test_rounding_is_not(self):
        x = torch.randn(5000, dtype=torch.float64)
        a, b = fingerprint([x, x * (1 + 1e-7 * torch.randn_like(x))])
        assert (a - b).abs().max() < 1e-5 * a[0]


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('strict', [True, False])
def test_leaves_out_and_loads(prefix, strict):
    model, other = Model(), Model()
    nn.init.normal_(model.head.weight)
    model.body[1].running_mean += 1
    holder = model if not prefix else nn.ModuleDict(dict(module=model))
    state = without_frozen(model, holder.state_dict(), prefix)
    names = {'head.weight', 'head.bias', 'body.1.running_mean', 'body.1.running_var', FROZEN}
    assert set(state) == {prefix + n for n in {*names, 'body.1.num_batches_tracked'}}
    target = other if not prefix else nn.ModuleDict(dict(module=other))
    found = target.load_state_dict(state, strict=strict)
    assert not found.missing_keys
    assert not found.unexpected_keys
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_other_frozen_weights():
    model, other = Model(), Model(seed=1)
    state = without_frozen(model, model.state_dict())
    with pytest.raises(ValueError, match='2 of the 4 frozen weights of Model .* body.0.weight'):
        other.load_state_dict(state, strict=False)


def test_weights_without_a_place():
    state = without_frozen(Model(), Model().state_dict())
    state['adapter.weight'] = torch.zeros(1)
    with pytest.raises(ValueError, match='no place for 1 of them, such as adapter.weight'):
        Model().load_state_dict(state, strict=False)


def test_other_parts_are_frozen():
    state = without_frozen(Model(), Model().state_dict())
    del state['head.bias']
    with pytest.raises(ValueError, match=r"4 frozen .* lacks 5 .* it trains \['head.bias'\]"):
        Model().load_state_dict(state)


def test_whole_checkpoints_load_as_ever():
    model = Model(seed=1)
    other = Model()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.body[0].weight, model.body[0].weight)
