from __future__ import annotations

from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from hyper_mm.engine.unwrap import unwrap_model


def test_the_wrapped_model_is_returned(monkeypatch):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = nn.Linear(1, 1)
    assert unwrap_model(model) is model
    assert unwrap_model(Wrapper(model)) is not model  # not registered as a wrapper
    monkeypatch.setitem(MODEL_WRAPPERS._module_dict, 'Wrapper', Wrapper)
    assert unwrap_model(Wrapper(model)) is model
