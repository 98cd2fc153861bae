"""HyperCLIP's adapter of the attention layers of a CLIP model, which folds away after training.

Source: HyperCLIP (CVPR 2025), from the official code: the paper writes the map of features, the
code maps the rows of the projections; both are the same but for the largest length (``target``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_subset
from ...deprecation import renamed_arguments
from .adapted_weight import NOT_LINEAR, InputMaps, convert
from .attention_kinds import PROJECTIONS, TOWERS, ProjectionWeight
from .block_diagonal import BlockDiagonalMobius
from .weight_adapter import AdaptedLayer, WeightAdapter

TARGETS = ('weight', 'input')
Maps = dict[str, BlockDiagonalMobius]
"""A map for each of some projections."""


class ProjectionMaps(nn.Module):
    """Maps the projections that a weight holds, each by a map of its own.

    Each row of a projection is a vector that its map moves, ``W' = W S^T``.

    Args:
        maps: Maps of some of the projections.
        parts: Projections whose rows the weight holds, one after the other. None: ``('out',)`` if
            ``maps`` has it, else q, k and v.
    """

    def __init__(self, maps: Maps, parts: Sequence[str] | None = None):
        super().__init__()
        self.maps = nn.ModuleDict(maps)
        self.parts = tuple(parts or (('out',) if 'out' in maps else 'qkv'))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight, in the shape of ``weight``."""
        rows = weight.chunk(len(self.parts))
        parts = [
            self.maps[name](part) if name in self.maps else part
            for name, part in zip(self.parts, rows)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class HyperCLIPAdapter(WeightAdapter):
    r"""Block-diagonal Moebius adapter of the attention projections of a CLIP model.

    Every row ``w`` of the chosen projections of every attention layer becomes
    ``log0(S (x)_c exp0(w))``, see :class:`BlockDiagonalMobius`, with a block-diagonal ``S`` of its
    own, the identity at first; everything else of the model is frozen. ``merge`` writes the result
    into the weights: the model is then plain again and costs nothing more. Which layers are found:
    :data:`hyper_mm.layers.hyperclip.attention_kinds.KINDS`.

    Args:
        block_size: Side n of a block; it divides the widths of the towers.
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'`` are adapted.
        towers: Which of ``'vision'`` (everything below ``visual``) and ``'text'`` (CoCa's decoder
            of captions is no part of it). A model without ``visual`` is a vision tower.
        layers: Numbers of the layers in each tower, from 0 (negative ones from the last), or names
            of attention layers in the model; all if None.
        space: ``'poincare'`` or ``'euclidean'``.
        curvature: ``c`` of the ball.
        text_curvature: ``c`` in the text tower (1.0 in the official code); ``curvature`` if None.
        shared: One block for all places of a map.
        target: ``'weight'`` (the official code), or ``'input'``: the transposed map of the input of
            q, k and v instead (the paper), the same but for the largest length. Dense features then
            leave the last block's maps of q and k unused: DDP needs ``find_unused_parameters``.
        freeze: Freeze the model's own parameters.
        name: Name of the adapter, where a model has several.
        checkpoint: File of an adapter's state that is loaded on attachment, see
            :meth:`WeightAdapter.save`.

    Raises:
        ValueError: If a choice is unknown, an option of :class:`BlockDiagonalMobius` is out of
            range, no layer is chosen, or there is no such checkpoint; :meth:`attach` has errors of
            its own.

    Example:
        >>> clip = open_clip.create_model('ViT-B-16-quickgelu', pretrained='openai')
        >>> adapter = HyperCLIPAdapter(block_size=128).attach(clip)
        >>> optimizer = torch.optim.AdamW(adapter.parameters(), lr=1.5e-5)
        >>> ...  # train `clip`
        >>> adapter.save('adapter.safetensors')
        >>> with adapter.cached(), torch.no_grad():  # evaluation at the cost of the plain model
        ...     clip.encode_image(images)
        >>> adapter.merge()  # export

    Source: HyperCLIP (CVPR 2025).
    """

    @renamed_arguments(targets='projections')
    def __init__(
        self,
        block_size: int = 128,
        projections: Sequence[str] = ('q', 'k', 'v'),
        towers: Sequence[str] = TOWERS,
        layers: Sequence[int | str] | None = None,
        space: str = 'poincare',
        curvature: float = 0.01,
        text_curvature: float | None = None,
        shared: bool = False,
        target: str = 'weight',
        freeze: bool = True,
        name: str = 'default',
        checkpoint: str | Path | None = None,
    ):
        check_subset(PROJECTIONS, projections=projections)
        check_choice(TARGETS, target=target)
        if target == 'input' and 'out' in projections:
            raise ValueError(
                f"projections must not have 'out' with target='input', got {projections!r}"
            )
        super().__init__(projections, towers, layers, freeze, name, checkpoint)
        self.target = target
        text_curvature = curvature if text_curvature is None else text_curvature
        self.curvature = {'vision': curvature, 'text': text_curvature}
        self.options: dict[str, Any] = dict(
            block_size=block_size, shared=shared, space=space, transposed=target == 'input'
        )
        for c in self.curvature.values():  # reports bad options now, not on attachment
            BlockDiagonalMobius(block_size, curvature=c, **self.options)

    def make_update(self, tower: str, weight: ProjectionWeight, parts: Sequence[str]) -> nn.Module:
        """Makes the maps of the projections of a weight; see :class:`WeightAdapter`."""
        options = dict(self.options, curvature=self.curvature[tower])
        width = weight.frozen.shape[1]
        maps = {part: BlockDiagonalMobius(width, **options) for part in parts}
        if self.target == 'weight':
            return ProjectionMaps(maps, weight.parts)
        return InputMaps(maps, weight.parts)

    def _choose(self, model: nn.Module) -> Iterator:
        for found in super()._choose(model):
            layer = found[2]
            if self.target == 'input' and layer.kind.mark is not None:
                raise ValueError(
                    f'{found[0]} ({type(layer.module).__name__}) computes q, k and v past its '
                    "linear layer: target must be 'weight', got 'input'"
                )
            if self.target == 'input' and any(w.adapted is not None for w in layer.weights):
                raise ValueError(
                    f"{found[0]} of the model has an adapter already; one with target='input' must "
                    'be alone'
                )
            yield found

    def _insert(self, layer: AdaptedLayer, first: bool = False) -> None:
        if self.target == 'weight':
            super()._insert(layer, first)
            return
        for weight in layer.weights():
            convert(weight.owner)
            weight.owner.input_maps = layer.updates[weight.key]

    def _switch(self, on: bool) -> None:
        if self.target == 'weight':
            super()._switch(on)
            return
        for maps in self._input_maps():
            maps.on = on

    def _input_maps(self) -> list[InputMaps]:
        updates = (update for layer in self.layers for update in layer.updates.values())
        return [update for update in updates if isinstance(update, InputMaps)]

    @property
    def enabled(self) -> bool:
        """Whether the adapter takes part; assign False to have the model without it."""
        if self.target == 'weight':
            return WeightAdapter.enabled.fget(self)  # type: ignore[attr-defined]  # a property
        return not self.merged and any(maps.on for maps in self._input_maps())

    @enabled.setter
    def enabled(self, on: bool) -> None:
        WeightAdapter.enabled.fset(self, on)  # type: ignore[attr-defined]  # a property

    @property
    def folds(self) -> bool:
        """Whether the maps can be written into the weights: not those of inputs in the ball."""
        return self.target == 'weight' or self.options['space'] == 'euclidean'

    def _check_mergeable(self) -> None:
        if not self.folds:
            raise ValueError(NOT_LINEAR)
        if self.target == 'weight':
            super()._check_mergeable()
        elif not self.enabled:
            raise ValueError(f'the adapter {self.name!r} must be active to be merged')

    def named_maps(self) -> Iterator[tuple[str, BlockDiagonalMobius]]:
        """Maps with names such as ``'visual.transformer.resblocks.0.attn.q'``."""
        for layer in self.layers:
            for update in layer.updates.values():
                for name, part in cast(nn.ModuleDict, update.maps).items():
                    yield f'{layer.name}.{name}', cast(BlockDiagonalMobius, part)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The blocks of all maps by name."""
        return ((f'{name}.weight', part.weight) for name, part in self.named_maps())

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved blocks depend on."""
        towers = {layer.tower for layer in self.layers}
        names = dict(vision='curvature', text='text_curvature')
        options = dict(
            block_size=self.options['block_size'],
            shared=self.options['shared'],
            space=self.options['space'],
            target=self.target,
        )
        if self.options['space'] == 'poincare':
            options |= {names[t]: float(self.curvature[t]) for t in TOWERS if t in towers}
        return options

    @torch.no_grad()
    def clipped(self) -> dict[str, Tensor]:
        """Fraction ``()`` of rows at the largest length, by tower; ``target='weight'`` only."""
        if self.target == 'input':
            raise ValueError("clipped() needs target='weight', got 'input'")
        self._check_attached()
        found: dict[str, list[Tensor]] = {}
        for layer in self.layers:
            for weight in layer.weights():
                maps = cast(Maps, layer.updates[weight.key].maps)
                value = layer.frozen.get(weight.key, weight.frozen)
                rows = dict(zip(weight.parts, value.chunk(len(weight.parts))))
                found.setdefault(layer.tower, []).extend(
                    part.clipped(rows[name]) for name, part in maps.items()
                )
        return {tower: torch.stack(values).mean() for tower, values in found.items()}


def apply_hyperclip(model: nn.Module, block_size: int = 128, **options) -> HyperCLIPAdapter:
    """Adapts a CLIP model: only the adapter trains from here on.

    Args:
        model: A CLIP model of open_clip or Hugging Face, changed in place.
        block_size: Side of a block; it divides the widths of the towers.
        **options: See :class:`HyperCLIPAdapter`.

    Returns:
        The adapter: ``parameters``, ``state_dict``, ``load_state_dict``, ``merge``, ``unmerge``.

    Raises:
        ValueError: See :class:`HyperCLIPAdapter`.
    """
    return HyperCLIPAdapter(block_size, **options).attach(model)
