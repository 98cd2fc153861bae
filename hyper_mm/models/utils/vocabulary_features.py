"""Class features of a vocabulary: encoded with gradients, or remembered until something changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import open_clip
import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from hyper_mm.checks import check_at_least
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.open_vocab.region_scores import NameFeatures
from hyper_mm.models.utils.open_clip import encode_text
from hyper_mm.ops.stable import unit

KEPT = 8
"""Vocabularies that are remembered; the one unused for longest goes first."""
CHUNK = 256
"""Prompts at a time without gradients, where no number is given."""


class VocabularyEncoder:
    """The features of class names by the text tower of a CLIP model, for all models of ours.

    With gradients, every call encodes anew, a chunk of prompts at a time, whose activations are
    computed again in the backward pass: memory does not grow with the classes. Without gradients,
    features are kept until a parameter of the tower or a prompt vector changes (in place or by
    another), or :meth:`clear` is called. Equal prompts are encoded once.

    It is no module, so that the tower stays where it is in the state dict.

    Args:
        clip: The model.
        chunk: Prompts at a time; None: all with gradients, :data:`CHUNK` without.
        checkpoint: Whether to compute activations again instead of keeping them.

    Raises:
        ValueError: If ``chunk`` is not positive.
    """

    def __init__(
        self, clip: open_clip.CLIP, chunk: int | None = 64, checkpoint: bool = True
    ) -> None:
        if chunk is not None:
            check_at_least(1, chunk=chunk)
        self.clip, self.chunk, self.checkpoint = clip, chunk, checkpoint
        self._tokens: dict[Vocabulary, tuple[Tensor, Tensor]] = {}
        self._features: dict[tuple[Vocabulary, bool, str], tuple[tuple, bool, Tensor]] = {}

    def tokens(self, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
        """Tokens of the prompts of a vocabulary, each once, and where they belong.

        Warns of classes whose prompts are the same, when it meets the vocabulary first.

        Returns:
            Tokens ``(U, L)`` of the different prompts, and the row of each name's
            prompts in them ``(names, P)``, class by class, both on the CPU.

        Raises:
            ValueError: If a prompt has more tokens than fit.
        """
        found = self._tokens.get(vocabulary)
        if found is None:
            names = [texts for of_class in vocabulary.prompts() for texts in of_class]
            different = dict.fromkeys(chain.from_iterable(names))
            rows = {text: row for row, text in enumerate(different)}
            tokens = self.clip.tokenizer(list(rows))
            index = torch.tensor([[rows[text] for text in texts] for texts in names])
            for group in vocabulary.ambiguous():
                MMLogger.get_current_instance().warning(
                    f'the classes {list(group)} have the same prompts, so that only the first of '
                    'them is ever predicted: commas separate synonyms, of which the first one '
                    f'counts with synonyms={vocabulary.synonyms!r}; name them differently'
                )
            found = tokens, index
            self._tokens = _remember(self._tokens, vocabulary, found)
        return found

    def __call__(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Tensor] = (),
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        """Features of each template.

        Args:
            vocabulary: The class names; features of synonyms are averaged after normalization.
            prompts: Learned vectors of the text tower; see
                :func:`hyper_mm.models.utils.open_clip.encode_text`.
            classes: Classes that are wanted, in this order; with gradients no others are encoded.
                None: all.

        Returns:
            ``(T, P, D)``: classes, templates, dimensions; not normalized where each class has one
            name.
        """
        return self._kept(vocabulary, prompts, 'each', classes)

    def mean(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Tensor] = (),
        normalized: bool = True,
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        """One unit feature of each class: the mean over its templates.

        Args:
            vocabulary: See :meth:`__call__`.
            prompts: See :meth:`__call__`.
            normalized: Whether the mean is of unit features, as CLIP's is, or of features as they
                are, as PromptSRC's.
            classes: See :meth:`__call__`.

        Returns:
            ``(T, D)`` of at least float32.
        """
        return self._kept(vocabulary, prompts, 'units' if normalized else 'raw', classes)

    def names(self, vocabulary: Vocabulary, prompts: Sequence[Tensor] = ()) -> NameFeatures:
        """One unit feature of each name: the mean of the unit features of its templates.

        Args:
            vocabulary: Its policy of synonyms decides whether a class has one name, the mean of
                all, or all of them, of which the best counts.
            prompts: See :meth:`__call__`.

        Returns:
            The features of all names, class by class.
        """
        each = vocabulary.synonyms == 'max'
        counts = tuple(len(names) if each else 1 for names in vocabulary.prompts())
        return NameFeatures(self._kept(vocabulary, prompts, 'names'), counts)

    def clear(self, frozen: bool = True) -> None:
        """Forgets features: what was written into ``.data`` is not noticed.

        Args:
            frozen: Whether to forget also what depends on nothing that is trained.
        """
        self._features = {k: v for k, v in self._features.items() if not (frozen or v[1])}

    def _kept(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Tensor],
        kind: str,
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        """Features of a kind, encoded or remembered."""
        inputs = [*self._parameters(), *prompts]
        trained = any(x.requires_grad for x in inputs)
        if torch.is_grad_enabled() and trained:
            return self._reduced(vocabulary, prompts, kind, classes)
        state = tuple((id(x), x.data_ptr(), x._version) for x in inputs)
        key = vocabulary, bool(prompts), kind
        kept = self._features.get(key)
        if kept is None or kept[0] != state:
            # without autocast, inference mode: what is kept must not depend on who asks first
            device = self.clip.logit_scale.device.type
            with (
                torch.inference_mode(False),
                torch.no_grad(),
                torch.autocast(device, enabled=False),
            ):
                kept = state, trained, self._reduced(vocabulary, prompts, kind)
            self._features = _remember(self._features, key, kept)
        return kept[2] if classes is None else kept[2][list(classes)]

    def _reduced(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Tensor],
        kind: str,
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        features = self._encode(vocabulary, prompts, classes)
        if kind == 'names':
            return unit(unit(features.float()).mean(1))
        if vocabulary.synonyms == 'max':
            raise ValueError(
                "synonyms='max' needs a model that scores each name (hyper_mm.OpenVocabMaskRCNN, "
                "OpenVocabMask2Former): take 'first' or 'mean' here"
            )
        if kind == 'each':
            return features
        features = features.float()
        return unit((unit(features) if kind == 'units' else features).mean(1))

    def _parameters(self) -> list[nn.Parameter]:
        return [p for n, p in self.clip.named_parameters() if not n.startswith('visual.')]

    def _encode(
        self,
        vocabulary: Vocabulary,
        prompts: Sequence[Tensor],
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        device = self.clip.logit_scale.device
        tokens, index = self.tokens(vocabulary)
        counts = [len(names) for names in vocabulary.prompts()]
        if classes is not None:
            parts = index.split(counts)
            index = torch.cat([parts[i] for i in classes])
            counts = [counts[i] for i in classes]
            used, index = index.unique(return_inverse=True)
            tokens = tokens[used]
        tokens, index = tokens.to(device), index.to(device)
        chunk = self.chunk or (None if torch.is_grad_enabled() else CHUNK)
        features = encode_text(self.clip, tokens, chunk, self.checkpoint, prompts)
        features = features[index]  # names, templates, dimensions
        if max(counts) == 1 or vocabulary.synonyms == 'max':
            return features
        features = unit(features)
        return torch.stack([names.mean(0) for names in features.split(counts)])


def _remember(known: dict, key: object, value: object) -> dict:
    """A new dict with an entry at its end, of at most :data:`KEPT`: threads may read the old."""
    kept = [(k, v) for k, v in known.items() if k != key][-(KEPT - 1) :]
    return dict([*kept, (key, value)])
