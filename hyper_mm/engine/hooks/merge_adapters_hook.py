"""Hook that folds the adapter of a model into its weights for evaluation."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from hyper_mm.layers.hyperclip.adapter import HyperCLIPAdapter
from hyper_mm.registry import HOOKS


def adapter_of(runner: Runner) -> HyperCLIPAdapter:
    """The adapter of the runner's model.

    Raises:
        ValueError: If the model has none in its attribute ``adapter``.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    adapter = getattr(model, 'adapter', None)
    if not isinstance(adapter, HyperCLIPAdapter):
        raise ValueError(f'{type(model).__name__} has no HyperCLIP adapter: found {adapter!r}')
    return adapter


@HOOKS.register_module()
class MergeAdaptersHook(Hook):
    """Merges the adapter of the model for validation and test, and takes it out again after.

    Evaluation then runs at the speed of the plain model. Checkpoints always hold the adapter.

    Raises:
        ValueError: In evaluation, if the model has no adapter.
    """

    def before_val(self, runner: Runner) -> None:
        """Merges."""
        adapter_of(runner).merge()

    def after_val(self, runner: Runner) -> None:
        """Takes it out again."""
        adapter_of(runner).unmerge()

    before_test, after_test = before_val, after_val
