"""CLIP with learnable prompts as a classifier of mmpretrain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from mmpretrain.models.classifiers.base import BaseClassifier
from mmpretrain.structures import DataSample
from torch import Tensor

from hyper_mm.checks import check_choice
from hyper_mm.datasets.shots import half
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.layers.lathadapter.prompts import LEARNERS, CoOp, self_consistency
from hyper_mm.models.utils.labels import check_labels
from hyper_mm.models.utils.open_clip import (
    build_open_clip,
    check_prompted,
    embed_dim,
    encode_image,
    tower_shape,
    word_embedding,
)
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.models.utils.trained_weights import LoadsTrainedWeights
from hyper_mm.models.utils.vocabulary_features import VocabularyEncoder
from hyper_mm.ops.stable import unit
from hyper_mm.registry import MODELS

CONSISTENCY = dict(text=25.0, image=10.0, logits=1.0, templates='imagenet')
"""PromptSRC's weights of :func:`hyper_mm.layers.lathadapter.prompts.self_consistency`."""


@MODELS.register_module()
class PromptedCLIP(LoadsTrainedWeights, OwnInit, BaseClassifier):
    """A frozen CLIP of open_clip whose prompts are learned, or zero-shot CLIP.

    The classes are those of ``vocabulary``, or of the data set by
    :class:`hyper_mm.DatasetVocabularyHook`, or of the checkpoint that mmpretrain's inferencer loads
    where there is no other, and may change between training and test. Class features are computed
    anew at each training step where text prompts are learned, and once where they are not, or in
    evaluation.

    Args:
        clip: Arguments of :func:`hyper_mm.models.utils.open_clip.build_open_clip`.
        prompts: Config of the prompt learner, ``type`` one of ``'CoOp'``, ``'MaPLe'``,
            ``'IVLP'`` and ``'VPT'`` of :mod:`hyper_mm.layers.lathadapter.prompts`, widths left
            out; None for zero-shot CLIP.
        vocabulary: What :meth:`hyper_mm.datasets.vocabulary.Vocabulary.load` takes, or None; ``_``
            reads as a space.
        templates: Templates where no text prompts are learned (a learner has its own words).
        head: Config of :class:`hyper_mm.LatHAdapterHead`, whose losses and logits then take the
            place of cross-entropy and cosine.
        consistency: PromptSRC's losses: a dict of weights ``text``, ``image`` and ``logits`` and of
            ``templates`` of the frozen class features, see :data:`CONSISTENCY` for what is not
            given; None: none. The official code uses 60 templates of its own, here they are
            CLIP's 80.
        chunk: Prompts that the text tower takes at a time; None: all where they are learned, 256
            where they are not.
        checkpoint: Whether the text tower computes activations again instead of keeping them.
        data_preprocessor: See mmpretrain's ``BaseClassifier``.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For an unknown learner or weight, prompts deeper than the towers, words that
            have fewer tokens than there are prompt vectors, a name of too many tokens, or a head
            of another width.
    """

    loaded = ('clip',)

    def __init__(
        self,
        clip: dict,
        prompts: dict | None = None,
        vocabulary: str | Sequence[str] | Mapping | None = None,
        templates: str | Sequence[str] = ('a photo of a {}.',),
        head: dict | None = None,
        consistency: dict | None = None,
        chunk: int | None = None,
        checkpoint: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg, data_preprocessor)
        if consistency is not None and prompts is None:
            raise ValueError('consistency needs prompts: zero-shot CLIP has nothing to train')
        unknown = sorted(set(consistency or ()) - set(CONSISTENCY))
        if unknown:
            raise ValueError(f'consistency must be of {sorted(CONSISTENCY)}, got {unknown}')
        self.templates = templates
        self.consistency = None if consistency is None else {**CONSISTENCY, **consistency}
        self.clip = build_open_clip(**clip).eval().requires_grad_(False)
        self._encoder = VocabularyEncoder(self.clip, chunk, checkpoint)
        self.prompts = None if prompts is None else self._learner(dict(prompts))
        self.head = None if head is None else MODELS.build(head)
        self._check_head()
        self._vocabulary: Vocabulary | None = None
        self._class_names: list[str] = []
        self._meta: dict = {}
        self._parts: list[int] | None = None
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    def _learner(self, config: dict) -> torch.nn.Module:
        """The prompt learner, started at its words."""
        name = config.pop('type', None)
        check_choice(sorted(LEARNERS), **{'prompts.type': name})
        kind, shapes = LEARNERS[name], {}
        for tower in kind.towers:
            check_prompted(self.clip, tower)
            shapes[tower] = tower_shape(self.clip, tower)
        widths = {f'{x}_dim': shapes[x].width if x in shapes else None for x in ('text', 'image')}
        learner = kind(**widths, **config)
        for tower, vectors in learner()._asdict().items():
            if vectors and len(vectors) > shapes[tower].depth:
                raise ValueError(
                    f'prompts must be at most as deep as the {tower} tower, {shapes[tower].depth} '
                    f'blocks, got {len(vectors)}'
                )
        if isinstance(learner, CoOp):
            tokenizer = self.clip.tokenizer
            (length,) = tokenizer.lengths([learner.prefix])
            tokens = tokenizer([learner.prefix])[0, 1 : length - 1]
            learner.init_context(word_embedding(self.clip)(tokens))
        return learner

    @property
    def dim(self) -> int:
        """Width of the features."""
        return embed_dim(self.clip)

    def _check_head(self) -> None:
        if self.head is not None and self.head.refiner.attributes.shape[1] != self.dim:
            raise ValueError(
                f'head.embed_dims must be the width of the features, {self.dim}, got '
                f'{self.head.refiner.attributes.shape[1]}'
            )

    def train(self, mode: bool = True) -> PromptedCLIP:
        """Sets the mode; CLIP itself stays in evaluation."""
        super().train(mode)
        self.clip.eval()
        self._encoder.clear(frozen=False)
        return self

    @property
    def _dataset_meta(self) -> dict:
        """What mmpretrain's inferencer names classes by: the vocabulary's names, as they change."""
        return {**self._meta, **(dict(classes=self._class_names) if self._class_names else {})}

    @_dataset_meta.setter
    def _dataset_meta(self, meta: dict | None) -> None:
        """Takes the classes of a checkpoint where there is no vocabulary yet."""
        self._meta = {k: v for k, v in (meta or {}).items() if k != 'classes'}
        classes = (meta or {}).get('classes')
        if self.vocabulary is None and classes:
            self.set_vocabulary(Vocabulary.of_dataset(classes, self.templates))

    def set_vocabulary(
        self,
        vocabulary: str | Sequence[str] | Mapping | Vocabulary,
        templates: str | Sequence[str] | None = None,
        halves: bool = False,
    ) -> None:
        """Changes the classes.

        Args:
            vocabulary: See the class. Templates of a :class:`Vocabulary` or a dict count where no
                text prompts are learned.
            templates: Templates of a list of names; None: those of the class.
            halves: Whether the head refines the first half of the classes (the larger one of an odd
                number) and the rest each for itself.

        Raises:
            ValueError: If a name has too many tokens, or templates come with something else than a
                list.
        """
        if isinstance(vocabulary, Sequence) and not isinstance(vocabulary, str):
            vocabulary = Vocabulary(vocabulary, templates or self.templates)
        elif templates is not None:
            raise ValueError('templates go with a list of names; a vocabulary has its own')
        vocabulary = Vocabulary.load(vocabulary)
        self._encoder.tokens(self._prompted(vocabulary))  # reports prompts that are too long
        self._vocabulary = vocabulary
        self._class_names[:] = vocabulary.names  # in place: inferencers hold the list
        rows = range(len(vocabulary))
        self._parts = [len(half(rows, x)) for x in ('base', 'new')] if halves else None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The classes; what :meth:`set_vocabulary` takes can be assigned."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, value: str | Sequence[str] | Mapping | Vocabulary) -> None:
        self.set_vocabulary(value)

    def _prompted(self, vocabulary: Vocabulary) -> Vocabulary:
        """The classes in the words of the prompt learner, if it has words."""
        if not isinstance(self.prompts, CoOp):
            return vocabulary
        return vocabulary.with_templates([self.prompts.prompt('{}')])

    @property
    def learns_text(self) -> bool:
        """Whether class features depend on what is trained."""
        learner = self.prompts
        return isinstance(learner, CoOp) and any(p.requires_grad for p in learner.parameters())

    def text_features(self) -> Tensor:
        """Unit features of the classes ``(C, D)``, refined by no head.

        Raises:
            RuntimeError: If there is no vocabulary yet.
        """
        if self.vocabulary is None:
            raise RuntimeError(
                'PromptedCLIP has no classes: give it a vocabulary, or add '
                "dict(type='hyper_mm.DatasetVocabularyHook') to custom_hooks"
            )
        vectors = [] if self.prompts is None else self.prompts().text
        with torch.set_grad_enabled(self.learns_text and torch.is_grad_enabled()):
            return self._encoder.mean(self._prompted(self.vocabulary), vectors)

    def encode_image(self, inputs: Tensor) -> Tensor:
        """Features of normalized images ``(B, 3, H, W)``, of any length: ``(B, D)``."""
        vectors = [] if self.prompts is None else self.prompts().image
        return encode_image(self.clip, inputs, vectors).float()

    def image_features(self, inputs: Tensor) -> Tensor:
        """Unit features of normalized images ``(B, 3, H, W)``: ``(B, D)``."""
        return unit(self.encode_image(inputs))

    def training_features(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Unit features of images ``(B, D)`` and of classes ``(C, D)``.

        Raises:
            ValueError: If there are fewer than two classes: nothing could be learned.
        """
        text = self.text_features()
        if len(text) < 2:
            raise ValueError(f'training needs at least two classes, got {len(text)}')
        return self.image_features(inputs), text

    @torch.no_grad()
    def frozen_text(self) -> Tensor:
        """Unit means of the features over the templates of ``consistency``, without prompts."""
        vocabulary = self.vocabulary.with_templates(self.consistency['templates'])
        return self._encoder.mean(vocabulary, normalized=False)

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Class logits ``(B, C)`` of image and text features."""
        if self.head is None:
            return self.clip.logit_scale.exp() * image @ text.transpose(-2, -1)
        parts = [text] if self._parts is None else text.split(self._parts)
        return torch.cat([self.head(image, part) for part in parts if len(part)], 1)

    def losses_of(self, image: Tensor, text: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of features: cross-entropy, or the head's.

        Where no image prompts are learned, image features may be computed once for all steps.

        Args:
            image: Unit features of images ``(B, D)``.
            text: Unit features of the classes ``(C, D)``; see :meth:`text_features`.
            labels: Labels ``(B,)``.

        Returns:
            ``loss_ce``, or what the head has.

        Raises:
            ValueError: For a label outside the vocabulary.
        """
        check_labels(labels, len(text))
        if self.head is None:
            return dict(loss_ce=F.cross_entropy(self.logits(image, text), labels))
        return self.head.loss(image, text, labels)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = 'tensor'
    ):
        """Does what mmpretrain's ``BaseClassifier.forward`` says.

        Args:
            inputs: Normalized images ``(B, 3, H, W)``.
            data_samples: Labels, for ``'loss'``.
            mode: ``'tensor'`` (logits), ``'predict'`` or ``'loss'``.

        Returns:
            Logits ``(B, C)``, data samples, or losses.

        Raises:
            RuntimeError: For an unknown mode, or without a vocabulary.
            ValueError: For labels outside the vocabulary, or training with fewer than two classes.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode not in ('tensor', 'predict'):
            raise RuntimeError(f"mode must be 'tensor', 'predict' or 'loss', got {mode!r}")
        logits = self.logits(self.image_features(inputs), self.text_features())
        return logits if mode == 'tensor' else predictions(logits, data_samples)

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch: cross-entropy or the head's, and PromptSRC's.

        Args:
            inputs: Normalized images ``(B, 3, H, W)``.
            data_samples: Their labels.

        Returns:
            ``loss_ce``, or what the head has; with ``consistency`` also ``loss_src_text``,
            ``loss_src_image`` and ``loss_src_logits``.

        Raises:
            ValueError: For a label outside the vocabulary, or fewer than two classes.
        """
        image, text = self.training_features(inputs)
        labels = torch.cat([sample.gt_label for sample in data_samples]).to(image.device)
        losses = self.losses_of(image, text, labels)
        if self.consistency is not None:
            with torch.no_grad():
                frozen = unit(encode_image(self.clip, inputs).float())
            scale = self.clip.logit_scale.exp()
            found = self_consistency(image, text, frozen, self.frozen_text(), scale)
            losses |= {f'loss_src_{n}': self.consistency[n] * x for n, x in found.items()}
        return losses


def predictions(logits: Tensor, data_samples: list[DataSample] | None) -> list[DataSample]:
    """Data samples with the softmax of logits ``(B, C)`` and the best class."""
    samples = [DataSample() for _ in logits] if data_samples is None else data_samples
    scores = logits.float().softmax(-1)
    for sample, score in zip(samples, scores):
        sample.set_pred_score(score).set_pred_label(score.argmax())
    return samples
