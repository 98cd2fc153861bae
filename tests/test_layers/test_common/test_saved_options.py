import re
import warnings

import pytest
import torch
from torch import nn

from hyper_mm.layers.common.saved_options import (
    SavedOptions,
    compare_options,
    decode_options,
    encode_options,
)


class Scale(SavedOptions, nn.Module):
    def __init__(self, power=1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.power = power

    def saved_options(self):
        return dict(power=self.power)


def test_options_come_back():
    options = dict(curvature=0.01, space='poincare', shared=False)
    assert decode_options(encode_options(options)) == options


@pytest.mark.parametrize('state', [torch.ones(3, dtype=torch.uint8), [1, 2], 'text', {}])
def test_bytes_that_are_none(state):
    with pytest.raises(ValueError, match='saved options must be'):
        decode_options(state)


@pytest.mark.parametrize('strict', [True, False])
def test_other_options_are_refused_by_name_and_value(strict):
    model, other = nn.ModuleDict(dict(a=Scale(2))), nn.ModuleDict(dict(a=Scale(3)))
    with pytest.raises(
        ValueError, match=re.escape('a was trained with power=2, the model has power=3')
    ):
        other.load_state_dict(model.state_dict(), strict=strict)
    with pytest.raises(ValueError, match='power=2'):
        other['a'].set_extra_state(model['a'].get_extra_state())


def test_the_same_options_load_without_a_word():
    model = nn.ModuleDict(dict(a=Scale(2)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = nn.ModuleDict(dict(a=Scale(2))).load_state_dict(model.state_dict())
    assert not found.missing_keys
    assert not found.unexpected_keys


def test_a_state_from_before_options_were_saved_loads_with_a_warning():
    model = nn.ModuleDict(dict(a=Scale(2)))
    state = {k: v for k, v in model.state_dict().items() if not k.endswith('_extra_state')}
    with pytest.warns(UserWarning, match=r"without the options .* \{'power': 2\}"):
        model.load_state_dict(state, strict=True)


def test_other_weights_load_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        Scale().load_state_dict({}, strict=False)


def test_an_option_that_one_side_lacks():
    with pytest.raises(ValueError, match='x was trained with b=2, the model has b=None'):
        compare_options(dict(a=1, b=2), dict(a=1), 'x')
