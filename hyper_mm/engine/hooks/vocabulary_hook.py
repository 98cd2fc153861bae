"""Pictures with the names of a segmentor's vocabulary."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Gives the visualizer the names of the model's vocabulary instead of the data set's.

    mmengine takes them from the data set, so a model with a vocabulary of its own
    (``--cfg-options model.vocabulary=my_classes.txt``) would be drawn with the wrong names.
    """

    def before_val(self, runner: Runner) -> None:
        """Names of pictures in validation.

        Args:
            runner: The runner.
        """
        self._set_names(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Names of pictures in testing.

        Args:
            runner: The runner.
        """
        self._set_names(runner, runner.test_dataloader)

    def _set_names(self, runner: Runner, loader) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        meta = getattr(loader.dataset, 'metainfo', {})
        model.dataset_meta = meta
        _ = runner.iter  # builds the training loop, which brings its names, where nothing else has
        runner.visualizer.dataset_meta = model.dataset_meta
        classes = model.dataset_meta['classes']
        if len(classes) != len(meta.get('classes') or ()):
            runner.logger.warning(
                f'the vocabulary has {len(classes)} classes, the data set '
                f'{len(meta.get("classes") or ())}: pictures are right, scores mean nothing unless '
                'the data set maps one to the other'
            )
