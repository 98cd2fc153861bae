"""Learnable prompts of CLIP's two towers: CoOp, MaPLe, PromptSRC's and VPT. Needs torch alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...checks import check_count


class Prompts(NamedTuple):
    """Prompt vectors of both towers, one tensor for each block from the first on.

    Attributes:
        text: Tensors ``(n, d_text)``. The first replaces the embeddings of the tokens 1 to n (the
            start token is 0) before positions are added, the others what the blocks before theirs
            have made of them.
        image: Tensors ``(n, d_image)``. The first is put behind the patches, without positions and
            before the first norm, the others replace it likewise.
    """

    text: list[Tensor]
    image: list[Tensor]


def _normal(count: int, dim: int) -> nn.Parameter:
    return nn.Parameter(0.02 * torch.randn(count, dim))


class CoOp(nn.Module):
    """Learnable context words in front of the class name; the images have none.

    Args:
        text_dim: Width of the text tower.
        image_dim: Width of the image tower, which is not used; None where it has no tokens.
        num_context: Number n of vectors.
        words: Words whose embeddings initialize the vectors, the first n of their tokens; the
            tokens behind these stay in the prompt. None: random initialization.
        depth: Blocks of the text tower that have vectors of their own (the paper: 1, the input).

    Raises:
        ValueError: For numbers less than 1.

    Source: Zhou et al., Learning to Prompt for Vision-Language Models (IJCV 2022).
    """

    towers: tuple[str, ...] = ('text',)
    """The towers that have prompts."""

    def __init__(
        self,
        text_dim: int,
        image_dim: int | None = None,
        num_context: int = 16,
        words: str | None = None,
        depth: int = 1,
    ):
        super().__init__()
        check_count(1, text_dim=text_dim, num_context=num_context, depth=depth)
        if image_dim is not None:
            check_count(1, image_dim=image_dim)
        self.num_context, self.words = num_context, words
        self.context = _normal(num_context, text_dim)
        self.deep = nn.ParameterList(_normal(num_context, text_dim) for _ in range(depth - 1))

    @property
    def prefix(self) -> str:
        """Text in front of the class name; its first n tokens are replaced by the vectors."""
        return ' '.join(['X'] * self.num_context) if self.words is None else self.words

    def prompt(self, name: str) -> str:
        """The text of a class."""
        return f'{self.prefix} {name}.'

    @torch.no_grad()
    def init_context(self, embeddings: Tensor) -> None:
        """Initializes the vectors with the embeddings of the words, if there are words.

        Args:
            embeddings: Token embeddings of :attr:`prefix` ``(m, d)``, without start and end.

        Raises:
            ValueError: If there are fewer of them than vectors, which would then replace tokens of
                the class name.
        """
        if len(embeddings) < self.num_context:
            raise ValueError(
                f'num_context={self.num_context} vectors would overwrite the class name: the words '
                f'{self.prefix!r} have {len(embeddings)} tokens'
            )
        if self.words is not None:
            self.context.copy_(embeddings[: self.num_context])

    def forward(self) -> Prompts:
        """Prompts of both towers."""
        return Prompts([self.context, *self.deep], [])


class MaPLe(CoOp):
    r"""Prompts of the image tower are linear images of those of the text tower, block by block.

    .. math:: \tilde P_i = W_i P_i + b_i

    Args:
        text_dim: Width of the text tower.
        image_dim: Width of the image tower.
        num_context: Number of vectors.
        depth: Blocks that have prompts of their own (the paper: 9 of 12; 3 between data sets).
        words: Words that initialize the first vectors; see :class:`CoOp`. With two vectors and
            these four words, ``of a`` stays in the prompt, as in the official code.

    Raises:
        ValueError: For numbers less than 1.

    Source: Khattak et al., MaPLe: Multi-modal Prompt Learning (CVPR 2023).
    """

    towers = ('text', 'image')

    def __init__(
        self,
        text_dim: int,
        image_dim: int,
        num_context: int = 2,
        depth: int = 9,
        words: str | None = 'a photo of a',
    ):
        super().__init__(text_dim, image_dim, num_context, words, depth)
        self.projections = nn.ModuleList(nn.Linear(text_dim, image_dim) for _ in range(depth))

    def forward(self) -> Prompts:
        """Prompts of both towers."""
        text = super().forward().text
        return Prompts(text, [project(p) for project, p in zip(self.projections, text)])


class IVLP(CoOp):
    """Independent prompts of both towers: those of PromptSRC.

    Args:
        text_dim: Width of the text tower.
        image_dim: Width of the image tower.
        num_context: Number of text vectors.
        num_image: Number of image vectors.
        depth: Blocks of the text tower that have prompts of their own (the paper: 9).
        image_depth: The same of the image tower.
        words: Words that initialize the first text vectors; see :class:`CoOp`.

    Raises:
        ValueError: For numbers less than 1.

    Source: Khattak et al., Self-regulating Prompts (ICCV 2023).
    """

    towers = ('text', 'image')

    def __init__(
        self,
        text_dim: int,
        image_dim: int,
        num_context: int = 4,
        num_image: int = 4,
        depth: int = 9,
        image_depth: int = 9,
        words: str | None = 'a photo of a',
    ):
        super().__init__(text_dim, image_dim, num_context, words, depth)
        check_count(1, num_image=num_image, image_depth=image_depth)
        self.image = nn.ParameterList(_normal(num_image, image_dim) for _ in range(image_depth))

    def forward(self) -> Prompts:
        """Prompts of both towers."""
        return Prompts(super().forward().text, list(self.image))


class VPT(nn.Module):
    """Prompts of the image tower alone: those of PromptKD's student.

    Args:
        text_dim: Width of the text tower, which is not used; None where it has none.
        image_dim: Width of the image tower.
        num_image: Number of vectors.
        image_depth: Blocks that have prompts of their own.

    Raises:
        ValueError: For numbers less than 1.

    Source: Jia et al., Visual Prompt Tuning (ECCV 2022).
    """

    towers = ('image',)

    def __init__(
        self, text_dim: int | None, image_dim: int, num_image: int = 4, image_depth: int = 9
    ):
        super().__init__()
        if text_dim is not None:
            check_count(1, text_dim=text_dim)
        check_count(1, image_dim=image_dim, num_image=num_image, image_depth=image_depth)
        self.image = nn.ParameterList(_normal(num_image, image_dim) for _ in range(image_depth))

    def forward(self) -> Prompts:
        """Prompts of both towers."""
        return Prompts([], list(self.image))


LEARNERS = {'CoOp': CoOp, 'IVLP': IVLP, 'MaPLe': MaPLe, 'VPT': VPT}


def self_consistency(
    image: Tensor, text: Tensor, frozen_image: Tensor, frozen_text: Tensor, scale: float | Tensor
) -> dict[str, Tensor]:
    r"""PromptSRC's distances of prompted features from those of the frozen towers.

    .. math::
        L_{text} = \overline{|t - t_0|},\quad L_{image} = \overline{|v - v_0|},\quad
        L_{logits} = \frac{1}{BC} \sum_{bc} q_{bc} (\log q_{bc} - \log p_{bc})

    with the softmax p of the cosines of v and t times ``scale``, and q that of the frozen ones.

    Args:
        image: Unit image features ``(B, d)``.
        text: Unit class features ``(C, d)``.
        frozen_image: Unit features of the frozen image tower ``(B, d)``.
        frozen_text: Those of the frozen text tower ``(C, d)``, means over templates.
        scale: Factor of the cosines.

    Returns:
        ``text``, ``image`` and ``logits``. PromptSRC weights them by 25, 10 and 1.
    """
    log_p = (scale * image @ text.mT).log_softmax(-1)
    log_q = (scale * frozen_image @ frozen_text.mT).log_softmax(-1)
    divergence = F.kl_div(log_p, log_q, reduction='sum', log_target=True) / log_p.numel()
    return dict(
        text=F.l1_loss(text, frozen_text), image=F.l1_loss(image, frozen_image), logits=divergence
    )
