"""Other ways to train attention projections, which adapters are compared with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_positive
from ..common.saved_options import SavedOptions
from .attention_kinds import (
    PLACES,
    PROJECTIONS,
    TOWERS,
    ProjectionWeight,
    check_free,
    tower_attentions,
)
from .weight_adapter import TRAINABLE, AdaptedLayer, WeightAdapter, adapter_names

QKV = ('q', 'k', 'v')


class LowRankUpdate(SavedOptions, nn.Module):
    """LoRA of projections: ``W + alpha / rank B A`` for each of them (Hu et al., 2022).

    B is initialized to zero, so that the layer is unchanged at initialization.

    Args:
        width: Columns d of the weight.
        rank: Rank of the update of each part.
        alpha: Scale of the updates.
        projections: Which of ``parts`` are updated.
        parts: Projections whose rows the weight holds, one after the other.
        rows: Rows of each part; d if None.

    Raises:
        ValueError: If the rank is more than a part has rows or columns, or a projection is unknown
            or none is given.
    """

    def __init__(
        self,
        width: int,
        rank: int = 8,
        alpha: float = 8.0,
        projections: Sequence[str] = 'qkv',
        parts: Sequence[str] = QKV,
        rows: int | None = None,
    ) -> None:
        super().__init__()
        rows = width if rows is None else rows
        if not 1 <= rank <= min(width, rows):
            raise ValueError(f'rank must lie in 1..{min(width, rows)}, got {rank}')
        self.parts = tuple(parts)
        self.places = _places(projections, self.parts)
        self.scale = alpha / rank
        self.down = nn.Parameter(torch.empty(len(self.places), rank, width))
        self.up = nn.Parameter(torch.zeros(len(self.places), rows, rank))
        nn.init.uniform_(self.down, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved factors depend on."""
        return dict(scale=self.scale, projections=_names(self.places, self.parts))

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, in the shape of ``weight``."""
        parts = list(weight.chunk(len(self.parts)))
        for place, update in zip(self.places, self.scale * self.up @ self.down):
            parts[place] = (parts[place] + update).to(weight.dtype)
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class TrainedParts(SavedOptions, nn.Module):
    """Trains some of the projections that a weight holds and keeps the others as they are.

    Args:
        weight: The weight, from which the initial values are computed.
        projections: Which of ``parts`` are trained.
        parts: Projections whose rows the weight holds, one after the other.

    Raises:
        ValueError: If a projection is unknown or none is given.
    """

    def __init__(
        self, weight: Tensor, projections: Sequence[str] = 'qv', parts: Sequence[str] = QKV
    ) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.places = _places(projections, self.names)
        rows = weight.detach().chunk(len(self.names))
        self.parts = nn.Parameter(torch.stack([rows[place] for place in self.places]))

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved parts depend on."""
        return dict(projections=_names(self.places, self.names))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its trained parts, in its shape."""
        parts = list(weight.chunk(len(self.names)))
        for place, part in zip(self.places, self.parts):
            parts[place] = part
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _places(projections: Sequence[str], parts: Sequence[str] = QKV) -> list[int]:
    """Numbers of the parts."""
    wrong = set(projections) - set(parts)
    if wrong or not projections:
        raise ValueError(f'projections must be some of {tuple(parts)}, got {projections!r}')
    return [i for i, name in enumerate(parts) if name in projections]


def _names(places: Sequence[int], parts: Sequence[str] = QKV) -> str:
    return ''.join(parts[place] for place in places)


class LoRAAdapter(WeightAdapter):
    """LoRA of the attention projections: see :class:`LowRankUpdate`.

    Libraries that wrap linear layers (mmpretrain's ``LoRAModel``) do not reach CLIP's projections,
    which are one parameter of an attention layer.

    Args:
        rank: Rank of each update.
        alpha: Scale of the updates; ``alpha / rank`` multiplies them.
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'``.
        towers: See :class:`WeightAdapter`, as are the other arguments.
        layers: The same.
        freeze: The same.
        name: The same.
        checkpoint: The same.

    Raises:
        ValueError: See :class:`WeightAdapter`; :meth:`attach` also for a rank that is too large.
    """

    def __init__(
        self,
        rank: int = 8,
        alpha: float = 8.0,
        projections: Sequence[str] = 'qkv',
        towers: Sequence[str] = TOWERS,
        layers: Sequence[int | str] | None = None,
        freeze: bool = True,
        name: str = 'default',
        checkpoint: str | Path | None = None,
    ):
        super().__init__(projections, towers, layers, freeze, name, checkpoint)
        check_positive(rank=rank)
        self.rank, self.alpha = rank, alpha

    def make_update(self, tower: str, weight: ProjectionWeight, parts: Sequence[str]) -> nn.Module:
        """Makes the update of a weight; see :class:`WeightAdapter`."""
        rows, width = weight.frozen.shape
        rows //= len(weight.parts)
        return LowRankUpdate(width, self.rank, self.alpha, parts, weight.parts, rows)

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved factors depend on."""
        return dict(
            adapter='lora', scale=self.alpha / self.rank, projections=list(self.projections)
        )


class TrainedPartsAdapter(WeightAdapter):
    """Fine-tuning of attention projections with the interface of an adapter.

    Args:
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'`` are trained; ``'qv'`` is what
            CAT-Seg's official code trains.
        towers: See :class:`WeightAdapter`, as are the other arguments.
        layers: The same.
        freeze: The same.
        name: The same.
        checkpoint: The same.

    Raises:
        ValueError: See :class:`WeightAdapter`.
    """

    def __init__(
        self,
        projections: Sequence[str] = 'qv',
        towers: Sequence[str] = TOWERS,
        layers: Sequence[int | str] | None = None,
        freeze: bool = True,
        name: str = 'default',
        checkpoint: str | Path | None = None,
    ):
        super().__init__(projections, towers, layers, freeze, name, checkpoint)

    def make_update(self, tower: str, weight: ProjectionWeight, parts: Sequence[str]) -> nn.Module:
        """Makes the trained parts of a weight; see :class:`WeightAdapter`."""
        return TrainedParts(weight.frozen, parts, weight.parts)

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved parts depend on."""
        return dict(adapter='parts', projections=list(self.projections))


class FullTuning(WeightAdapter):
    """Fine-tuning of all parameters of towers with the interface of an adapter.

    The parameters train where they are, and a copy of their values before is kept for
    :meth:`disabled` and :meth:`unmerge`: it costs the memory of the towers once more. It cannot be
    one of several adapters.

    Args:
        towers: Which of ``'vision'`` and ``'text'``: what lies below the attribute that has the
            tower, and, in open_clip's models without such an attribute, the text tower's
            parameters beside it.
        checkpoint: File of a state that is loaded on attachment.

    Raises:
        ValueError: See :class:`WeightAdapter`.
    """

    def __init__(self, towers: Sequence[str] = TOWERS, checkpoint: str | Path | None = None):
        super().__init__(PROJECTIONS, towers, checkpoint=checkpoint)
        self._tuned: dict[str, nn.Parameter] = {}
        self._base: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._merged = False

    def attach(self, model: nn.Module) -> FullTuning:
        """Frees the towers' parameters and freezes all others; see :class:`WeightAdapter`."""
        if self.model is not None:
            raise ValueError('the adapter is attached to a model already; make another one')
        found = tower_attentions(model, self.towers)
        check_free(found, self.key)
        if adapter_names(model):
            raise ValueError(
                f'the model has an adapter already, {adapter_names(model)}; full tuning is alone'
            )
        own = {n: p for n, p in model.named_parameters() if tower_of(model, n) in self.towers}
        self._tuned, self._base = own, {name: p.detach().clone() for name, p in own.items()}
        if self.checkpoint is not None:
            try:
                self.load(self.checkpoint)
            except Exception:
                self._tuned, self._base = {}, {}  # the model is as it was
                raise
        self._before = {name: p.requires_grad for name, p in model.named_parameters()}
        model.requires_grad_(False)
        for parameter in own.values():
            parameter.requires_grad_(True)
        self.model = model
        self.layers = [
            AdaptedLayer(name, tower, attention, {})
            for tower, layers in found.items()
            for name, attention in layers.items()
        ]
        return self

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The towers' parameters by name in the model."""
        return iter(self._tuned.items())

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved parameters depend on."""
        return dict(adapter='full', towers=sorted(self.towers))

    @torch.no_grad()
    def _write(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._tuned[name].copy_(value)

    @property
    def enabled(self) -> bool:
        """Whether the tuned values are in the model; assign False for those before."""
        return not self._kept and not self._merged and self.model is not None

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._check_attached()
        if self.merged:
            raise ValueError('the adapter is merged; unmerge it first')
        if on and self._kept:
            self._write(self._kept)
            self._kept = {}
        elif not on and not self._kept:
            self._kept = {name: p.detach().clone() for name, p in self._tuned.items()}
            self._write(self._base)

    @property
    def merged(self) -> bool:
        """Whether the adapter is merged into the model."""
        return self._merged

    def merge(self, trainable: str = 'none') -> None:
        """Leaves the tuned values in the model; see :meth:`WeightAdapter.merge`."""
        model = self._check_attached()
        check_choice(TRAINABLE, trainable=trainable)
        if self.merged:
            raise ValueError('the adapter is merged already; unmerge it first')
        if not self.enabled:
            raise ValueError(f'the adapter {self.name!r} must be active to be merged')
        self._merged = True
        for name, parameter in model.named_parameters():
            on = self._before[name] if trainable == 'before' else trainable == 'all'
            parameter.requires_grad_(on)

    def unmerge(self) -> None:
        """Makes the towers' parameters the adapter again.

        Raises:
            ValueError: If the adapter is not merged.
        """
        model = self._check_attached()
        if not self.merged:
            raise ValueError('the adapter is not merged')
        self._merged = False
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in self._tuned)

    def trained_share(self) -> tuple[int, int]:
        """Numbers of trained parameters, and of all of the model."""
        everything = sum(p.numel() for p in self._check_attached().parameters())
        return sum(p.numel() for p in self.parameters()), everything


def tower_of(model: nn.Module, name: str) -> str | None:
    """The tower that a parameter of a model is in.

    Args:
        model: A CLIP model, or a tower.
        name: The parameter's name.

    Returns:
        ``'vision'`` or ``'text'``; None for what belongs to neither, such as the logit scale.
    """
    vision = next((one for one in PLACES['vision'] if hasattr(model, one)), None)
    if vision is None:
        return 'text' if hasattr(model, 'text_model') else 'vision'
    head = name.split('.')[0]
    if head in (vision, 'visual_projection'):
        return 'vision'
    text = cast('str | None', next((one for one in PLACES['text'] if hasattr(model, one)), None))
    beside = ('token_embedding', 'positional_embedding', 'ln_final', 'text_projection')
    return 'text' if head == text or head in beside else None


def train_parts(
    model: nn.Module, projections: Sequence[str] = 'qv', towers: Sequence[str] = TOWERS
) -> TrainedPartsAdapter:
    """Trains some of the attention projections, and nothing else of a model.

    Args:
        model: Changed in place.
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'``.
        towers: See :func:`tower_attentions`.

    Returns:
        The adapter.

    Raises:
        ValueError: See :func:`tower_attentions`.
    """
    return TrainedPartsAdapter(projections, towers).attach(model)


def apply_lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 8.0,
    projections: Sequence[str] = 'qkv',
    towers: Sequence[str] = TOWERS,
) -> LoRAAdapter:
    """Trains low-rank updates of the attention projections, and nothing else of a model.

    Args:
        model: Changed in place.
        rank: See :class:`LowRankUpdate`.
        alpha: The same.
        projections: The same.
        towers: See :func:`tower_attentions`.

    Returns:
        The adapter.

    Raises:
        ValueError: See :class:`LowRankUpdate` and :func:`tower_attentions`.
    """
    return LoRAAdapter(rank, alpha, projections, towers).attach(model)
