"""What all adapters of attention weights have in common: state, merging, switching, names."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_subset
from ...tensor_files import load_tensors, save_tensors
from ..common.saved_options import compare_options, decode_options, encode_options
from .adapted_weight import DEFAULT, AdaptedWeight, adapt, cached_weights, fold
from .attention_kinds import (
    PROJECTIONS,
    TOWERS,
    AttentionLayer,
    ProjectionWeight,
    check_free,
    tower_attentions,
)

OPTIONS = 'options'
"""Key of the options in an adapter's state."""
TRAINABLE = ('none', 'before', 'all')
Self = TypeVar('Self', bound='WeightAdapter')


@dataclass
class AdaptedLayer:
    """An attention layer with its adapter.

    Attributes:
        name: Its name in the model.
        tower: ``'vision'`` or ``'text'``.
        attention: The layer and where its weights are.
        updates: The module of each adapted weight, by the weight's name in the layer.
        frozen: Weights before merging, by name in the layer; empty while not merged.
    """

    name: str
    tower: str
    attention: AttentionLayer
    updates: dict[str, nn.Module]
    frozen: dict[str, Tensor] = field(default_factory=dict)

    def weights(self) -> list[ProjectionWeight]:
        """The weights that are adapted."""
        return [weight for weight in self.attention.weights if weight.key in self.updates]


class WeightAdapter:
    """Base of adapters that put a trained weight in the place of each frozen one.

    Args:
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'`` are adapted.
        towers: Which of ``'vision'`` and ``'text'``, see :func:`tower_attentions`.
        layers: Numbers of the layers in each tower, from 0 (negative ones from the last), or names
            of attention layers in the model; all if None.
        freeze: Freeze the model's own parameters, and those of other adapters.
        name: Name of the adapter, where a model has several: letters, digits, ``_`` and ``-``.
        checkpoint: File of an adapter's state, see :meth:`load`, which is loaded on attachment.

    Raises:
        ValueError: If a choice is unknown, the name is not allowed, or there is no such file.
    """

    def __init__(
        self,
        projections: Sequence[str],
        towers: Sequence[str] = TOWERS,
        layers: Sequence[int | str] | None = None,
        freeze: bool = True,
        name: str = 'default',
        checkpoint: str | Path | None = None,
    ):
        check_subset(PROJECTIONS, projections=projections)
        check_subset(TOWERS, towers=towers)
        if layers is not None and (isinstance(layers, str) or not isinstance(layers, Iterable)):
            raise TypeError(
                f'layers must be a sequence of numbers or names, or None, got {layers!r}'
            )
        if layers is not None and not layers:
            raise ValueError('layers must name at least one layer, or be None for all')
        if not isinstance(name, str):
            raise TypeError(f'name must be a string, got {name!r}')
        if not re.fullmatch(r'[\w-]+', name) or hasattr(AdaptedWeight, name) or name in _RESERVED:
            raise ValueError(
                'name must be of letters, digits, _ and -, and no attribute of torch.nn.Module, '
                f'got {name!r}'
            )
        if checkpoint is not None and not isinstance(checkpoint, (str, os.PathLike)):
            raise TypeError(f'checkpoint must be a path or None, got {checkpoint!r}')
        if checkpoint is not None and not Path(checkpoint).is_file():
            raise ValueError(f'checkpoint must be a file or None, there is no {str(checkpoint)!r}')
        self.projections = tuple(one for one in PROJECTIONS if one in projections)
        self.towers = tuple(towers)
        self.wanted = layers
        self.freeze = freeze
        self.name = name
        self.checkpoint = checkpoint
        self.model: nn.Module | None = None
        self.layers: list[AdaptedLayer] = []
        self._before: dict[str, bool] = {}

    @property
    def key(self) -> str:
        """Key of the adapter's modules in the model."""
        return DEFAULT if self.name == 'default' else self.name

    def make_update(self, tower: str, weight: ProjectionWeight, parts: Sequence[str]) -> nn.Module:
        """Makes the module that maps a weight.

        Args:
            tower: The tower that it is in.
            weight: The weight.
            parts: Those of its projections that are adapted.
        """
        raise NotImplementedError

    def saved_options(self) -> dict[str, object]:
        """Returns the options that the saved weights depend on."""
        raise NotImplementedError

    def attach(self: Self, model: nn.Module) -> Self:
        """Inserts the adapter; of several in a model, the last one attached is active.

        Args:
            model: A CLIP model of open_clip or Hugging Face, or any module with attention layers of
                :data:`hyper_mm.layers.hyperclip.attention_kinds.KINDS`; changed in place.

        Returns:
            The adapter.

        Raises:
            ValueError: If the adapter is attached already, the model has another one of its name, a
                tower has no such layer, an option does not suit a weight, or the checkpoint is of
                an adapter with other options.
        """
        if self.model is not None:
            raise ValueError('the adapter is attached to a model already; make another one')
        found = list(self._choose(model))
        made = []
        for name, tower, attention in found:
            updates = {}
            for weight in attention.weights:
                parts = [part for part in weight.parts if part in self.projections]
                if parts:
                    update = self.make_update(tower, weight, parts)
                    updates[weight.key] = update.to(weight.frozen.device)
            made.append(AdaptedLayer(name, tower, attention, updates))
        self.layers = made
        if self.checkpoint is not None:
            try:
                self.load(self.checkpoint)
            except Exception:
                self.layers = []  # the model is as it was
                raise
        self._before = {name: p.requires_grad for name, p in model.named_parameters()}
        if self.freeze:
            model.requires_grad_(False)
        self.model = model
        for layer in made:
            self._insert(layer)
        use_adapters(model, self.name)
        return self

    def _choose(self, model: nn.Module) -> Iterator[tuple[str, str, AttentionLayer]]:
        """Name, tower and layer of what is adapted."""
        found = tower_attentions(model, self.towers)
        check_free(found, self.key)
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
            for number, (name, one) in enumerate(layers.items()):
                if self.wanted is None or {number, number - len(layers), name} & {*self.wanted}:
                    yield name, tower, one

    def _insert(self, layer: AdaptedLayer, first: bool = False) -> None:
        for weight in layer.weights():
            adapt(weight.owner, weight.name, layer.updates[weight.key], self.key, first)

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
    def enabled(self) -> bool:
        """Whether the adapter takes part; assign False to have the model without it."""
        places = [weight.adapted for layer in self.layers for weight in layer.weights()]
        return any(place is not None and self.key in place.active() for place in places)

    @enabled.setter
    def enabled(self, on: bool) -> None:
        self._check_attached()
        if self.merged:
            raise ValueError('the adapter is merged; unmerge it first')
        self._switch(on)

    def _switch(self, on: bool) -> None:
        for layer in self.layers:
            for weight in layer.weights():
                cast(AdaptedWeight, weight.adapted).switch(self.key, on)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The model without the adapter, within ``with adapter.disabled():``.

        Raises:
            ValueError: If the adapter is not attached, or merged.
        """
        before = self.enabled
        self.enabled = False
        try:
            yield
        finally:
            self.enabled = before

    def _check_mergeable(self) -> None:
        for layer in self.layers:
            for weight in layer.weights():
                active = cast(AdaptedWeight, weight.adapted).active()
                if not active or active[0] != self.key:
                    names = ['default' if key == DEFAULT else key for key in active]
                    raise ValueError(
                        f'the adapter {self.name!r} must be the first of the active ones to be '
                        f'merged, active are {names}'
                    )

    def merge(self, trainable: str = 'none') -> None:
        """Writes the adapted weights into the model and removes the adapter from it, for export.

        Copies of the model are not affected. For evaluation during a run use :meth:`cached`, which
        leaves checkpoints as they are.

        Args:
            trainable: What of the model is trained from here on: ``'none'``, ``'before'`` (what was
                before the adapter was attached) or ``'all'``.

        Raises:
            ValueError: If the adapter is not attached or merged already, is not active, comes after
                another active one, or cannot be expressed by a weight.
        """
        model = self._check_attached()
        check_choice(TRAINABLE, trainable=trainable)
        if self.merged:
            raise ValueError('the adapter is merged already; unmerge it first')
        self._check_mergeable()
        for layer in self.layers:
            for weight in layer.weights():
                frozen = fold(weight.owner, self.key)
                if frozen is not None:
                    layer.frozen[weight.key] = frozen
        if trainable == 'all':
            model.requires_grad_(True)
        elif trainable == 'before':
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(self._before.get(name, parameter.requires_grad))

    def unmerge(self) -> None:
        """Puts the frozen weights back and the adapter on top of them again, exactly as before.

        Raises:
            ValueError: If the adapter is not merged.
        """
        model = self._check_attached()
        if not self.merged:
            raise ValueError('the adapter is not merged')
        for layer in self.layers:
            with torch.no_grad():
                for weight in layer.weights():
                    weight.frozen.copy_(layer.frozen[weight.key])
            layer.frozen.clear()
            self._insert(layer, first=True)
        if self.freeze:
            own = {id(p) for p in self.parameters()}
            for parameter in model.parameters():
                if id(parameter) not in own:
                    parameter.requires_grad_(False)

    @property
    def merged(self) -> bool:
        """Whether the adapter is merged into the model."""
        return any(layer.frozen for layer in self.layers)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained parameters by name: layer of the model, weight, parameter."""
        for layer in self.layers:
            for key, update in layer.updates.items():
                for name, parameter in update.named_parameters():
                    yield f'{layer.name}.{key}.{name}', parameter

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters."""
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, Tensor]:
        """The trained parameters by name, to be loaded onto any base of the same shape.

        Returns:
            The parameters, and under ``'options'`` what they were trained with, as bytes.
        """
        state = {name: parameter.detach() for name, parameter in self.named_parameters()}
        return {**state, OPTIONS: encode_options(self.saved_options())}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Loads trained parameters.

        Args:
            state: What :meth:`state_dict` returned. One without options, from before they were
                saved, is loaded with a warning.

        Raises:
            ValueError: If options, names or shapes differ from the adapter's, or it is merged.
        """
        if self.merged:
            raise ValueError('the adapter is merged; unmerge it first')
        state, own = dict(state), dict(self.named_parameters())
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
        for name, parameter in own.items():
            parameter.data.copy_(state[name])

    def save(self, path: str | Path) -> None:
        """Saves :meth:`state_dict`.

        Args:
            path: A file; one that ends in ``.safetensors`` is written with that library.

        Raises:
            ImportError: If that library is wanted and not installed.
        """
        save_tensors(self.state_dict(), path)

    def load(self, path: str | Path) -> None:
        """Loads a file that :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: See :meth:`load_state_dict`.
            ImportError: If the file needs safetensors, which is not installed.
        """
        try:
            state = load_tensors(path)
        except (ImportError, OSError):
            raise
        except Exception as error:  # of many types: those of pickle, zipfile and safetensors
            raise ValueError(f'{str(path)!r} is no file of an adapter: {error}') from error
        if not isinstance(state, Mapping):
            raise ValueError(
                f'{str(path)!r} is no file of an adapter: it holds a {type(state).__name__}'
            )
        self.load_state_dict(state)

    def _check_attached(self) -> nn.Module:
        if self.model is None:
            raise ValueError('the adapter is not attached to a model; call attach(model)')
        return self.model

    def trained_share(self) -> tuple[int, int]:
        """Numbers of parameters of the adapter, and of the model without it.

        Raises:
            ValueError: If the adapter is not attached.
        """
        own = {id(p): p.numel() for p in self.parameters()}
        base = sum(p.numel() for p in self._check_attached().parameters() if id(p) not in own)
        return sum(own.values()), base

    def __repr__(self) -> str:
        """Returns the number of its parameters beside the model's."""
        title = type(self).__name__ + ('' if self.name == 'default' else f' {self.name!r}')
        if self.model is None:
            return f'{title}(not attached)'
        own, base = self.trained_share()
        state = 'merged' if self.merged else f'{own:,} parameters, {own / base:.2%} of the model'
        return f'{title}({len(self.layers)} layers, {state})'


_RESERVED = ('cache', 'off', 'original', 'training', DEFAULT)


def adapter_names(model: nn.Module) -> list[str]:
    """Names of the adapters of a model, in the order in which they were attached."""
    places = [module for module in model.modules() if isinstance(module, AdaptedWeight)]
    keys = dict.fromkeys(key for place in places for key in place.all_keys())
    return ['default' if key == DEFAULT else key for key in keys]


def use_adapters(model: nn.Module, *names: str) -> None:
    """Makes some of a model's adapters active and the others not.

    Several are applied one after the other, in the order in which they were attached. What is
    trained does not change: freeze with ``requires_grad_``.

    Args:
        model: A model with adapters, changed in place.
        *names: Their names, ``'default'`` for the one without; none for the plain model.

    Raises:
        ValueError: If there is no adapter of a name.
    """
    places = [module for module in model.modules() if isinstance(module, AdaptedWeight)]
    known = adapter_names(model)
    for name in names:
        if places and name not in known:
            raise ValueError(f'names must be some of {known}, got {name!r}')
    for place in places:
        for key in place.all_keys():
            place.switch(key, ('default' if key == DEFAULT else key) in names)
