"""Where the attention layers of open_clip, timm and Hugging Face keep their projections.

One table, :data:`KINDS`: a layer is of a kind if it has the kind's weights and number of heads.
Classes are not named, so that a subclass, or the same layer in another library, is found too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ...checks import check_subset
from .adapted_weight import Adapted, AdaptedWeight, InputMaps

PROJECTIONS = ('q', 'k', 'v', 'out')
TOWERS = ('vision', 'text')
PLACES = {'vision': ('visual', 'vision_model'), 'text': ('text', 'text_model', 'transformer')}
"""Where models keep their towers: open_clip's names, then Hugging Face's."""
CROSS = ('crossattention', 'cross_attn', 'encoder_attn', 'EncDecAttention')
"""Names of layers whose keys come from elsewhere."""


class AttentionKind(NamedTuple):
    """Weights of a kind of attention layers.

    Attributes:
        title: Where it is found.
        weights: Projections whose rows a weight holds, one after the other, by the weight's name.
        heads: Attribute with the number of heads.
        mark: Attribute that only layers of this kind have; they read the weight of their linear
            layer past its ``forward``, so that its input cannot be mapped.
    """

    title: str
    weights: dict[str, tuple[str, ...]]
    heads: str
    mark: str | None = None


QKV, Q, K, V, OUT = ('q', 'k', 'v'), ('q',), ('k',), ('v',), ('out',)


def _apart(names: str, heads: str, title: str) -> AttentionKind:
    weights = [f'{name}.weight' for name in names.split()]
    return AttentionKind(title, dict(zip(weights, (Q, K, V, OUT))), heads)


KINDS = (
    AttentionKind(
        'torch.nn.MultiheadAttention, open_clip',
        {'in_proj_weight': QKV, 'out_proj.weight': OUT},
        'num_heads',
    ),
    AttentionKind(
        'timm and mmpretrain, fused, bias apart (EVA01, BEiT)',
        {'qkv.weight': QKV, 'proj.weight': OUT},
        'num_heads',
        mark='q_bias',
    ),
    AttentionKind(
        'timm and mmpretrain, fused (ViT, SigLIP, MobileCLIP, PE, ViTamin, Swin)',
        {'qkv.weight': QKV, 'proj.weight': OUT},
        'num_heads',
    ),
    _apart('q_proj k_proj v_proj proj', 'num_heads', 'timm, separate (EVA02)'),
    _apart('q_proj k_proj v_proj out_proj', 'num_heads', 'transformers: CLIP, SigLIP, M2M-100'),
    _apart(
        'self.query self.key self.value output.dense',
        'self.num_attention_heads',
        'transformers: BERT, RoBERTa, XLM-RoBERTa, MiniLM',
    ),
    _apart('q k v o', 'n_heads', 'transformers: T5, mT5'),
    _apart('q_lin k_lin v_lin out_lin', 'n_heads', 'transformers: DistilBERT'),
)


class ProjectionWeight(NamedTuple):
    """A weight of an attention layer.

    Attributes:
        key: Its name in the layer.
        owner: The module that has it.
        name: Its name there.
        parts: Projections whose rows it holds, one after the other and as many of each.
    """

    key: str
    owner: nn.Module
    name: str
    parts: tuple[str, ...]

    @property
    def frozen(self) -> nn.Parameter:
        """The weight without adapters."""
        return cast(nn.Parameter, _weight(self.owner, self.name))

    @property
    def adapted(self) -> AdaptedWeight | None:
        """The adapted weight in its place, if there is one."""
        places = cast('nn.ModuleDict | None', self.owner._modules.get('parametrizations'))
        if not isinstance(self.owner, Adapted) or places is None or self.name not in places:
            return None
        return cast(AdaptedWeight, places[self.name])

    @property
    def input_maps(self) -> InputMaps | None:
        """The maps of the owner's inputs, if there are some."""
        return cast('InputMaps | None', self.owner._modules.get('input_maps'))


@dataclass(frozen=True)
class AttentionLayer:
    """An attention layer whose projections are known.

    Attributes:
        module: The layer.
        kind: Its kind.
        weights: Its weights.
        heads: Its number of heads.
    """

    module: nn.Module
    kind: AttentionKind
    weights: tuple[ProjectionWeight, ...]
    heads: int


def _weight(owner: nn.Module, name: str) -> Tensor | None:
    places = owner._modules.get('parametrizations')
    if isinstance(owner, Adapted) and isinstance(places, nn.ModuleDict) and name in places:
        return cast(AdaptedWeight, places[name]).original
    return owner._parameters.get(name)


def _reached(module: nn.Module, path: str) -> nn.Module | None:
    for name in filter(None, path.split('.')):
        found = module._modules.get(name)
        if found is None:
            return None
        module = found
    return module


def attention_layer(module: nn.Module) -> AttentionLayer | None:
    """Finds the projections of an attention layer.

    Args:
        module: Any module.

    Returns:
        The layer; None for a module of no kind of :data:`KINDS`.
    """
    for kind in KINDS:
        if kind.mark is not None and getattr(module, kind.mark, None) is None:
            continue
        weights = []
        for key, parts in kind.weights.items():
            path, _, name = key.rpartition('.')
            owner = _reached(module, path)
            weight = None if owner is None else _weight(owner, name)
            if owner is None or weight is None or weight.ndim != 2 or len(weight) % len(parts):
                break
            weights.append(ProjectionWeight(key, owner, name, parts))
        path, _, name = kind.heads.rpartition('.')
        heads = getattr(_reached(module, path), name, None)
        if len(weights) == len(kind.weights) and isinstance(heads, int):
            return AttentionLayer(module, kind, tuple(weights), heads)
    return None


def _is_pool(module: nn.Module) -> bool:
    """Whether a module reads tokens with queries of its own, at the end of a tower."""
    name = type(module).__name__
    return 'Attention' in name and 'Pool' in name


def _attentions(model: nn.Module) -> tuple[dict[str, AttentionLayer], list[str]]:
    """Self-attention layers by name, and names of other attention: pooling, cross-attention."""
    found: dict[str, AttentionLayer] = {}
    others: list[str] = []
    pools: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f'{pool}.') for pool in pools):
            continue
        if _is_pool(module):
            pools.append(name)
            others.append(name)
            continue
        layer = attention_layer(module)
        cross = name.rpartition('.')[2] in CROSS
        if layer is not None and not cross:
            found[name] = layer
        elif layer is not None or isinstance(module, nn.MultiheadAttention):
            others.append(name)
    return found, others


def _first(model: nn.Module, names: Sequence[str]) -> str | None:
    return next((name for name in names if isinstance(getattr(model, name, None), nn.Module)), None)


def tower_attentions(
    model: nn.Module, towers: Sequence[str] = TOWERS
) -> dict[str, dict[str, AttentionLayer]]:
    """Attention layers of the towers of a CLIP model.

    The vision tower is what lies below ``visual`` or ``vision_model``; the text tower is the text
    encoder, below ``text``, ``text_model`` or ``transformer``. A model of one tower is a text tower
    if it has ``text_model``, else a vision tower.

    Args:
        model: A CLIP model of open_clip or Hugging Face, or any module with attention layers of
            :data:`KINDS`.
        towers: Which of ``'vision'`` and ``'text'``.

    Returns:
        Layers by name in the model, by tower; a tower that a model of one tower lacks is left out.

    Raises:
        ValueError: If one of the towers has no such layer, so that it could not be adapted.
    """
    check_subset(TOWERS, towers=towers)
    every, others = _attentions(model)
    vision = _first(model, PLACES['vision'])
    text = _first(model, PLACES['text'][:2] if vision is None else PLACES['text'])
    if vision is None or text is None and all(name.startswith(f'{vision}.') for name in every):
        tower = 'text' if vision is None and hasattr(model, 'text_model') else 'vision'
        if tower not in towers:
            raise ValueError(
                f"{type(model).__name__} has no 'visual', so it is a {tower} tower by itself; "
                f"towers must name '{tower}', got {tuple(towers)}"
            )
        if not every:
            raise ValueError(f'{type(model).__name__} has no {_WANTED}')
        _warn(model, others)
        return {tower: every}
    places = dict(vision=f'{vision}.', text='' if text is None else f'{text}.')
    found = {
        tower: {
            name: layer
            for name, layer in every.items()
            if name.startswith(places[tower])
            and (tower == 'vision') == name.startswith(places['vision'])
        }
        for tower in TOWERS
    }
    for tower in towers:
        if not found[tower]:
            left = tuple(other for other in TOWERS if found[other])
            advice = f'towers={left} adapts that one alone' if left else 'nor has the other'
            part = getattr(model, places[tower].rstrip('.'), model)
            raise ValueError(
                f'the {tower} tower of {type(model).__name__} ({_kind(part)}) has no {_WANTED}; '
                f'{advice}'
            )
    known = {name for tower in TOWERS for name in found[tower]}
    unasked = tuple(places[tower] for tower in TOWERS if tower not in towers and places[tower])
    rest = [name for name in (*others, *every) if name not in known]
    _warn(model, [name for name in rest if not name.startswith(unasked)])
    return {tower: found[tower] for tower in TOWERS if tower in towers}


_WANTED = 'attention layer whose projections are known, which is what is adapted'


def _warn(model: nn.Module, rest: Sequence[str]) -> None:
    if rest:
        warnings.warn(
            f'{len(rest)} attention layers of {type(model).__name__} are not adapted, since they '
            f'are no self-attention of its towers: {_short(rest)}',
            stacklevel=6,
        )


def check_free(layers: dict[str, dict[str, AttentionLayer]], key: str) -> None:
    """Refuses layers that have an adapter of the same key, or parametrizations of torch.

    Args:
        layers: What :func:`tower_attentions` returned.
        key: Key of the new adapter.

    Raises:
        ValueError: If one has.
    """
    for name, layer in ((n, a) for found in layers.values() for n, a in found.items()):
        for weight in layer.weights:
            adapted = weight.adapted
            taken = adapted is not None and key in adapted.all_keys()
            foreign = not isinstance(weight.owner, Adapted) and is_parametrized(weight.owner)
            if taken or foreign or weight.input_maps is not None:
                raise ValueError(
                    f'{name} of the model has an adapter already; a second one needs a name of its '
                    "own, and target='weight' of both"
                )


def _kind(part: nn.Module) -> str:
    """Class of a tower, with that of the network that it wraps."""
    trunk = getattr(part, 'trunk', None) or getattr(part, 'transformer', None)
    wrapped = f' of {type(trunk).__name__}' if isinstance(trunk, nn.Module) else ''
    return type(part).__name__ + wrapped


def _short(names: Sequence[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more
