"""Classes of a CLIP model from the data set at hand."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class DatasetVocabularyHook(Hook):
    """Gives :class:`hyper_mm.PromptedCLIP` or ``RadialCLIP`` the classes of each data set it meets.

    Training on the base classes and testing on the new ones takes nothing else.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Classes of the training set."""
        self._set(runner, runner.train_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        """Classes of the validation set."""
        self._set(runner, runner.val_dataloader)

    def before_test_epoch(self, runner: Runner) -> None:
        """Classes of the test set."""
        self._set(runner, runner.test_dataloader)

    def _set(self, runner: Runner, loader) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        classes = loader.dataset.metainfo.get('classes')
        if not classes:
            raise ValueError(f'the data set {type(loader.dataset).__name__} names no classes')
        model.set_vocabulary(list(classes))
