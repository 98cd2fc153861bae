"""HyperCLIP's adapter of the attention layers of a CLIP model, which folds away after training.

Source: HyperCLIP (CVPR 2025), from the official code: the paper writes the map of features, the
code maps the rows of the projections; both are the same but for the largest length (``target``).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_subset
from ...deprecation import renamed_arguments
from ..common.saved_options import compare_options, decode_options, encode_options
from .adapted_weight import (
    NOT_LINEAR,
    AdaptedWeight,
    InputMaps,
    adapt,
    cached_weights,
    convert,
    fold,
)
from .block_diagonal import BlockDiagonalMobius
from .weight_updates import TOWERS, tower_attentions

PROJECTIONS = ('q', 'k', 'v', 'out')
OPTIONS = 'options'
"""Key of the options in the adapter's state."""
TARGETS = ('weight', 'input')
Maps = dict[str, BlockDiagonalMobius]
"""A map for each of some projections."""


def rows_of(weight: Tensor, kind: str) -> dict[str, Tensor]:
    """Rows of each projection: of a weight ``(3 d, d)`` for ``'qkv'``, ``(d, d)`` for ``'out'``."""
    return {'out': weight} if kind == 'out' else dict(zip('qkv', weight.chunk(3)))


class ProjectionMaps(nn.Module):
    """Maps the projections of an attention layer, each by a map of its own.

    Each row of a projection is a vector that its map moves, ``W' = W S^T``.

    Args:
        maps: Maps of some of ``'q'``, ``'k'``, ``'v'``, or of ``'out'`` alone.
    """

    def __init__(self, maps: Maps):
        super().__init__()
        self.maps = nn.ModuleDict(maps)
        self.kind = 'out' if 'out' in maps else 'qkv'

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight, in the shape of ``weight``."""
        parts = [
            self.maps[name](rows) if name in self.maps else rows
            for name, rows in rows_of(weight, self.kind).items()
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]


class AdaptedLayer(NamedTuple):
    """An attention layer with its adapter.

    Attributes:
        name: Its name in the model.
        tower: ``'vision'`` or ``'text'``.
        attention: The layer.
        maps: The map of each projection.
        frozen: Weights before merging, by name within the layer; empty while not merged.
    """

    name: str
    tower: str
    attention: nn.MultiheadAttention
    maps: Maps
    frozen: dict[str, Tensor]


class HyperCLIPAdapter:
    r"""Block-diagonal Moebius adapter of the attention projections of a CLIP model.

    Every row ``w`` of the chosen projections of every :class:`torch.nn.MultiheadAttention` becomes
    ``log0(S (x)_c exp0(w))``, see :class:`BlockDiagonalMobius`, with a block-diagonal ``S`` of its
    own, the identity at first; everything else of the model is frozen. ``merge`` writes the result
    into the weights: the model is then plain again and costs nothing more.

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

    Raises:
        ValueError: If a choice is unknown, an option of :class:`BlockDiagonalMobius` is out of
            range, or no layer is chosen; :meth:`attach` has errors of its own.

    Example:
        >>> clip = open_clip.create_model('ViT-B-16-quickgelu', pretrained='openai')
        >>> adapter = HyperCLIPAdapter(block_size=128).attach(clip)
        >>> optimizer = torch.optim.AdamW(adapter.parameters(), lr=1.5e-5)
        >>> ...  # train `clip`
        >>> torch.save(adapter.state_dict(), 'adapter.pth')
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
    ):
        check_subset(PROJECTIONS, projections=projections)
        check_subset(TOWERS, towers=towers)
        check_choice(TARGETS, target=target)
        if target == 'input' and 'out' in projections:
            raise ValueError(
                f"projections must not have 'out' with target='input', got {projections!r}"
            )
        if layers is not None and not layers:
            raise ValueError('layers must name at least one layer, or be None for all')
        self.projections = tuple(name for name in PROJECTIONS if name in projections)
        self.towers = tuple(towers)
        self.wanted = layers
        self.target = target
        self.freeze = freeze
        text_curvature = curvature if text_curvature is None else text_curvature
        self.curvature = {'vision': curvature, 'text': text_curvature}
        self.options: dict[str, Any] = dict(
            block_size=block_size, shared=shared, space=space, transposed=target == 'input'
        )
        for c in self.curvature.values():  # reports bad options now, not on attachment
            BlockDiagonalMobius(block_size, curvature=c, **self.options)
        self.model: nn.Module | None = None
        self.layers: list[AdaptedLayer] = []

    def attach(self, model: nn.Module) -> HyperCLIPAdapter:
        """Inserts the adapter.

        Args:
            model: A CLIP model of open_clip, or any module with attention layers of
                :class:`torch.nn.MultiheadAttention`; changed in place.

        Returns:
            The adapter.

        Raises:
            ValueError: If the adapter is attached already, the model has another one, there is no
                such layer, or ``block_size`` does not divide a width.
        """
        if self.model is not None:
            raise ValueError('the adapter is attached to a model already; make another one')
        chosen = list(self._choose(model))
        widths = {attention.embed_dim for _, _, attention in chosen}
        for width in sorted(widths):
            BlockDiagonalMobius(width, **self.options)
        if self.freeze:
            model.requires_grad_(False)
        self.model = model
        for name, tower, attention in chosen:
            options = dict(self.options, curvature=self.curvature[tower])
            width, device = attention.embed_dim, attention.out_proj.weight.device
            maps = {t: BlockDiagonalMobius(width, **options).to(device) for t in self.projections}
            layer = AdaptedLayer(name, tower, attention, maps, {})
            self.layers.append(layer)
            self._insert(layer)
        return self

    def _choose(self, model: nn.Module) -> Iterator[tuple[str, str, nn.MultiheadAttention]]:
        """Name, tower and module of the layers to adapt."""
        found = tower_attentions(model, self.towers)
        names = {name for layers in found.values() for name in layers}
        depth = max(len(layers) for layers in found.values())
        for layer in self.wanted or ():
            known = -depth <= layer < depth if isinstance(layer, int) else layer in names
            if not known:
                raise ValueError(
                    f'layers must be numbers below {depth} or some of {sorted(names)}, '
                    f'got {layer!r}'
                )
        for tower, layers in found.items():
            for number, (name, module) in enumerate(layers.items()):
                if self.wanted is None or {number, number - len(layers), name} & {*self.wanted}:
                    yield name, tower, module

    def _insert(self, layer: AdaptedLayer) -> None:
        attention, maps = layer.attention, layer.maps
        convert(attention)
        if self.target == 'input':
            attention.input_maps = InputMaps(maps)
            return
        fused = {name: part for name, part in maps.items() if name != 'out'}
        if fused:
            adapt(attention, 'in_proj_weight', ProjectionMaps(fused))
        if 'out' in maps:
            adapt(attention.out_proj, 'weight', ProjectionMaps({'out': maps['out']}))

    def cached(self) -> AbstractContextManager[None]:
        """Keeps the adapted weights while nothing changes, for evaluation.

        Within ``with adapter.cached():``, what runs without gradients costs what the plain model
        costs. Structure and state dict stay as they are, and changed weights are seen. Maps of
        inputs in the ball are still computed: no weight expresses their largest length.

        Raises:
            ValueError: If the adapter is not attached.
        """
        return cached_weights(self._check_attached())

    @property
    def folds(self) -> bool:
        """Whether the maps can be written into the weights: not those of inputs in the ball."""
        return self.target == 'weight' or self.options['space'] == 'euclidean'

    def merge(self) -> None:
        """Writes the adapted weights into the model and removes the adapter from it, for export.

        Copies of the model are not affected. For evaluation during a run use :meth:`cached`, which
        leaves checkpoints as they are.

        Raises:
            ValueError: If the adapter is not attached or merged already; or maps inputs in the
                ball, whose largest length no weight can express.
        """
        self._check_attached()
        if self.merged:
            raise ValueError('the adapter is merged already; unmerge it first')
        if not self.folds:
            raise ValueError(NOT_LINEAR)
        for layer in self.layers:
            for owner, _, key in _places(layer.attention):
                frozen = fold(owner)
                if frozen is not None:
                    layer.frozen[key] = frozen

    def unmerge(self) -> None:
        """Puts the frozen weights back and the adapter on top of them again, exactly as before.

        Raises:
            ValueError: If the adapter is not merged.
        """
        self._check_attached()
        if not self.merged:
            raise ValueError('the adapter is not merged')
        for layer in self.layers:
            with torch.no_grad():
                for owner, name, key in _places(layer.attention):
                    if key in layer.frozen:
                        getattr(owner, name).copy_(layer.frozen[key])
            layer.frozen.clear()
            self._insert(layer)

    @property
    def merged(self) -> bool:
        """Whether the adapter is merged into the model."""
        return any(layer.frozen for layer in self.layers)

    def named_maps(self) -> Iterator[tuple[str, BlockDiagonalMobius]]:
        """Maps with names such as ``'visual.transformer.resblocks.0.attn.q'``."""
        for layer in self.layers:
            for name, part in layer.maps.items():
                yield f'{layer.name}.{name}', part

    def parameters(self) -> Iterator[nn.Parameter]:
        """The blocks of all maps."""
        return (part.weight for _, part in self.named_maps())

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

    def state_dict(self) -> dict[str, Tensor]:
        """The blocks by name, to be loaded onto any base of the same shape.

        Returns:
            The blocks, and under ``'options'`` what they were trained with, as bytes.
        """
        state = {f'{name}.weight': part.weight.detach() for name, part in self.named_maps()}
        return {**state, OPTIONS: encode_options(self.saved_options())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Loads blocks.

        Args:
            state: What :meth:`state_dict` returned. One without options, from before they were
                saved, is loaded with a warning.

        Raises:
            ValueError: If options, names or shapes differ from the adapter's, or it is merged.
        """
        if self.merged:
            raise ValueError('the adapter is merged; unmerge it first')
        state, own = dict(state), self.state_dict()
        del own[OPTIONS]
        if OPTIONS in state:
            saved = decode_options(state.pop(OPTIONS))
            compare_options(saved, self.saved_options(), 'the adapter of the state')
        else:
            warnings.warn(
                'the state comes without the options that it was trained with, from before these '
                f'were saved; taken to be {self.saved_options()}',
                stacklevel=2,
            )
        if own.keys() != state.keys():
            raise ValueError(
                f'the adapter lacks {sorted(state.keys() - own.keys())} and the state '
                f'{sorted(own.keys() - state.keys())}'
            )
        for name, value in state.items():
            if own[name].shape != value.shape:
                raise ValueError(
                    f'{name} must have the shape {tuple(own[name].shape)}, got {tuple(value.shape)}'
                )
        for name, part in self.named_maps():
            part.weight.data.copy_(state[f'{name}.weight'])

    @torch.no_grad()
    def clipped(self) -> dict[str, Tensor]:
        """Fraction ``()`` of rows at the largest length, by tower; ``target='weight'`` only."""
        if self.target == 'input':
            raise ValueError("clipped() needs target='weight', got 'input'")
        self._check_attached()
        found: dict[str, list[Tensor]] = {}
        for layer in self.layers:
            for owner, name, key in _places(layer.attention):
                if key in layer.frozen:
                    weight = layer.frozen[key]
                elif name in getattr(owner, 'parametrizations', ()):
                    places = cast(nn.ModuleDict, owner.parametrizations)
                    weight = cast(AdaptedWeight, places[name]).original
                else:
                    continue
                rows = rows_of(weight, 'out' if owner is not layer.attention else 'qkv')
                found.setdefault(layer.tower, []).extend(
                    layer.maps[part].clipped(rows[part]) for part in rows if part in layer.maps
                )
        return {tower: torch.stack(values).mean() for tower, values in found.items()}

    def _check_attached(self) -> nn.Module:
        if self.model is None:
            raise ValueError('the adapter is not attached to a model; call attach(model)')
        return self.model

    def __repr__(self) -> str:
        """Returns the number of its parameters beside the model's."""
        if self.model is None:
            return f'{type(self).__name__}(not attached)'
        own = sum(p.numel() for p in self.parameters())
        base = sum(p.numel() for p in self.model.parameters()) - (0 if self.merged else own)
        state = 'merged' if self.merged else f'{own:,} parameters, {own / base:.2%} of the model'
        return f'{type(self).__name__}({len(self.layers)} layers, {state})'


def _places(attention: nn.MultiheadAttention) -> tuple[tuple[nn.Module, str, str], ...]:
    """Where an attention layer keeps its weights: module, name in it, and name in the layer."""
    return (
        (attention, 'in_proj_weight', 'in_proj_weight'),
        (attention.out_proj, 'weight', 'out_proj.weight'),
    )


def apply_hyperclip(model: nn.Module, block_size: int = 128, **options) -> HyperCLIPAdapter:
    """Adapts a CLIP model: only the adapter trains from here on.

    Args:
        model: A CLIP model of open_clip, changed in place.
        block_size: Side of a block; it divides the widths of the towers.
        **options: See :class:`HyperCLIPAdapter`.

    Returns:
        The adapter: ``parameters``, ``state_dict``, ``load_state_dict``, ``merge``, ``unmerge``.

    Raises:
        ValueError: See :class:`HyperCLIPAdapter`.
    """
    return HyperCLIPAdapter(block_size, **options).attach(model)
