"""Balance of the experts of a mixture, without a gradient."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.checks import check_positive
from hyper_mm.layers.lorentz.routed_experts import RoutedExperts
from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class MoEBalanceHook(Hook):
    """Shifts the choice of tokens towards experts that had few, after each step of the optimizer.

    See :meth:`hyper_mm.layers.lorentz.routed_experts.RoutedExperts.update_bias`.

    Args:
        speed: Size of a shift.

    Raises:
        ValueError: If ``speed`` is not positive.
    """

    def __init__(self, speed: float = 0.005):
        check_positive(speed=speed)
        self.speed = speed

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Updates the biases, unless gradients are still being accumulated."""
        if runner.optim_wrapper.should_update():
            for module in runner.model.modules():
                if isinstance(module, RoutedExperts):
                    module.update_bias(self.speed)
