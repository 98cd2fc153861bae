"""Classes of a CLIP model from the data set at hand."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.registry import HOOKS

from .vocabulary_hook import KEY, compare_with_saved, innermost


@HOOKS.register_module()
class DatasetVocabularyHook(Hook):
    """Sets the classes of each data set in :class:`hyper_mm.PromptedCLIP` or ``RadialCLIP``.

    Training on the base classes and testing on the new ones takes nothing else. Names are taken
    whole: a comma is part of them. Checkpoints hold the names of training, and a run that is
    resumed with others is an error.

    Args:
        template: Whether zero-shot prompts are made by the ``template`` that the data set names
            (``PromptedCLIP`` on :class:`hyper_mm.CoOpFewShotDataset`), not by those of the model.
        halves: Whether the model refines the first half of the classes and the second one each for
            itself in validation and test (``PromptedCLIP``, for :class:`hyper_mm.BaseNewAccuracy`).

    Raises:
        ValueError: In use, if the data set names no classes, or no template that is asked for, or
            other classes than the run that is resumed.
    """

    def __init__(self, template: bool = False, halves: bool = False):
        self.template, self.halves = template, halves
        self.trained: Vocabulary | None = None

    def before_train_epoch(self, runner: Runner) -> None:
        """Sets the classes of the training set."""
        self.trained = self._set(runner, runner.train_dataloader)

    def before_val_epoch(self, runner: Runner) -> None:
        """Sets the classes of the validation set."""
        self._set(runner, runner.val_dataloader, self.halves)

    def before_test_epoch(self, runner: Runner) -> None:
        """Sets the classes of the test set."""
        self._set(runner, runner.test_dataloader, self.halves)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Saves the classes of training."""
        if self.trained is not None:
            checkpoint['meta'][KEY] = self.trained.options()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares the classes of a run that is resumed."""
        if runner._resume:
            vocabulary = self._vocabulary(runner, runner.train_dataloader)
            compare_with_saved(runner, checkpoint, vocabulary)

    def _vocabulary(self, runner: Runner, loader) -> Vocabulary:
        classes = self._named(loader, 'classes')
        named = [self._named(loader, 'template')] if self.template else None
        return Vocabulary.of_dataset(classes, named or innermost(runner.model).templates)

    def _set(self, runner: Runner, loader, halves: bool = False) -> Vocabulary:
        vocabulary = self._vocabulary(runner, loader)
        options = dict(halves=True) if halves else {}
        innermost(runner.model).set_vocabulary(vocabulary, **options)
        return vocabulary

    @staticmethod
    def _named(loader, key: str):
        found = loader.dataset.metainfo.get(key)
        if not found:
            raise ValueError(f'the data set {type(loader.dataset).__name__} names no {key}')
        return found
