"""Weights computed from a frozen weight by a small module, in the place of the frozen weight.

The keys in the state dict are those of :mod:`torch.nn.utils.parametrize`, which this replaces: its
classes cannot be pickled, and since a copy of a model shares them with the original, removing a
parametrization from one of the two breaks the other.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import torch
from torch import Tensor, nn

from ...compat import is_compiling

if TYPE_CHECKING:
    from .block_diagonal import BlockDiagonalMobius

DEFAULT = '0'
"""Key of the adapter that has no name of its own."""
_RUNNING: ContextVar[dict[int, Tensor] | None] = ContextVar('adapted weights', default=None)
"""Weights computed in the forward pass that is running in this thread, by id of their module."""


NOT_LINEAR = (
    "target='input' merges with space='euclidean' only, got space='poincare': no weight bounds the "
    'length of its input'
)


def _same(kept: Tensor, found: Tensor) -> bool:
    alike = (kept.shape, kept.dtype, kept.device) == (found.shape, found.dtype, found.device)
    return alike and torch.equal(kept, found)


class WeightCache:
    """The value of an adapted weight, kept while nothing that it is computed from changes.

    It is no part of the state dict, and a copy or a pickle of it is empty and switched off.

    Trained tensors are compared by value, which also sees writes through ``.data`` (moving averages
    exchange weights that way); they are small. The frozen weight is compared by place and version.
    """

    def __init__(self) -> None:
        self.on = False
        self._kept: tuple[list[Tensor], list[int], list[Tensor], Tensor] | None = None

    def __reduce__(self) -> tuple:
        return WeightCache, ()

    def clear(self) -> None:
        """Forgets the value."""
        self._kept = None

    def get(
        self, function: Callable[[], Tensor], trained: Sequence[Tensor], frozen: Sequence[Tensor]
    ) -> Tensor:
        """The kept value, or that of the function where something has changed.

        Args:
            function: Computes the value.
            trained: Tensors that it depends on, which may change in any way.
            frozen: Tensors that it depends on, whose changes torch sees.

        Returns:
            The value, without a graph.
        """
        kept = self._kept
        if any(x.is_inference() for x in frozen):  # these count no versions
            return function().detach()
        versions = [x._version for x in frozen]
        if (
            kept is None
            or kept[1] != versions
            or any(a.data_ptr() != b.data_ptr() for a, b in zip(kept[0], frozen))
            or not all(_same(a, b) for a, b in zip(kept[2], trained))
        ):
            device = (*trained, *frozen)[0].device.type
            with torch.inference_mode(False), torch.no_grad():
                with torch.autocast(device, enabled=False):
                    value = function()
                places = [x.detach() for x in frozen]  # keeps their memory theirs
                copies = [x.detach().clone() for x in trained]
            kept = self._kept = places, versions, copies, value
        return kept[3]


class Cached(nn.Module):
    """Base of modules that compute a weight, with a cache of it for evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = WeightCache()

    def needs_gradient(self, weight: Tensor) -> bool:
        """Whether a result computed now from ``weight`` would be part of a graph."""
        trained = weight.requires_grad or any(p.requires_grad for p in self.parameters())
        return trained and torch.is_grad_enabled()

    def cached(self, weight: Tensor, function: Callable[[], Tensor]) -> Tensor:
        """The value of a function of ``weight`` and the parameters, from the cache."""
        own = [p for p in self.parameters() if p is not weight]
        if weight.requires_grad:
            return self.cache.get(function, [*own, weight], [])
        return self.cache.get(function, own, [weight])

    def train(self, mode: bool = True) -> Cached:
        """Sets the mode, and forgets the kept value."""
        self.cache.clear()
        return super().train(mode)

    def _apply(self, *args, **kwargs) -> Cached:
        self.cache.clear()
        return super()._apply(*args, **kwargs)


class AdaptedWeight(Cached):
    """A frozen weight and the modules that map it, one after the other, to the weight in its place.

    Args:
        original: The frozen weight.
        function: Module that maps it to a tensor of its shape.
        key: Key of the module.
    """

    off: frozenset[str] = frozenset()
    """Keys of the modules that are left out now."""

    def __init__(self, original: nn.Parameter, function: nn.Module, key: str = DEFAULT):
        super().__init__()
        self.original = original
        self.add(key, function)

    def add(self, key: str, function: nn.Module, first: bool = False) -> None:
        """Adds a module, as the last one or as the first."""
        others = dict(self._modules)
        self.add_module(key, function)
        if first:
            self._modules.clear()
            self._modules.update({key: function, **others})

    def remove(self, key: str) -> None:
        """Removes a module."""
        del self._modules[key]
        self.switch(key, True)

    def all_keys(self) -> list[str]:
        """Keys of the modules, in the order in which they are applied."""
        return list(self._modules)

    def switch(self, key: str, on: bool) -> None:
        """Leaves a module out, or takes it in again."""
        self.cache.clear()
        self.off = self.off - {key} if on else self.off | {key}

    def active(self) -> list[str]:
        """Keys of the modules that are applied."""
        return [key for key in self._modules if key not in self.off]

    def __getitem__(self, index: int) -> nn.Module:
        """The module at an index."""
        return cast(nn.Module, list(self._modules.values())[index])

    def forward(self) -> Tensor:
        """The weight; within a forward pass of its layer it is computed once."""
        if is_compiling():
            return self._compute()
        running = _RUNNING.get()
        if running is None:
            return self._value()
        if id(self) not in running:
            running[id(self)] = self._value()
        return running[id(self)]

    def _value(self) -> Tensor:
        if not self.active():
            return self.original
        if not self.cache.on or self.needs_gradient(self.original):
            return self._compute()
        return self.cached(self.original, self._compute)

    def _compute(self) -> Tensor:
        """The weight in its own precision: layers cast it to that of autocast."""
        weight: Tensor = self.original
        with torch.autocast(weight.device.type, enabled=False):
            for key, function in self._modules.items():
                if key not in self.off:
                    weight = cast(nn.Module, function)(weight)
        return weight


class InputMaps(Cached):
    """Maps of what enters the projections of an attention layer.

    Maps without a largest length are linear, so that the cache can fold them into the weight.

    Args:
        maps: :class:`BlockDiagonalMobius`, transposed, of some of ``'q'``, ``'k'``, ``'v'``.
        parts: Projections whose rows the weight holds, one after the other.
    """

    on = True
    """Whether inputs are mapped."""

    def __init__(self, maps: Mapping[str, BlockDiagonalMobius], parts: Sequence[str] = 'qkv'):
        super().__init__()
        self.maps = nn.ModuleDict(maps)
        self.parts = tuple(parts)

    def forward(self, x: Tensor, name: str) -> Tensor:
        """Maps the input ``(..., d)`` of a projection, or returns it where that has no map."""
        return self.maps[name](x) if self.on and name in self.maps else x

    @property
    def linear(self) -> bool:
        """Whether no map has a largest length."""
        return all(part.space == 'euclidean' for part in self.maps.values())

    def folded(self, weight: Tensor) -> bool:
        """Whether the maps are in the weight now, so that inputs stay as they are."""
        kept = self.on and self.linear and self.cache.on
        return kept and not self.needs_gradient(weight) and not is_compiling()

    def fold(self, weight: Tensor) -> Tensor:
        """The weight that does to an input what maps and ``weight`` do: W S, part by part."""
        maps = cast('Mapping[str, BlockDiagonalMobius]', self.maps)
        rows = weight.chunk(len(self.parts))
        parts = [
            maps[name].linear(part, transposed=False).to(part.dtype) if name in maps else part
            for name, part in zip(self.parts, rows)
        ]
        return torch.cat(parts)

    def weight(self, weight: Tensor) -> Tensor:
        """The weight that the projections take: with the maps in it where they are folded."""
        if not self.folded(weight):
            return weight
        return self.cached(weight, lambda: self.fold(weight))


def attention_input(attention: nn.Module, x: Tensor, name: str) -> Tensor:
    """What a projection of an attention layer takes in place of its input.

    Args:
        attention: The layer, with an adapter or without.
        x: Input ``(..., d)``.
        name: ``'q'``, ``'k'`` or ``'v'``.

    Returns:
        Mapped input ``(..., d)`` where an adapter with ``target='input'`` is attached and not
        folded into the weight; else ``x``.
    """
    maps = getattr(attention, 'input_maps', None)
    if maps is None or maps.folded(attention._parameters['in_proj_weight']):
        return x
    return maps(x, name)


class Adapted(nn.Module):
    """Mixin of a module with adapted weights.

    Copies and pickles name the class of the module before it was adapted.
    """

    _base: type[nn.Module]

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        return _new, (self._base,), self.__dict__.copy()

    def _adapted(self, name: str) -> Tensor | None:
        adapted = cast('nn.ModuleDict | None', self._modules.get('parametrizations'))
        if adapted is not None and name in adapted:
            return adapted[name]()
        weight = self._parameters[name]
        maps = cast('InputMaps | None', self._modules.get('input_maps'))
        return weight if maps is None or weight is None else maps.weight(weight)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # Weights of the plain model load into the adapted one.
        for name in cast('Mapping[str, nn.Module]', self._modules.get('parametrizations', {})):
            if prefix + name in state_dict:
                key = f'{prefix}parametrizations.{name}.original'
                state_dict[key] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *args)


class AdaptedAttention(Adapted):
    """The mixin for attention: each adapted weight is computed once a forward pass."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args, **kwargs):
        """Attention with the adapted weights and inputs; see the stock class."""
        if getattr(self, 'input_maps', None) is not None:
            query, key, value = (
                attention_input(self, x, name) for x, name in zip((query, key, value), 'qkv')
            )
        if is_compiling():
            return super().forward(query, key, value, *args, **kwargs)
        token = _RUNNING.set({})
        try:
            return super().forward(query, key, value, *args, **kwargs)
        finally:
            _RUNNING.reset(token)


class AdaptedLinear(Adapted):
    """The mixin for linear layers, whose input may be mapped, differently for each projection."""

    def forward(self, x: Tensor) -> Tensor:
        """The linear map with the adapted weight and input."""
        maps = cast('InputMaps | None', self._modules.get('input_maps'))
        weight, bias = self._parameters.get('weight'), self._parameters.get('bias')
        if maps is None or weight is None or not maps.on or maps.folded(weight):
            return super().forward(x)
        rows = weight.chunk(len(maps.parts))
        biases = [None] * len(rows) if bias is None else bias.chunk(len(rows))
        parts = [
            nn.functional.linear(maps(x, name), part, offset)
            for name, part, offset in zip(maps.parts, rows, biases)
        ]
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


@functools.cache
def _adapted_class(base: type[nn.Module]) -> type[nn.Module]:
    mixin, name = Adapted, 'in_proj_weight'
    if issubclass(base, nn.MultiheadAttention):
        mixin = AdaptedAttention
    elif issubclass(base, nn.Linear):
        mixin, name = AdaptedLinear, 'weight'
    members = {
        '_base': base,
        name: property(lambda self: self._adapted(name)),
        '__doc__': base.__doc__,
    }
    return type(f'Adapted{base.__name__}', (mixin, base), members)


def _new(base: type[nn.Module]) -> nn.Module:
    adapted = _adapted_class(base)  # type: ignore[arg-type]  # classes are hashable
    return adapted.__new__(adapted)


def convert(module: nn.Module) -> None:
    """Lets a module, in place, have adapted weights; it does the same until it has some."""
    if not isinstance(module, Adapted):
        module.__class__ = _adapted_class(type(module))  # type: ignore[arg-type]  # as above


def restore(module: nn.Module) -> None:
    """Undoes :func:`convert`."""
    if isinstance(module, Adapted):
        module.__class__ = cast(Any, module._base)


def adapt(
    module: nn.Module, name: str, function: nn.Module, key: str = DEFAULT, first: bool = False
) -> None:
    """Puts an adapted weight in the place of a weight, or one more module into an adapted weight.

    Args:
        module: An attention layer or a linear layer, changed in place.
        name: ``'in_proj_weight'`` or ``'weight'``.
        function: Module that maps the weight to a tensor of its shape.
        key: Key of the module.
        first: Apply it before those that are there already.
    """
    adapted = module._modules.get('parametrizations')
    if isinstance(module, Adapted) and adapted is not None:
        cast(AdaptedWeight, cast(nn.ModuleDict, adapted)[name]).add(key, function, first)
        return
    weight = cast(nn.Parameter, module._parameters.pop(name))
    convert(module)
    module.parametrizations = nn.ModuleDict({name: AdaptedWeight(weight, function, key)})


def fold(module: nn.Module, key: str | None = None) -> Tensor | None:
    """Writes what is adapted in a module into its frozen weight, and removes it.

    Args:
        module: Changed in place; it is plain again when nothing adapted is left.
        key: Key of one adapter. None: all that are active; others are dropped.

    Returns:
        The frozen weight before; None where nothing is adapted.

    Raises:
        ValueError: For maps of inputs in the ball, whose largest length no weight can express.
    """
    if not isinstance(module, Adapted):
        return None
    maps = cast('InputMaps | None', module._modules.get('input_maps'))
    adapted = cast('nn.ModuleDict | None', module._modules.get('parametrizations'))
    frozen = None
    with torch.no_grad():
        if maps is not None:
            if not maps.linear:
                raise ValueError(NOT_LINEAR)
            name = 'weight' if isinstance(module, nn.Linear) else 'in_proj_weight'
            weight = cast(nn.Parameter, module._parameters[name])
            frozen = weight.detach().clone()
            if maps.on:
                weight.copy_(maps.fold(weight))
            del module.input_maps
        if adapted is not None:
            ((name, found),) = adapted.items()
            place = cast(AdaptedWeight, found)
            if key is not None and key not in place.all_keys():
                return None
            weight = place.original
            frozen = weight.detach().clone()
            for one in place.active() if key is None else [key]:
                weight.copy_(place._modules[one](weight))  # type: ignore[misc]  # a module
            if key is not None and len(place.all_keys()) > 1:
                place.remove(key)
                place.cache.clear()
                return frozen
            del module.parametrizations
    restore(module)
    if adapted is not None:
        others = dict(module._parameters)
        module._parameters.clear()
        module.register_parameter(name, weight)  # the first one, as in all plain classes
        module._parameters.update(others)
    return frozen


def merge_weights(model: nn.Module) -> None:
    """Writes all adapted weights of a model into the frozen ones, for export.

    Args:
        model: Changed in place: a plain model again.

    Raises:
        ValueError: See :func:`fold`; nothing is changed then.
    """
    if any(isinstance(module, InputMaps) and not module.linear for module in model.modules()):
        raise ValueError(NOT_LINEAR)
    for module in list(model.modules()):
        fold(module)


def caches(model: nn.Module) -> Iterator[WeightCache]:
    """The caches of all adapted weights of a model."""
    return (module.cache for module in model.modules() if isinstance(module, Cached))


@contextmanager
def cached_weights(model: nn.Module) -> Iterator[None]:
    """Keeps the adapted weights of a model instead of computing them at each forward pass.

    Without gradients it then runs at the speed of the plain model. Neither its structure nor its
    state dict changes, and weights that change meanwhile are seen.

    Args:
        model: A model with adapted weights.
    """
    set_cached(model, True)
    try:
        yield
    finally:
        set_cached(model, False)


def set_cached(model: nn.Module, on: bool) -> int:
    """Switches the caches of a model on or off; see :func:`cached_weights`.

    Args:
        model: A model with adapted weights.
        on: Whether they are kept.

    Returns:
        How many there are.
    """
    count = 0
    for cache in caches(model):
        cache.on = on
        cache.clear()
        count += 1
    return count
