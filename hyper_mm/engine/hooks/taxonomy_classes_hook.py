"""An error in place of training with the label tree of other classes."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from hyper_mm.layers.taxonomy import Taxonomy
from hyper_mm.registry import HOOKS

from .vocabulary_hook import class_names


@HOOKS.register_module()
class TaxonomyClassesHook(Hook):
    """Compares the classes of the label trees of heads with those of the data set.

    A tree in another order than the data set would be trained without a word. Names that the data
    set calls otherwise cannot be compared: there is a warning. The tools of hyper_mm add this hook;
    in other tools add it to ``custom_hooks``.

    Raises:
        ValueError: Before training and before a test, if the classes stand in another order.
    """

    def before_train(self, runner: Runner) -> None:
        """Compares with the classes of the training set."""
        self._compare(runner, runner.train_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Compares with the classes of the test set."""
        self._compare(runner, runner.test_dataloader)

    @staticmethod
    def _compare(runner: Runner, loader) -> None:
        trees = [getattr(module, 'taxonomy', None) for module in runner.model.modules()]
        for tree in trees:
            if not isinstance(tree, Taxonomy):
                continue
            classes = class_names(loader)
            if set(classes) == set(tree.classes):
                tree.check_classes(classes)
            else:
                runner.logger.warning(
                    f'The order of the classes of {tree.source} cannot be compared with the data '
                    f'set: that has {classes[:3]}... and the tree {list(tree.classes[:3])}...'
                )
