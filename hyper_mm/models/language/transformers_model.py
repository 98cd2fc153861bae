"""Language models of this package as models of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PretrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel

from hyper_mm.registry import MODELS

from .interchange import KIND, load_pretrained, read_config, save_pretrained


class HelmConfig(PretrainedConfig):
    """Config of :class:`HelmForTransformers`.

    Args:
        model: Config of a :class:`hyper_mm.HelmForCausalLM`.
        **options: See ``transformers.PretrainedConfig``.
    """

    model_type = KIND

    def __init__(self, model: dict | None = None, **options: object):
        self.model = model
        decoder = (model or {}).get('decoder', {})
        sizes = dict(
            vocab_size=decoder.get('vocab_size'),
            hidden_size=decoder.get('embed_dims'),
            num_hidden_layers=decoder.get('depth'),
            max_position_embeddings=decoder.get('max_length', 2048),
        )
        super().__init__(**{**sizes, **options})


class LayerCaches(Cache):
    """The caches of a decoder, one a layer.

    Args:
        caches: Of ``decoder.new_caches()``.
    """

    def __init__(self, caches: list):
        super().__init__()
        self.caches = caches

    def get_seq_length(self, layer_idx: int | None = 0) -> int:
        """Tokens in the caches."""
        return self.caches[0].length

    def get_max_cache_shape(self) -> int | None:
        """None: they grow."""
        return None

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Takes over the sequences that a beam search goes on with."""
        for cache in self.caches:
            cache.reorder(beam_idx)


class HelmForTransformers(PreTrainedModel, GenerationMixin):
    """A language model of this package in transformers: its ``generate``, beam search included.

    Args:
        config: Config with the model's own.
        model: The model; None: one of random weights is built.
    """

    config_class = HelmConfig
    base_model_prefix = 'model'
    _supports_cache_class = True

    def __init__(self, config: HelmConfig, model: nn.Module | None = None):
        super().__init__(config)
        self.model = MODELS.build(config.model) if model is None else model

    @classmethod
    def from_pretrained(cls, folder: str | Path, *_: object, **options: object):
        """Reads a folder of :func:`.save_pretrained`, or of the method of that name.

        Args:
            folder: The folder.
            **options: ``torch_dtype`` or ``dtype``, of torch or by name, ``'auto'`` being that of
                the weights; others are transformers' own, and without effect.

        Raises:
            ValueError: If there is no such dtype.
        """
        model = cls(HelmConfig(read_config(folder)), load_pretrained(folder))
        wanted = options.get('torch_dtype') or options.get('dtype')
        if wanted in (None, 'auto'):
            return model.eval()
        name = str(wanted).removeprefix('torch.')
        dtype = getattr(torch, name, None) if isinstance(wanted, str) else wanted
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"torch_dtype must be a dtype of torch or 'auto', got {wanted!r}")
        return model.to(dtype).eval()

    def save_pretrained(self, folder: str | Path, *_: object, **options: object) -> None:
        """Writes a folder; see :func:`.interchange.save_pretrained`, whose ``tokens`` it takes."""
        save_pretrained(folder, self.model, self.config.model, options.get('tokens'))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **_: object,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss if there are labels; see :class:`hyper_mm.HelmForCausalLM`.

        Args:
            input_ids: Token ids ``(B, N)``; with caches those behind the tokens in them.
            attention_mask: 1 for tokens and 0 for padding, of all tokens ``(B, M)``.
            past_key_values: :class:`LayerCaches`; an empty cache of another kind is replaced.
            labels: ``(B, N)``; -100 is ignored.
            use_cache: Return caches, without gradients.
        """
        if use_cache and not isinstance(past_key_values, LayerCaches):
            past_key_values = LayerCaches(self.model.decoder.new_caches())
        caches = past_key_values.caches if isinstance(past_key_values, LayerCaches) else None
        if attention_mask is not None and attention_mask.all():
            attention_mask = None
        features = self.model.decoder(input_ids, caches=caches, attention_mask=attention_mask)
        loss = None
        if labels is not None:
            loss = self.model.loss(input_ids, None, attention_mask, labels)['loss_lm']
        logits = self.model.logits(features)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)


AutoConfig.register(KIND, HelmConfig, exist_ok=True)
AutoModelForCausalLM.register(HelmConfig, HelmForTransformers, exist_ok=True)
