"""Methods of Hugging Face's peft on the attention projections, for comparison."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import peft
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from hyper_mm.checks import check_subset
from hyper_mm.layers.common.saved_options import compare_options, decode_options, encode_options
from hyper_mm.layers.hyperclip.attention_kinds import (
    PROJECTIONS,
    TOWERS,
    AttentionLayer,
    tower_attentions,
)
from hyper_mm.layers.hyperclip.weight_adapter import OPTIONS
from hyper_mm.registry import MODELS

METHODS = {'LORA': peft.LoraConfig, 'OFT': peft.OFTConfig}


@MODELS.register_module()
class PeftAdapter:
    """peft's LoRA or block-diagonal OFT of the attention projections.

    OFT is the closest relative of HyperCLIP's adapter: its blocks are orthogonal there, and of any
    kind here. peft replaces the linear layers by its own, which hold them; where a linear layer is
    fused, one map serves q, k and v together. peft's LoRA of :class:`torch.nn.MultiheadAttention`
    has the output projection in it, too.

    Args:
        method: ``'LORA'`` or ``'OFT'``.
        projections: Which of ``'q'``, ``'k'``, ``'v'``, ``'out'``; q, k and v together where they
            are fused.
        towers: Which of ``'vision'`` and ``'text'``.
        **options: Of ``peft.LoraConfig`` or ``peft.OFTConfig``, such as ``r`` and ``lora_alpha``,
            or ``oft_block_size``.

    Raises:
        ValueError: For unknown methods, projections or towers; :meth:`attach` where peft cannot
            reach a projection: OFT a fused parameter, and both a linear layer that is read past its
            ``forward``.

    Example:
        >>> adapter = dict(type='hyper_mm.PeftAdapter', method='OFT', oft_block_size=32)

    Source: Qiu et al., Controlling Text-to-Image Diffusion by Orthogonal Finetuning (NeurIPS 2023).
    """

    def __init__(
        self,
        method: str = 'OFT',
        projections: Sequence[str] = 'qkv',
        towers: Sequence[str] = TOWERS,
        **options,
    ):
        if method not in METHODS:
            raise ValueError(f'method must be one of {tuple(METHODS)}, got {method!r}')
        check_subset(PROJECTIONS, projections=projections)
        check_subset(TOWERS, towers=towers)
        self.method = method
        self.projections = tuple(one for one in PROJECTIONS if one in projections)
        self.towers = tuple(towers)
        self.options: dict[str, Any] = options
        METHODS[method](**options)  # reports bad options now, not on attachment
        self.model: nn.Module | None = None

    def attach(self, model: nn.Module) -> PeftAdapter:
        """Inserts peft's layers; nothing else of the model trains.

        Args:
            model: A CLIP model, changed in place.

        Returns:
            The adapter.

        Raises:
            ValueError: See :class:`PeftAdapter`.
        """
        if self.model is not None:
            raise ValueError('the adapter is attached to a model already; make another one')
        names = [
            target
            for layers in tower_attentions(model, self.towers).values()
            for name, layer in layers.items()
            for target in self._targets(name, layer)
        ]
        model.requires_grad_(False)
        config = METHODS[self.method](target_modules=names, **self.options)
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Unsupported layer type')  # of MultiheadAttention
            peft.inject_adapter_in_model(config, model)
        self.model = model
        return self

    def _targets(self, name: str, layer: AttentionLayer) -> Iterator[str]:
        fused = 'in_proj_weight' in layer.kind.weights
        if layer.kind.mark is not None or (fused and self.method == 'OFT'):
            raise ValueError(
                f"peft's {self.method} does not reach the projections of {name} "
                f'({type(layer.module).__name__}); hyper_mm.HyperCLIPAdapter and '
                'hyper_mm.LoRAAdapter do'
            )
        groups = [PROJECTIONS] if fused else [weight.parts for weight in layer.weights]
        for parts in groups:
            wanted = [part for part in parts if part in self.projections]
            if wanted and len(wanted) < len(parts):
                raise ValueError(
                    f'peft adapts {", ".join(parts)} of {name} as a whole: projections must have '
                    f'all of them or none, got {self.projections}'
                )
        if fused:
            yield name
            return
        for weight in layer.weights:
            if weight.parts[0] in self.projections:
                yield f'{name}.{weight.key.rpartition(".")[0]}'

    def parameters(self) -> Iterator[nn.Parameter]:
        """The trained parameters."""
        return (p for _, p in self.named_parameters())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The trained parameters by name."""
        prefix = f'.{self.method.lower()}_'
        return ((n, p) for n, p in self._attached().named_parameters() if prefix in n)

    def saved_options(self) -> dict[str, object]:
        """Returns what the trained parameters depend on."""
        return dict(adapter=f'peft.{self.method}', projections=list(self.projections))

    def state_dict(self) -> dict[str, Tensor]:
        """The trained parameters by name, and the options; see :class:`HyperCLIPAdapter`."""
        state = {name: p.detach() for name, p in self.named_parameters()}
        return {**state, OPTIONS: encode_options(self.saved_options() | self.options)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Loads trained parameters.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: If options or names differ.
        """
        state, own = dict(state), dict(self.named_parameters())
        options = self.saved_options() | self.options
        compare_options(decode_options(state.pop(OPTIONS)), options, 'the adapter of the state')
        if own.keys() != state.keys():
            raise ValueError(
                f'the adapter lacks {sorted(state.keys() - own.keys())} and the state '
                f'{sorted(own.keys() - state.keys())}'
            )
        for name, parameter in own.items():
            parameter.data.copy_(state[name])

    def _tuned(self) -> list[BaseTunerLayer]:
        return [m for m in self._attached().modules() if isinstance(m, BaseTunerLayer)]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The model without the adapter, within ``with adapter.disabled():``."""
        for module in self._tuned():
            module.enable_adapters(False)
        try:
            yield
        finally:
            for module in self._tuned():
                module.enable_adapters(True)

    def merge(self) -> None:
        """Writes the adapted weights into the layers that peft's hold."""
        for module in self._tuned():
            module.merge()

    def _attached(self) -> nn.Module:
        if self.model is None:
            raise ValueError('the adapter is not attached to a model; call attach(model)')
        return self.model

    def __repr__(self) -> str:
        """Returns the number of its parameters beside the model's."""
        if self.model is None:
            return f'PeftAdapter({self.method}, not attached)'
        own = sum(p.numel() for p in self.parameters())
        base = sum(p.numel() for p in self.model.parameters()) - own
        return f'PeftAdapter({self.method}, {own:,} parameters, {own / base:.2%} of the model)'
