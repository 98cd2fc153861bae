"""Gaussian averaging of prompts over the epochs of a run."""

from __future__ import annotations

import math

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from hyper_mm.checks import check_positive
from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.registry import HOOKS

_KEY, _OF = 'prompt_average', 'prompt_average_of'


def gaussian_weights(epochs: int, mean: float, std: float) -> list[float]:
    r"""Weights of the epochs 1 to E, which sum to 1.

    .. math:: w_e \propto \exp(-(e - \mu)^2 / 2 \sigma^2)

    Args:
        epochs: Number of epochs E.
        mean: Epoch of the largest weight.
        std: Width in epochs, positive.

    Returns:
        E weights.
    """
    logs = [-0.5 * ((epoch - mean) / std) ** 2 for epoch in range(1, epochs + 1)]
    weights = [math.exp(log - max(logs)) for log in logs]
    return [weight / sum(weights) for weight in weights]


@HOOKS.register_module()
class PromptAveragingHook(Hook):
    """Ends a run with the Gaussian average of its prompts, as PromptSRC does.

    The official code averages the whole state of CLIP, whose frozen part is the same in every
    epoch. Here the trained parameters below ``part`` are averaged. Checkpoints hold the sums so
    far, so a resumed run ends with the same average.

    Args:
        mean: Epoch of the largest weight (the paper: 15 of 20; 30 or 45 of 50; 6 of 20 between
            data sets).
        std: Width in epochs (1; 30 or 5; 10).
        part: Submodule of the model that has the prompts.

    Raises:
        ValueError: If ``std`` is not positive, or, in use, ``part`` has no trained parameter, or a
            run is resumed that has kept no sums, or those of other weights.

    Source: Khattak et al., Self-regulating Prompts (ICCV 2023).
    """

    def __init__(self, mean: float = 15.0, std: float = 1.0, part: str = 'prompts'):
        check_positive(std=std)
        self.mean, self.std, self.part = mean, std, part
        self.sums: dict[str, torch.Tensor] = {}

    def _parameters(self, runner: Runner) -> dict[str, nn.Parameter]:
        model = unwrap_model(runner.model)
        named = model.named_parameters()
        found = {n: p for n, p in named if n.startswith(f'{self.part}.') and p.requires_grad}
        if not found:
            raise ValueError(f'part {self.part!r} of the model has no parameter that is trained')
        return found

    @torch.no_grad()
    def after_train_epoch(self, runner: Runner) -> None:
        """Adds the prompts of this epoch; after the last one, they become the average."""
        weights = gaussian_weights(runner.max_epochs, self.mean, self.std)
        for name, parameter in self._parameters(runner).items():
            share = weights[runner.epoch] * parameter.float()
            total = self.sums[name].to(share) + share if name in self.sums else share
            self.sums[name] = total
            if runner.epoch + 1 == runner.max_epochs:
                parameter.copy_(total)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Saves the sums."""
        checkpoint[_KEY] = {name: total.cpu() for name, total in self.sums.items()}
        checkpoint[_OF] = self._weighted_by(runner)

    def _weighted_by(self, runner: Runner) -> dict[str, float]:
        """What the weights of the epochs depend on."""
        return dict(epochs=runner.max_epochs, mean=self.mean, std=self.std)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restores the sums of a run that is resumed."""
        if not runner._resume:
            return
        if _KEY not in checkpoint:
            raise ValueError(
                'PromptAveragingHook: the checkpoint has no sums of the epochs before it, so that '
                'their share of the average would be missing: resume a run that had this hook, or '
                'begin anew by load_from'
            )
        own = self._weighted_by(runner)
        if checkpoint.get(_OF, own) != own:  # older checkpoints do not say
            raise ValueError(
                f'PromptAveragingHook: the sums of the checkpoint are weighted by '
                f'{checkpoint[_OF]}, now the weights are those of {own}'
            )
        self.sums = dict(checkpoint[_KEY])
