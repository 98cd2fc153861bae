"""Single numbers among the parameters of a module."""

import pytest
import torch

from hyper_mm.layers.lorentz.attention import HMLA, LorentzAttention
from hyper_mm.layers.lorentz.mice import MiCE
from hyper_mm.layers.lorentz.norm import LorentzResidual
from hyper_mm.layers.lorentz.vit import GridAttention

BUILD = {
    'residual': lambda: LorentzResidual(2.0, 0.3),
    'attention': lambda: LorentzAttention(9, 2),
    'latent': lambda: HMLA(7, 2, 3, 2, 2, 2),
    'grid': lambda: GridAttention(8, 2),
    'experts': lambda: MiCE(7, 5, combine='sequential'),
}


@pytest.mark.parametrize('kind', list(BUILD))
def test_old_state_dicts_are_upgraded(kind):
    module, other = BUILD[kind](), BUILD[kind]()
    assert module.numbers and all(p.ndim for p in module.parameters())
    state = module.state_dict()
    for name in module.numbers:
        assert state[name].shape == (1,)
        state[name] = torch.tensor(0.7)
    other.load_state_dict(state)
    for name in module.numbers:
        assert torch.equal(getattr(other, name), torch.tensor([0.7]))
    state[module.numbers[0]] = torch.ones(2)
    with pytest.raises(RuntimeError, match='size mismatch'):
        other.load_state_dict(state)
