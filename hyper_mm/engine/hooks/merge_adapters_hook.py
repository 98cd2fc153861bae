"""Hook that keeps the adapted weights of a model during evaluation."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.layers.hyperclip.adapted_weight import InputMaps, caches, set_cached
from hyper_mm.layers.hyperclip.adapter import HyperCLIPAdapter
from hyper_mm.registry import HOOKS


def adapter_of(runner: Runner) -> HyperCLIPAdapter:
    """Returns the adapter of the runner's model.

    Raises:
        ValueError: If the model has none in its attribute ``adapter``.
    """
    model = unwrap_model(runner.model)
    adapter = getattr(model, 'adapter', None)
    if not isinstance(adapter, HyperCLIPAdapter):
        raise ValueError(f'{type(model).__name__} has no HyperCLIP adapter: found {adapter!r}')
    return adapter


@HOOKS.register_module()
class MergeAdaptersHook(Hook):
    """Computes the adapted weights of the model once for each validation and test.

    Evaluation then runs at the speed of the plain model. Nothing is written into the model: its
    structure and its state dict stay as they are, so checkpoints always hold the adapter, and
    weights that change meanwhile (moving averages) are seen. It serves ``hyper_mm.LoRAAdapter`` and
    ``finetune='qv'`` too. Maps of inputs in the ball (``target='input'``), whose largest length no
    weight expresses, run as in training.

    Raises:
        ValueError: Before the run, if the model has no adapted weights.
    """

    def before_run(self, runner: Runner) -> None:
        """Checks the model."""
        if not any(True for _ in caches(runner.model)):
            raise ValueError(f'{_name(runner)} has no adapted weights: take MergeAdaptersHook out')
        maps = [module for module in runner.model.modules() if isinstance(module, InputMaps)]
        if any(not module.linear for module in maps):
            runner.logger.info(
                "MergeAdaptersHook: with target='input' and space='poincare' no weight expresses "
                'the maps; evaluation computes them at each forward pass'
            )

    def before_val(self, runner: Runner) -> None:
        """Caches the adapted weights, computed once."""
        if not set_cached(runner.model, True):
            raise ValueError(f'{_name(runner)} has no adapted weights: take MergeAdaptersHook out')

    def after_val(self, runner: Runner) -> None:
        """Drops the cached weights."""
        set_cached(runner.model, False)

    before_test, after_test = before_val, after_val


def _name(runner: Runner) -> str:
    model = unwrap_model(runner.model)
    return type(model).__name__
