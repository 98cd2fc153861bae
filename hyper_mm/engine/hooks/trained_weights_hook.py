"""Hook that leaves the frozen weights out of checkpoints."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights, without_frozen
from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class TrainedWeightsHook(Hook):
    """Saves trained parameters and buffers alone: kilobytes of prompts instead of all of CLIP.

    Such a checkpoint serves to resume, to test (``tools/test.py`` and the stock scripts) and for
    the inferencers, as a whole one does: the config builds the frozen weights, and loading compares
    them with those of the training and raises ValueError where they differ. The averages of
    mmengine's ``EMAHook`` are treated the same.

    Raises:
        ValueError: Before the run, if the model cannot load such checkpoints (those of hyper_mm
            with frozen parts can), or nothing of it is frozen.

    Example:
        >>> custom_hooks = [dict(type='hyper_mm.TrainedWeightsHook')]
    """

    priority = 'VERY_LOW'  # after EMAHook has written its part of the checkpoint

    def before_run(self, runner: Runner) -> None:
        """Checks the model."""
        model = unwrap_model(runner.model)
        if not isinstance(model, LoadsTrainedWeights):
            raise ValueError(
                f'{type(model).__name__} cannot load checkpoints of its trained weights alone: '
                'take TrainedWeightsHook out, or add hyper_mm.models.utils.trained_weights.'
                'LoadsTrainedWeights to its bases'
            )

    def before_train(self, runner: Runner) -> None:
        """Checks that there is something to leave out."""
        model = unwrap_model(runner.model)
        if all(p.requires_grad for p in model.parameters()):
            raise ValueError(
                f'nothing of {type(model).__name__} is frozen: take TrainedWeightsHook out'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leaves the frozen weights out of ``checkpoint``, which is changed in place."""
        model = unwrap_model(runner.model)
        checkpoint['state_dict'] = without_frozen(model, checkpoint['state_dict'])
        if 'ema_state_dict' in checkpoint:
            average = checkpoint['ema_state_dict']
            checkpoint['ema_state_dict'] = without_frozen(model, average, 'module.')
