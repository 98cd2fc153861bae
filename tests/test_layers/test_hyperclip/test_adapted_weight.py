import copy
import io
import pickle
import threading

import pytest
import torch
from torch import nn

from hyper_mm.layers import HyperCLIPAdapter
from hyper_mm.layers.hyperclip.adapted_weight import (
    AdaptedWeight,
    WeightCache,
    cached_weights,
    caches,
    merge_weights,
    set_cached,
)
from hyper_mm.layers.hyperclip.weight_updates import apply_lora, train_parts
from tests.conftest import TORCH


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.MultiheadAttention(16, 2, batch_first=True) for _ in range(2)
        )

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x, x, x, need_weights=False)[0]
        return x


def hyperclip(**options):
    return lambda model: HyperCLIPAdapter(8, **options).attach(model)


KINDS = {
    'weight': hyperclip(),
    'out too': hyperclip(projections=('q', 'out')),
    'euclidean input': hyperclip(target='input', space='euclidean'),
    'input in the ball': hyperclip(target='input'),
    'LoRA': lambda model: apply_lora(model, rank=2),
    'parts': lambda model: train_parts(model, 'qv'),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def model(request):
    torch.manual_seed(0)
    model = Layers().eval()
    request.param(model)
    disturb(model)
    return model


def disturb(model, scale=0.1):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn_like(parameter)


X = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def run(model):
    return model(X)


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def computations(model):
    """Counts how often an adapted weight is computed; the list grows."""
    calls = []
    for module in model.modules():
        if isinstance(module, AdaptedWeight):
            module[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


def by_data(model):
    """Moving averages exchange weights this way: no version counter sees it."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(parameter.data + 0.1)


def by_optimizer(model):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(X).square().sum().backward()
    optimizer.step()


def by_loading(model):
    other = copy.deepcopy(model)
    disturb(other)
    model.load_state_dict(other.state_dict())


def by_assignment(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.1


def by_frozen_weight(model):
    plain = Layers()
    model.load_state_dict(plain.state_dict(), strict=False)


def by_dtype(model):
    model.double()
    model.float()
    by_data(model)


CHANGES = [by_data, by_optimizer, by_loading, by_assignment, by_frozen_weight, by_dtype]


class TestCache:
    @pytest.mark.parametrize('change', CHANGES)
    def test_changed_weights_are_seen(self, model, change):
        before = run(model)
        with cached_weights(model):
            assert close(run(model), before)
            change(model)
            found = run(model)
        assert close(found, run(model))
        assert not close(found, before)

    def test_structure_and_state_stay(self, model):
        keys = list(model.state_dict())
        types = [type(module) for module in model.modules()]
        with cached_weights(model):
            run(model)
            state = model.state_dict()
            assert list(state) == keys
            assert [type(module) for module in model.modules()] == types
            file = io.BytesIO()
            torch.save(state, file)
            size = file.tell()
        file = io.BytesIO()
        torch.save(model.state_dict(), file)
        assert file.tell() == size

    def test_nothing_is_computed_twice(self, model):
        calls = computations(model)
        with cached_weights(model):
            run(model)
            first = len(calls)
            run(model)
            assert len(calls) == first
        run(model)
        assert len(calls) == 2 * first

    def test_gradients_flow_while_it_is_on(self, model):
        wanted = {n for n, p in model.named_parameters() if p.requires_grad}
        with cached_weights(model):
            run(model)
            model(X).square().sum().backward()
        assert {n for n, p in model.named_parameters() if p.grad is not None} == wanted

    def test_a_value_of_inference_mode_serves_elsewhere(self, model):
        model.requires_grad_(False)
        with cached_weights(model):
            with torch.inference_mode():
                model(X)
            x = X.clone().requires_grad_()
            model(x).square().sum().backward()
        assert x.grad.ne(0).any()

    def test_weights_of_inference_mode_are_never_stale(self):
        with torch.inference_mode():
            model = Layers().eval()
            apply_lora(model, rank=2)
            disturb(model)
            with cached_weights(model):
                model(X)
                model.blocks[0].parametrizations.in_proj_weight.original.mul_(2)
                found = model(X)
            assert torch.equal(found, model(X))

    def test_it_ends_with_an_error(self, model):
        with pytest.raises(RuntimeError, match='stop'), cached_weights(model):
            run(model)
            raise RuntimeError('stop')
        assert not any(cache.on or cache._kept for cache in caches(model))

    def test_modes_forget(self, model):
        set_cached(model, True)
        run(model)
        model.eval()
        assert all(cache._kept is None for cache in caches(model))

    @pytest.mark.skipif(TORCH < (2, 3), reason="torch's attention fails under autocast there")
    def test_autocast_does_not_enter_the_kept_value(self, model):
        with cached_weights(model):
            with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
                model(X)
            found = run(model)
        assert close(found, run(model))


class TestCopies:
    def test_deepcopy_and_pickle(self, model):
        expected = run(model)
        set_cached(model, True)
        run(model)
        for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(run(copied), run(copied))
            assert close(run(copied), expected)
            assert list(copied.state_dict()) == list(model.state_dict())
            disturb(copied)
            assert not close(run(copied), expected)
        set_cached(model, False)
        assert torch.equal(run(model), expected)

    def test_a_file_of_the_whole_model(self, model, tmp_path):
        torch.save(model, tmp_path / 'model.pth')
        found = torch.load(tmp_path / 'model.pth', weights_only=False)
        assert torch.equal(run(found), run(model))

    @pytest.mark.parametrize('merged', ['original', 'copy'])
    def test_merging_one_leaves_the_other(self, model, merged):
        if any(not getattr(m, 'linear', True) for m in model.modules()):
            with pytest.raises(ValueError, match="space='euclidean' only"):
                merge_weights(model)
            return
        expected = run(model)
        keys = list(model.state_dict())
        one, other = model, copy.deepcopy(model)
        if merged == 'copy':
            one, other = other, one
        merge_weights(one)
        assert {type(block) for block in one.blocks} == {nn.MultiheadAttention}
        assert close(run(one), expected)
        assert torch.equal(run(other), expected)
        assert list(other.state_dict()) == keys
        other(X).sum().backward()
        again = copy.deepcopy(one)
        assert torch.equal(run(again), run(one))

    def test_threads(self, model):
        """One model in several threads, with gradients: no graph is shared."""
        expected, errors = model(X).detach(), []

        def work():
            try:
                for _ in range(10):
                    found = model(X)
                    torch.autograd.grad(
                        found.sum(), [p for p in model.parameters() if p.requires_grad]
                    )
                    assert torch.equal(found, expected)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors


def test_an_empty_cache():
    cache = WeightCache()
    cache.on = True
    values = iter('ab')
    assert cache.get(lambda: torch.tensor(ord(next(values))), [torch.ones(1)], []) == ord('a')
    assert not copy.deepcopy(cache).on
