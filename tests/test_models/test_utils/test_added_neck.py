"""Weights of stock necks find their place; those of a list's own checkpoint stay where they are."""

import pytest
from torch import nn

pytest.importorskip('mmengine')

from hyper_mm.models.utils.added_neck import AddedNeck, load_listed_necks  # noqa: E402


class Added(AddedNeck, nn.Module):
    neck = None

    def __init__(self):
        super().__init__()
        self.mapper = nn.Linear(1, 1)


def renamed(model: nn.Module, names: list[str], prefix: str = '') -> dict[str, str]:
    """Where each weight goes."""
    state = {name: name for name in names}
    load_listed_necks(model, state, prefix)
    return {given: now for now, given in state.items()}


def model(*parts: nn.Module) -> nn.Module:
    return nn.ModuleDict(dict(backbone=nn.Linear(1, 1), neck=nn.Sequential(*parts)))


def stock() -> nn.Module:
    return nn.ModuleDict(dict(conv=nn.Linear(1, 1)))


def test_weights_of_one_stock_neck():
    names = ['backbone.weight', 'neck.conv.weight', 'necks.conv.weight', 'head.weight']
    found = renamed(model(Added(), stock()), names)
    assert found == dict(zip(names, names)) | {'neck.conv.weight': 'neck.1.conv.weight'}


def test_weights_of_a_stock_list():
    names = ['neck.0.conv.weight', 'neck.1.conv.weight']
    found = renamed(model(stock(), Added(), stock()), names)
    assert list(found.values()) == ['neck.0.conv.weight', 'neck.2.conv.weight']


def test_a_neck_that_is_a_list_itself():
    found = renamed(model(Added(), nn.Sequential(nn.Linear(1, 1))), ['neck.0.bias'])
    assert found == {'neck.0.bias': 'neck.1.0.bias'}


@pytest.mark.parametrize(
    'names', [['neck.0.mapper.bias', 'neck.1.conv.weight'], ['neck.1.conv.weight'], []]
)
def test_its_own_checkpoint_is_left_alone(names):
    assert renamed(model(Added(), stock()), names) == dict(zip(names, names))


def test_a_model_within_a_model():
    student = nn.ModuleDict(dict(student=model(Added(), stock())))
    found = renamed(student, ['x.student.neck.conv.bias'], prefix='x.')
    assert found == {'x.student.neck.conv.bias': 'x.student.neck.1.conv.bias'}


def test_other_lists_are_left_alone():
    assert renamed(model(stock(), stock()), ['neck.conv.bias']) == {
        'neck.conv.bias': 'neck.conv.bias'
    }
