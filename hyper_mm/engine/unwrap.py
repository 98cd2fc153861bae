"""The model inside the wrapper of a distributed run."""

from __future__ import annotations

from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """Returns the model inside the wrapper of a distributed run.

    Args:
        model: A model or a wrapper of one, such as ``runner.model``.

    Returns:
        The module that is wrapped; ``model`` itself if it is no wrapper.
    """
    return model.module if is_model_wrapper(model) else model
