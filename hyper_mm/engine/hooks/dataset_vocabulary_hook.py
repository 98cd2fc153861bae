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

    Args:
        template: Whether zero-shot prompts are made by the ``template`` that the data set names
            (``PromptedCLIP`` on :class:`hyper_mm.CoOpFewShotDataset`), not by those of the model.
        halves: Whether the model refines the first half of the classes and the second one each for
            itself in validation and test (``PromptedCLIP``, for :class:`hyper_mm.BaseNewAccuracy`).

    Raises:
        ValueError: In use, if the data set names no classes, or no template that is asked for.
    """

    def __init__(self, template: bool = False, halves: bool = False):
        self.template, self.halves = template, halves

    def before_train_epoch(self, runner: Runner) -> None:
        """Classes of the training set."""
        self._set(runner, runner.train_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        """Classes of the validation set."""
        self._set(runner, runner.val_dataloader, self.halves)

    def before_test_epoch(self, runner: Runner) -> None:
        """Classes of the test set."""
        self._set(runner, runner.test_dataloader, self.halves)

    def _set(self, runner: Runner, loader, halves: bool = False) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        options = dict(halves=True) if halves else {}
        if self.template:
            options['templates'] = [self._named(loader.dataset, 'template')]
        model.set_vocabulary(list(self._named(loader.dataset, 'classes')), **options)

    @staticmethod
    def _named(dataset, key: str):
        found = dataset.metainfo.get(key)
        if not found:
            raise ValueError(f'the data set {type(dataset).__name__} names no {key}')
        return found
