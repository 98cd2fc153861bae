"""Checkpoints of what is trained alone: the config builds the rest again, and that is checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

FROZEN = 'frozen_weights'
"""Key, in a state dict, of the fingerprints of the weights that it leaves out."""
PROBE = 1 << 16
TOLERANCE = 1e-5
"""Largest difference of fingerprints, relative to the norm: position embeddings that are resized
differ in their last bits between processors, other weights by orders of magnitude more."""


def fingerprint(tensors: Iterable[Tensor]) -> Tensor:
    """Norm and a fixed projection of each of some tensors.

    Args:
        tensors: N tensors of any shapes.

    Returns:
        ``(N, 2)``, float64, on the CPU.
    """
    # Knuth's multiplicative hash: the same numbers of -1 to 1 on every machine.
    probe = torch.arange(1, PROBE + 1) * 2654435761 % 2**32 / 2**31 - 1
    probe = probe.double()
    rows = []
    for tensor in tensors:
        values = tensor.detach().cpu().double().flatten()
        grid = nn.functional.pad(values, (0, -len(values) % PROBE)).view(-1, PROBE)
        rows.append(torch.stack([values.norm(), (grid @ probe) @ probe[: len(grid)]]))
    return torch.stack(rows) if rows else torch.zeros(0, 2, dtype=torch.float64)


def without_frozen(model: nn.Module, state: Mapping[str, Tensor], prefix: str = '') -> dict:
    """A state dict without the frozen parameters of its model, and with their fingerprints.

    Args:
        model: The model.
        state: Its state dict.
        prefix: What stands before the names of the model in ``state``.

    Returns:
        What is left: trained parameters, buffers, options.
    """
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    left = {key: value for key, value in state.items() if key.removeprefix(prefix) not in frozen}
    left[prefix + FROZEN] = fingerprint(frozen.values())
    return left


class LoadsTrainedWeights:
    """Mixin of a model that loads checkpoints of its trained parameters alone.

    The frozen parameters that such a checkpoint leaves out stay as the config has built them. They
    are compared with those of the training by their fingerprints: loading raises ValueError where
    they differ, strictly or not.
    """

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if prefix + FROZEN in state_dict:
            saved = state_dict.pop(prefix + FROZEN)
            known = self.state_dict(prefix=prefix)
            unknown = [key for key in state_dict if key.startswith(prefix) and key not in known]
            if unknown:
                raise ValueError(
                    f'the checkpoint holds trained weights alone, and {type(self).__name__} has no '
                    f'place for {len(unknown)} of them, such as {unknown[0]}: they are not of one '
                    'config'
                )
            own = {n: p for n, p in self.named_parameters() if prefix + n not in state_dict}
            _compare(type(self).__name__, own, saved)
            state_dict.update((prefix + name, p.detach()) for name, p in own.items())
        super()._load_from_state_dict(state_dict, prefix, *args)


def _compare(model: str, own: Mapping[str, nn.Parameter], saved: Tensor) -> None:
    """Raises ValueError if frozen weights are not those of the training."""
    trained = [name for name, parameter in own.items() if parameter.requires_grad]
    if len(own) != len(saved):
        advice = f', of which it trains {trained[:3]}' if trained else ''
        raise ValueError(
            f'the checkpoint was written without its {len(saved)} frozen weights, and lacks '
            f'{len(own)} weights of {model}{advice}: they are not of one config'
        )
    found = fingerprint(own.values())
    wrong = ((found - saved.cpu()).abs() > TOLERANCE * saved.cpu()[:, :1].abs()).any(1)
    names = [name for name, differs in zip(own, wrong.tolist()) if differs]
    if names:
        raise ValueError(
            f'the checkpoint holds trained weights alone, and {len(names)} of the {len(own)} '
            f'frozen weights of {model} are not those that they were trained with, such as '
            f'{names[0]}: build the model with the same pretrained weights (random ones: with the '
            'same seed), or save whole checkpoints, without TrainedWeightsHook'
        )
