"""The names of a segmentor's vocabulary, compared with those of the data, drawn and saved."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.registry import HOOKS

KEY = 'vocabulary'
"""Entry of a checkpoint's ``meta``: the arguments of the vocabulary that was trained."""
SHOWN = 5


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Keeps the names of :class:`hyper_mm.OpenVocabSegmentor` and of its data sets together.

    Labels are numbers of the data set's classes, predictions are numbers of the vocabulary's:

    - in training, names that differ or stand in another order are an error;
    - in validation and testing, the same names in another order are brought into the data set's
      order; others are warned of by name;
    - pictures have the names of the vocabulary, where mmengine takes those of the data set;
    - checkpoints hold the training vocabulary. A run that is resumed with another one is an error;
      one that begins from such a checkpoint, or tests it, with other templates or another policy
      of synonyms is warned of.

    Raises:
        TypeError: In use, if the model has no vocabulary.
        ValueError: In use; see above.
    """

    def before_train(self, runner: Runner) -> None:
        """Compares the training vocabulary with the training set's classes."""
        vocabulary = self._model(runner).train_vocabulary
        classes = class_names(runner.train_dataloader)
        if not classes:
            runner.logger.warning(
                'the training set names no classes: the vocabulary cannot be compared with it'
            )
            return
        lines = vocabulary.differences(classes)
        if lines:
            raise ValueError(
                f'{differences(lines, len(vocabulary), len(classes))}. Labels would teach wrong '
                'names: give model.train_vocabulary (or model.vocabulary) the names of the '
                "training set, in its order, or the data set's metainfo those of the vocabulary"
            )

    def before_val(self, runner: Runner) -> None:
        """Sets the names of the validation set."""
        self._set_names(runner, runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Sets the names of the test set."""
        self._set_names(runner, runner.test_dataloader)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Saves the training vocabulary."""
        checkpoint['meta'][KEY] = self._model(runner).train_vocabulary.options()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares the vocabulary of the checkpoint."""
        compare_with_saved(runner, checkpoint, self._model(runner).train_vocabulary)

    @staticmethod
    def _model(runner: Runner) -> nn.Module:
        model = innermost(runner.model)
        if not hasattr(model, 'train_vocabulary'):
            raise TypeError(
                f'VocabularyHook serves hyper_mm.OpenVocabSegmentor, got {type(model).__name__}'
            )
        return model

    def _set_names(self, runner: Runner, loader) -> None:
        model = self._model(runner)
        classes = class_names(loader)
        model.vocabulary = self._mapped(runner, model.vocabulary, classes)
        model.dataset_meta = getattr(loader.dataset, 'metainfo', {})
        _ = runner.iter  # builds the training loop, which brings its names, where nothing else has
        runner.visualizer.dataset_meta = model.dataset_meta

    @staticmethod
    def _mapped(runner: Runner, vocabulary: Vocabulary, classes: Sequence[str]) -> Vocabulary:
        """The vocabulary in the order of a data set's classes, where these are the same."""
        lines = vocabulary.differences(classes)
        if not lines:
            return vocabulary
        found = differences(lines, len(vocabulary), len(classes))
        mapped = vocabulary.reordered(classes)
        if mapped is not None:
            runner.logger.warning(f"{found}: it is brought into the data set's order")
            return mapped
        runner.logger.warning(
            f'{found}: pictures are right, scores of these classes mean nothing unless the data '
            'set maps one to the other'
        )
        return vocabulary


def innermost(model: nn.Module) -> nn.Module:
    """Returns the model inside the wrappers of distributed runs and of test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def class_names(loader) -> list[str]:
    """Returns the names of the classes of a data loader's data set; empty if it has none."""
    return list((getattr(loader.dataset, 'metainfo', None) or {}).get('classes') or ())


def differences(lines: Sequence[str], own: int, others: int) -> str:
    """Describes how a vocabulary and a data set differ, as the beginning of a message.

    Args:
        lines: See :meth:`hyper_mm.datasets.vocabulary.Vocabulary.differences`.
        own: Number of classes of the vocabulary.
        others: That of the data set.
    """
    more = f' and {len(lines) - SHOWN} more' if len(lines) > SHOWN else ''
    return (
        f'the vocabulary has {own} classes, the data set {others}; {len(lines)} places differ '
        f'(vocabulary, data set): {"; ".join(lines[:SHOWN])}{more}'
    )


def compare_with_saved(runner: Runner, checkpoint: dict, vocabulary: Vocabulary) -> None:
    """Compares a training vocabulary with that of a checkpoint that is loaded.

    Args:
        runner: Where a resumed run is told from a new one, and which logs.
        checkpoint: The checkpoint; those without a vocabulary pass.
        vocabulary: The training vocabulary of now.

    Raises:
        ValueError: If a run is resumed with other names.
    """
    saved = checkpoint.get('meta', {}).get(KEY)
    if saved is None:
        return
    saved = Vocabulary(**saved)
    lines = vocabulary.differences(saved.names)
    if runner._resume and lines:
        raise ValueError(
            f'the run that is resumed was trained with other names (vocabulary, checkpoint): '
            f'{"; ".join(lines[:SHOWN])}'
        )
    for name in ('templates', 'synonyms'):
        own, other = getattr(vocabulary, name), getattr(saved, name)
        if own != other:
            runner.logger.warning(
                f'the checkpoint was trained with {name}={other!r} of its vocabulary, now it is '
                f'{own!r}'
            )
