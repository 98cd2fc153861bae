"""Scopes of losses, without a model; those of models are tested beside their mixin."""

import copy
import threading

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hyper_mm.layers.common.aux_losses import AuxLossSource, collect_losses, losses_are_collected


class Part(AuxLossSource, nn.Module):
    """Publishes a loss and a diagnostic of what it is given, in training."""

    def __init__(self, adds_up=False):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.adds_up = adds_up

    def forward(self, x):
        x = x * self.weight
        if self.publishes:
            (x,) = self.publish(dict(loss_size=x.square().mean(), size=x.detach().mean()), x)
        return x


def test_losses_add_up_and_diagnostics_are_averaged():
    part = Part()
    with collect_losses() as scope:
        part(torch.full((3,), 2.0))
        part(torch.full((3,), 4.0))
    found = scope.of(part)
    assert found['loss_size'] == 4 + 16 and found['size'] == 3
    assert scope.sources() == [part] and scope.of(Part()) == {}


def test_losses_reach_the_weights():
    part = Part()
    with collect_losses() as scope:
        part(torch.full((3,), 2.0))
    scope.of(part)['loss_size'].backward()
    assert part.weight.grad == 8


def test_names_of_several_parts():
    apart, together = [Part(), Part()], [Part(adds_up=True), Part(adds_up=True)]
    x = torch.ones(2)
    for parts, names in ((apart, {'loss_size', 'b.loss_size'}), (together, {'loss_size'})):
        with collect_losses() as scope:
            for part in parts:
                part(x)
        total = scope.total(dict(zip(parts, 'ab')))
        losses = {name: value for name, value in total.items() if 'loss' in name}
        assert set(losses) == names and sum(losses.values()) == 2
        assert 'a.loss_size' in scope.total(dict(zip(parts, 'ab')), taken=['loss_size'])


def test_the_innermost_scope_collects():
    part = Part()
    with collect_losses() as outer:
        with collect_losses() as inner:
            part(torch.ones(1))
        assert losses_are_collected()
    assert inner.of(part) and not outer.of(part) and not losses_are_collected()


def test_a_scope_ends_with_an_error_and_leaves_nothing_on_the_part():
    part = Part()
    with pytest.raises(RuntimeError, match='stop'), collect_losses():
        part(torch.ones(1))
        raise RuntimeError('stop')
    assert not losses_are_collected()
    copy.deepcopy(part)  # no graph of the pass is kept


def test_evaluation_publishes_nothing():
    part = Part().eval()
    with collect_losses() as scope:
        part(torch.ones(1))
    assert scope.total() == {}


def test_threads_have_scopes_of_their_own():
    part, found = Part(), {}

    def work(value):
        for _ in range(50):
            with collect_losses() as scope:
                part(torch.full((2,), float(value)))
            found.setdefault(value, set()).add(scope.of(part)['loss_size'].item())

    threads = [threading.Thread(target=work, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {value: {float(value**2)} for value in range(6)}


@pytest.mark.parametrize('reentrant', [True, False])
def test_a_repeated_pass_neither_doubles_nor_loses_the_loss(reentrant):
    gradients = []
    for repeated in (False, True):
        part = Part().double()
        x = torch.full((3,), 2.0, dtype=torch.float64, requires_grad=True)
        with collect_losses(part) as scope:
            y = checkpoint(part, x, use_reentrant=reentrant) if repeated else part(x)
        loss = scope.of(part)['loss_size']
        assert loss == 4
        (y.sum() + 3 * loss).backward()
        gradients.append((part.weight.grad, x.grad))
    for plain, again in zip(*gradients):
        torch.testing.assert_close(plain, again)
