"""States of optimizers between runs of one process and sharded ones.

Whole runs are in tests/test_tools/test_language_scripts.py.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmengine')

from hyper_mm.engine.strategies import (  # noqa: E402
    clean_name,
    counts_parameters,
    name_parameters,
)


@pytest.fixture
def optimizer():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    names = {id(p): name for name, p in model.named_parameters()}
    parameters = list(model.parameters())
    groups = [dict(params=parameters[1::2], lr=0.1), dict(params=parameters[::2])]
    optimizer = torch.optim.AdamW(groups, lr=0.2)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    optimizer.names = [[names[id(p)] for p in group['params']] for group in optimizer.param_groups]
    return optimizer


def test_parameters_are_named_by_their_place(optimizer):
    state = optimizer.state_dict()
    assert counts_parameters(state)
    named = name_parameters(state, optimizer.names)
    assert not counts_parameters(named) and not counts_parameters(dict(state={}, param_groups=[]))
    assert [g['params'] for g in named['param_groups']] == [
        ['0.bias', '1.bias'],
        ['0.weight', '1.weight'],
    ]
    assert [group['lr'] for group in named['param_groups']] == [0.1, 0.2]
    for group in optimizer.param_groups:
        for parameter, name in zip(group['params'], optimizer.names.pop(0)):
            found = named['state'][name]['exp_avg']
            assert torch.equal(found, optimizer.state[parameter]['exp_avg'])
            assert found.shape == parameter.shape
    assert counts_parameters(state)  # it is as it was
    before = {i: s['exp_avg'].clone() for i, s in state['state'].items()}
    optimizer.load_state_dict(named)  # one process takes the state of a sharded run
    after = optimizer.state_dict()['state']
    assert all(torch.equal(before[i], after[i]['exp_avg']) for i in before)


def test_other_groups_are_refused(optimizer):
    names = [optimizer.names[0], optimizer.names[1][:1]]
    with pytest.raises(ValueError, match=r'\[2, 1\] parameters, got \[2, 2\]'):
        name_parameters(optimizer.state_dict(), names)


def test_names_without_wrappers():
    name = '_fsdp_wrapped_module.blocks.1._fsdp_wrapped_module.ffn.weight'
    assert clean_name(name) == 'blocks.1.ffn.weight'
