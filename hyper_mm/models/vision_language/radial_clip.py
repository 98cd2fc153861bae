"""CLIP whose text tower learns a hierarchy of texts around the empty text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.evaluation.functional.caption_hierarchy import radius_order
from hyper_mm.layers.radial.radial import text_radii
from hyper_mm.models.utils.open_clip import (
    build_open_clip,
    embed_dim,
    encode_image,
    encode_text,
    image_size,
    pixel_range,
)
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder
from hyper_mm.ops.inputs import upcast
from hyper_mm.ops.stable import unit
from hyper_mm.registry import MODELS


class FrozenTargets:
    """Embeddings of texts before training, looked up by text.

    Args:
        texts: The texts, all different.
        features: Their features, an array ``(N, D)`` (a memory map is read row by row).

    Raises:
        ValueError: If the numbers of texts and features differ.
    """

    def __init__(self, texts: Sequence[str], features):
        if len(texts) != len(features):
            raise ValueError(f'features must be of {len(texts)} texts, got {len(features)}')
        self.rows = {text: row for row, text in enumerate(texts)}
        self.features = features

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Features ``(len(texts), D)`` in float32, on the CPU.

        Raises:
            ValueError: If a text is not known.
        """
        unknown = next((text for text in texts if text not in self.rows), None)
        if unknown is not None:
            raise ValueError(f'frozen targets were not computed for the text {unknown!r}')
        return torch.from_numpy(self.features[[self.rows[t] for t in texts]]).float()


@MODELS.register_module()
class RadialCLIP(LoadsTrainedWeights, OwnInit, BaseModel):
    """CLIP of open_clip whose text tower learns a hierarchy around the embedding of the empty text.

    The image tower is frozen and is not run in training. A batch takes one pass of the text tower:
    all captions of all chains and, last, the empty text, whose embedding is the root and has its
    gradient. The targets of the regularizer are computed once, by
    :class:`hyper_mm.FrozenTargetsHook`.

    Images that come without texts are classified, as zero-shot CLIP does: their classes are given
    by :class:`hyper_mm.DatasetVocabularyHook`.

    Args:
        clip: Arguments of :func:`hyper_mm.models.utils.open_clip.build_open_clip`.
        loss: Config of :class:`hyper_mm.RadialEmbeddingLoss` (the default) or
            :class:`hyper_mm.EntailmentConeLoss`.
        adapter: Config of :class:`hyper_mm.HyperCLIPAdapter`: then it alone is trained. None: the
            whole text tower is.
        chunk: Texts at a time where there are no gradients.
        checkpoint: Whether to compute activations again instead of keeping them.
        truncate: Whether to cut captions that have too many tokens, as the official code does, and
            some of its training set need; an error if False.
        templates: What the names of classes are put in, or the name of a set of templates of
            :class:`hyper_mm.datasets.vocabulary.Vocabulary`.
        data_preprocessor: See ``mmengine.model.BaseModel``.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For arguments that the parts refuse, or an adapter that reaches the image tower,
            which no loss trains.

    Source: Alper and Averbuch-Elor, Emergent Visual-Semantic Hierarchies (ECCV 2024); the adapter
    is from HyperCLIP (CVPR 2025).
    """

    loaded = ('clip',)

    def __init__(
        self,
        clip: dict,
        loss: dict | None = None,
        adapter: dict | None = None,
        chunk: int = 256,
        checkpoint: bool = False,
        truncate: bool = False,
        templates: str | Sequence[str] = 'plain',
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        check_at_least(1, chunk=chunk)
        self.chunk = chunk
        self.checkpoint = checkpoint
        self.truncate = truncate
        self.templates = templates
        self.vocabulary: Vocabulary | None = None
        self.radial_loss = MODELS.build(loss or dict(type='hyper_mm.RadialEmbeddingLoss'))
        self.clip = build_open_clip(**clip)
        self.clip.tokenizer.lengths([''])  # an error here, not at the first batch
        self._encoder = VocabularyEncoder(self.clip, chunk, checkpoint)
        self.adapter = None
        if adapter is None:
            for name, parameter in self.clip.named_parameters():
                parameter.requires_grad_(_of_text_tower(name))
        else:
            self.adapter = MODELS.build(adapter)
            if tuple(self.adapter.towers) != ('text',):
                raise ValueError(
                    f"adapter.towers must be ('text',): no loss reaches the images, got "
                    f'{self.adapter.towers}'
                )
            self.adapter.attach(self.clip)
        self.frozen: FrozenTargets | None = None
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in pixel_range(self.clip))
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        total = sum(p.numel() for p in self.parameters())
        MMLogger.get_current_instance().info(
            f'RadialCLIP: {trained / 1e6:.2f} of {total / 1e6:.2f} M parameters are trained'
        )

    @property
    def dim(self) -> int:
        """Width of the features."""
        return embed_dim(self.clip)

    @property
    def needs_frozen(self) -> bool:
        """Whether the loss regularizes towards frozen targets."""
        return self.radial_loss.lambda_reg > 0

    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Features of texts, not normalized.

        Args:
            texts: N texts; the empty one is the root.

        Returns:
            ``(N, D)``, float32 at least.

        Raises:
            ValueError: If a text has too many tokens, unless they are cut.
        """
        chunk = None if torch.is_grad_enabled() else self.chunk
        (found,) = upcast(encode_text(self.clip, self._tokens(texts), chunk, self.checkpoint))
        return found

    def image_features(self, images: Sequence[Tensor]) -> Tensor:
        """Features of images, not normalized.

        Args:
            images: N images ``(3, H, W)``, BGR of 0 to 255, all of the size of the tower.

        Returns:
            ``(N, D)``, float32 at least.

        Raises:
            ValueError: If an image has another size.
        """
        size = image_size(self.clip)
        for image in images:
            if tuple(image.shape) != (3, *size):
                raise ValueError(f'images must be (3, {size[0]}, {size[1]}), got {image.shape}')
        batch = torch.stack(list(images)).to(self.mean.device).flip(1).float()
        return upcast(encode_image(self.clip, (batch - self.mean) / self.std))[0]

    def set_vocabulary(self, vocabulary: str | Sequence[str] | Mapping | Vocabulary) -> None:
        """Sets the classes of images without texts; their features follow the weights.

        Args:
            vocabulary: What :meth:`hyper_mm.datasets.vocabulary.Vocabulary.load` takes; a list of
                names is put in the templates of the model.

        Raises:
            ValueError: If there is no class, or a prompt has too many tokens.
        """
        if isinstance(vocabulary, Sequence) and not isinstance(vocabulary, str):
            vocabulary = Vocabulary(vocabulary, self.templates)
        vocabulary = Vocabulary.load(vocabulary)
        self._encoder.tokens(vocabulary)  # reports prompts that are too long
        self.vocabulary = vocabulary

    @property
    def classes(self) -> Tensor | None:
        """Unit features of the classes ``(K, D)``, by the weights as they are; None: no classes."""
        if self.vocabulary is None:
            return None
        with torch.no_grad():
            return self._encoder.mean(self.vocabulary)

    def train(self, mode: bool = True) -> RadialCLIP:
        """Sets the mode; forgets class features, whose weights may have been exchanged."""
        if hasattr(self, '_encoder'):
            self._encoder.clear(frozen=False)
        return super().train(mode)

    def forward(
        self,
        inputs: Sequence[Tensor | None],
        data_samples: Sequence[BaseDataElement],
        mode: str = 'loss',
    ):
        """Computes losses or features.

        Args:
            inputs: Image of each sample, or None.
            data_samples: ``texts`` of each and, for losses, ``negatives``; without texts, the
                image is classified.
            mode: ``'loss'``, ``'predict'``, or ``'tensor'`` for the features of all texts.

        Returns:
            The losses; the data samples with ``text_features`` and ``root`` (without texts:
            ``pred_score``) and, of those with an image, ``image_feature``; or features ``(N, D)``,
            the root last.

        Raises:
            ValueError: For another mode, or samples that do not serve it.
        """
        if mode == 'loss':
            return self._loss(data_samples)
        texts = [text for sample in data_samples for text in sample.get('texts', ())]
        if mode == 'tensor':
            return self.text_features([*texts, ''])
        check_choice(('loss', 'predict', 'tensor'), mode=mode)
        return self._predict(inputs, data_samples, texts)

    def _loss(self, data_samples: Sequence[BaseDataElement]) -> dict[str, Tensor]:
        tiers = len(data_samples[0].texts)
        for sample in data_samples:
            if 'negatives' not in sample:
                raise ValueError(
                    f'{_where(sample)}training needs negatives, which {sample.texts} do not have: '
                    "use HierarCapsDataset with mode='train'"
                )
            if not len(sample.texts) == len(sample.negatives) == tiers:
                raise ValueError(
                    f'{_where(sample)}all chains of a batch must have as many tiers, {tiers}, got '
                    f'{sample.texts} and {sample.negatives}'
                )
        texts = [
            text
            for key in ('texts', 'negatives')
            for tier in zip(*(getattr(sample, key) for sample in data_samples))
            for text in tier
        ]
        features = self._features_of(data_samples, [*texts, ''])
        embeddings = features[:-1].view(2, tiers, len(data_samples), -1)
        frozen = None
        if self.needs_frozen:
            if self.frozen is None:
                raise ValueError(
                    'the regularizer needs frozen targets: add '
                    "custom_hooks=[dict(type='hyper_mm.FrozenTargetsHook')] or set lambda_reg=0"
                )
            frozen = self.frozen(texts).to(embeddings.device).view_as(embeddings)
        losses = self.radial_loss(embeddings, features[-1], frozen)
        with torch.no_grad():
            radii = text_radii(embeddings[0], features[-1])
            losses['radial/tau_d'] = radius_order(radii.T).mean()
        return losses

    def _features_of(self, data_samples: Sequence[BaseDataElement], texts: Sequence[str]) -> Tensor:
        """Features of texts of these samples; an error about one names its row."""
        try:
            return self.text_features(texts)
        except ValueError:
            for sample in data_samples:
                try:
                    self._tokens([*sample.get('texts', ()), *sample.get('negatives', ())])
                except ValueError as found:
                    raise ValueError(f'{_where(sample)}{found}') from None
            raise

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        tokens = self.clip.tokenizer(texts, allow_empty=True, truncate=self.truncate)
        return tokens.to(self.mean.device)

    def _predict(
        self,
        inputs: Sequence[Tensor | None],
        data_samples: Sequence[BaseDataElement],
        texts: Sequence[str],
    ) -> list[BaseDataElement]:
        distinct = list(dict.fromkeys([*texts, '']))
        features = dict(zip(distinct, self._features_of(data_samples, distinct))) if texts else {}
        present = [image for image in inputs if image is not None]
        images = iter(self.image_features(present)) if present else iter(())
        for image, sample in zip(inputs, data_samples):
            if image is not None:
                sample.image_feature = next(images)
            if 'texts' in sample:
                sample.text_features = torch.stack([features[text] for text in sample.texts])
                sample.root = features['']
            else:
                sample.pred_score = self._class_scores(sample)
        return list(data_samples)

    def _class_scores(self, sample: BaseDataElement) -> Tensor:
        """Probabilities ``(K,)`` of the classes of an image."""
        classes = self.classes
        if classes is None:
            raise ValueError(
                'samples without texts are classified, and no classes were set: add '
                "custom_hooks=[dict(type='hyper_mm.DatasetVocabularyHook')]"
            )
        if 'image_feature' not in sample:
            raise ValueError('a sample must have texts or an image, got neither')
        cosine = classes @ unit(sample.image_feature.float())
        return (self.clip.logit_scale.exp() * cosine).softmax(-1)


def _where(sample: BaseDataElement) -> str:
    """Where a sample is from, as the beginning of a message."""
    return f'{sample.where}: ' if 'where' in sample else ''


def _of_text_tower(name: str) -> bool:
    return not name.startswith('visual.') and name not in ('logit_scale', 'logit_bias')
