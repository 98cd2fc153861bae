"""Text features of a vocabulary: encoded with gradients, or remembered until something changes."""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor, nn

from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.models.utils.open_clip import encode_text, tokenize


class VocabularyEncoder:
    """Encodes the prompts of vocabularies with the text tower of a CLIP model.

    With gradients, every call encodes anew, a chunk of prompts at a time, whose activations are
    computed again in the backward pass: memory does not grow with the classes. Without gradients,
    features are kept until a parameter of the tower changes (in place or by another), or
    :meth:`clear` is called.

    It is no module, so that the tower stays where it is in the state dict.

    Args:
        clip: The model.
        chunk: Prompts at a time.
        checkpoint: Whether to compute activations again instead of keeping them.

    Raises:
        ValueError: If ``chunk`` is not positive.
    """

    def __init__(self, clip: open_clip.CLIP, chunk: int = 64, checkpoint: bool = True) -> None:
        if chunk < 1:
            raise ValueError(f'chunk must be at least 1, got {chunk}')
        self.clip, self.chunk, self.checkpoint = clip, chunk, checkpoint
        self._tokens: dict[Vocabulary, Tensor] = {}
        self._features: dict[Vocabulary, tuple[tuple, Tensor]] = {}

    def tokens(self, vocabulary: Vocabulary) -> Tensor:
        """Tokens of all prompts of a vocabulary, class by class, ``(prompts, context length)``.

        Raises:
            ValueError: If a prompt has more tokens than fit.
        """
        if vocabulary not in self._tokens:
            length = self.clip.positional_embedding.shape[0]
            texts = [t for names in vocabulary.prompts() for texts in names for t in texts]
            self._tokens[vocabulary] = tokenize(texts, length)
        return self._tokens[vocabulary]

    def __call__(self, vocabulary: Vocabulary) -> Tensor:
        """Features of a vocabulary.

        Args:
            vocabulary: The class names; features of synonyms are averaged after normalisation.

        Returns:
            ``(T, P, D)``: classes, templates, dimensions; not normalised where each class has one
            name.
        """
        parameters = self._parameters()
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return self._encode(vocabulary)
        state = tuple((id(p), p.data_ptr(), p._version) for p in parameters)
        if vocabulary not in self._features or self._features[vocabulary][0] != state:
            with torch.no_grad():
                self._features[vocabulary] = state, self._encode(vocabulary)
        return self._features[vocabulary][1]

    def clear(self) -> None:
        """Forgets the features."""
        self._features.clear()

    def _parameters(self) -> list[nn.Parameter]:
        return [p for n, p in self.clip.named_parameters() if not n.startswith('visual.')]

    def _encode(self, vocabulary: Vocabulary) -> Tensor:
        device = self.clip.positional_embedding.device
        tokens = self.tokens(vocabulary).to(device)
        features = encode_text(self.clip, tokens, self.chunk, self.checkpoint)
        counts = [len(names) for names in vocabulary.prompts()]
        features = features.unflatten(0, (sum(counts), -1))  # names, templates, dimensions
        if max(counts) == 1:
            return features
        features = nn.functional.normalize(features, dim=-1)
        return torch.stack([names.mean(0) for names in features.split(counts)])
