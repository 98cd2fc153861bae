"""PromptKD: a small prompted CLIP taught by a large one, without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.runner import load_checkpoint
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hyper_mm.checks import check_positive
from hyper_mm.datasets.vocabulary import Vocabulary
from hyper_mm.models.classifiers.prompted_clip import PromptedCLIP
from hyper_mm.ops.stable import unit
from hyper_mm.registry import MODELS


@MODELS.register_module()
class PromptKD(PromptedCLIP):
    r"""A student whose images are matched to the classes of a frozen teacher.

    .. math:: L = w\,T^2\,\frac{1}{BC} \sum_{bc} q_{bc} (\log q_{bc} - \log p_{bc})

    with the softmax p of the student's logits over T, and q of the teacher's. The classes are the
    teacher's text features, computed once for a vocabulary; a projector brings the student's image
    features to their width. No label is read, so training takes all images and all class names, of
    the new classes too (the method is transductive).

    With a ``head`` (LatHAdapter) the student's logits are those of the refined classes, and the
    losses of the head that need no labels are added. ``pseudo_labels`` adds the others, by the
    teacher's best class (the paper does not say how it does without labels).

    Args:
        clip: The student; see :class:`hyper_mm.PromptedCLIP`.
        teacher: Config of a :class:`hyper_mm.PromptedCLIP`, its ``type`` left out.
        teacher_checkpoint: Checkpoint of the trained teacher; None: as its config builds it.
        prompts: Config of the student's prompts, of the images alone.
        projector: Linear, batch norm, ReLU, linear; False if both have one width.
        temperature: Temperature T.
        weight: Weight w (the paper: 1000; 200 on aircraft, flowers and textures).
        vocabulary: See :class:`hyper_mm.PromptedCLIP`.
        head: Config of :class:`hyper_mm.LatHAdapterHead`, of the teacher's width.
        pseudo_labels: Give the head the teacher's best class as label of an image.
        data_preprocessor: See mmpretrain's ``BaseClassifier``.
        init_cfg: Initialization config of mmengine.

    Raises:
        ValueError: For numbers that are not positive, text prompts, different widths without a
            projector, or pseudo labels without a head.

    Source: Li et al., PromptKD: Unsupervised Prompt Distillation for Vision-Language Models (CVPR
    2024).
    """

    loaded = ('clip', 'teacher')

    def __init__(
        self,
        clip: dict,
        teacher: dict,
        teacher_checkpoint: str | None = None,
        prompts: dict | None = None,
        projector: bool = True,
        temperature: float = 1.0,
        weight: float = 1000.0,
        vocabulary: str | Sequence[str] | Mapping | None = None,
        head: dict | None = None,
        pseudo_labels: bool = False,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        check_positive(temperature=temperature, weight=weight)
        if pseudo_labels and head is None:
            raise ValueError('pseudo_labels needs a head')
        prompts = dict(type='VPT') if prompts is None else prompts
        if prompts.get('type') != 'VPT':
            raise ValueError(f"prompts.type must be 'VPT', got {prompts.get('type')!r}")
        super().__init__(clip, prompts, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.temperature, self.weight = temperature, weight
        self.pseudo_labels = pseudo_labels
        self.teacher = PromptedCLIP(**teacher)
        if teacher_checkpoint is not None:
            load_checkpoint(self.teacher, teacher_checkpoint, map_location='cpu', strict=True)
        self.teacher.eval().requires_grad_(False)
        self.templates = self.teacher.templates
        student, width = self.clip.visual.output_dim, self.dim
        if not projector and student != width:
            raise ValueError(
                f'without a projector both widths must be one, got {student} of the student and '
                f'{width} of the teacher'
            )
        self.projector = None
        if projector:
            self.projector = nn.Sequential(
                nn.Linear(student, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
        self.head = None if head is None else MODELS.build(head)
        self._check_head()
        if vocabulary is not None:
            self.set_vocabulary(vocabulary)

    @property
    def dim(self) -> int:
        """Width of the features: the teacher's."""
        return self.teacher.dim if hasattr(self, 'teacher') else super().dim

    def train(self, mode: bool = True) -> PromptKD:
        """Sets the mode; the teacher stays in evaluation."""
        super().train(mode)
        self.teacher.eval()
        return self

    def set_vocabulary(
        self, vocabulary: str | Sequence[str] | Mapping | Vocabulary, **options
    ) -> None:
        """Changes the classes; see :meth:`hyper_mm.PromptedCLIP.set_vocabulary`."""
        self.teacher.set_vocabulary(vocabulary, **options)
        self._vocabulary, self._parts = self.teacher.vocabulary, self.teacher._parts
        self._class_names[:] = self.vocabulary.names

    def text_features(self) -> Tensor:
        """Unit features ``(C, D)`` of the teacher's classes."""
        return self.teacher.text_features()

    def image_features(self, inputs: Tensor) -> Tensor:
        """Unit features of normalized images ``(B, 3, H, W)``: ``(B, D)``.

        Raises:
            ValueError: For a training batch of one image, which has no batch statistics.
        """
        if self.training and self.projector is not None and len(inputs) < 2:
            raise ValueError('the batch norm needs two images a batch: set drop_last=True')
        image = self.encode_image(inputs)
        return unit(image if self.projector is None else self.projector(image))

    def loss(self, inputs: Tensor, data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            inputs: Normalized images ``(B, 3, H, W)``.
            data_samples: Not read.

        Returns:
            ``loss_kd``, and those of the head: ``loss_va`` and ``loss_at``, or all.
        """
        image, text = self.training_features(inputs)
        with torch.no_grad():
            taught = self.teacher.logits(self.teacher.image_features(inputs), text)
        labels = taught.argmax(-1) if self.pseudo_labels else None
        losses = {} if self.head is None else self.head.loss(image, text, labels)
        log_p, log_q = (
            (x / self.temperature).log_softmax(-1) for x in (self.logits(image, text), taught)
        )
        divergence = nn.functional.kl_div(log_p, log_q, reduction='sum', log_target=True)
        losses['loss_kd'] = self.weight * self.temperature**2 * divergence / log_p.numel()
        return losses
