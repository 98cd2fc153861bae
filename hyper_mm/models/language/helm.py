"""Causal language model around a decoder of points or vectors."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hyper_mm.registry import MODELS

from .sampling import check_sampling, sample

IGNORED = -100


def next_tokens(ids: Tensor, doc_ids: Tensor | None) -> Tensor:
    """Labels ``(B, N - 1)`` of tokens ``(B, N)``; ignored where another document begins."""
    labels = ids[:, 1:]
    if doc_ids is None:
        return labels
    return labels.masked_fill(doc_ids[:, 1:] != doc_ids[:, :-1], IGNORED)


def chunked_nll(features: Tensor, weight: Tensor, labels: Tensor, chunk: int) -> Tensor:
    """Negative log-likelihoods in float32, without all logits in memory at once.

    With gradients, the logits of a chunk are computed again in the backward pass.

    Args:
        features: ``(T, F)``.
        weight: Weight of the logits ``(V, F)``.
        labels: ``(T,)``; ``-100`` is ignored.
        chunk: Tokens at a time.

    Returns:
        ``(T,)`` in nats, 0 where ignored.
    """

    def nll(x: Tensor, y: Tensor) -> Tensor:
        logits = F.linear(x.to(weight.dtype), weight)
        with torch.autocast(x.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            return F.cross_entropy(logits, y, ignore_index=IGNORED, reduction='none')

    if len(features) <= chunk:
        return nll(features, labels)
    parts = zip(features.split(chunk), labels.split(chunk))
    return torch.cat([checkpoint(nll, x, y, use_reentrant=False) for x, y in parts])


class Head(nn.Linear):
    """Logits that are linear in features ``(..., F)``.

    Nothing but :meth:`forward` may touch the weight: it is whole there alone when it is sharded.
    """

    def __init__(self, dims: int, vocab_size: int):
        super().__init__(dims, vocab_size, bias=False)
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, features: Tensor, labels: Tensor | None = None, chunk: int | None = None
    ) -> Tensor:
        """Logits ``(..., V)``; with labels, what :func:`chunked_nll` makes of them."""
        if labels is not None:
            return chunked_nll(features, self.weight, labels, chunk)
        return super().forward(features.to(self.weight.dtype))


@MODELS.register_module()
class HelmForCausalLM(BaseModel):
    """Language model: a decoder, and logits that are linear in its features.

    The logits are Euclidean, as in the release. A batch is a dict of ``input_ids`` ``(B, N)`` and,
    for packed sequences, ``doc_ids`` of the same shape.

    Args:
        decoder: Config of :class:`hyper_mm.HelmDecoder` or :class:`hyper_mm.EuclideanDecoder`.
        loss_chunk: Tokens whose logits are in memory at once.
        data_preprocessor: See ``mmengine.model.BaseModel``.
        init_cfg: See ``mmengine.model.BaseModel``.

    Raises:
        ValueError: If ``loss_chunk`` is not positive.
    """

    def __init__(
        self,
        decoder: dict,
        loss_chunk: int = 1024,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        if loss_chunk < 1:
            raise ValueError(f'loss_chunk must be at least 1, got {loss_chunk}')
        self.loss_chunk = loss_chunk
        self.decoder = MODELS.build(decoder)
        self.head = Head(self.decoder.out_dims, self.decoder.vocab_size)

    def forward(
        self,
        input_ids: Tensor,
        doc_ids: Tensor | None = None,
        mode: str = 'tensor',
        **extras: object,
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Runs the model.

        Args:
            input_ids: Token ids ``(B, N)``.
            doc_ids: Document of each token ``(B, N)``.
            mode: ``'tensor'``: logits ``(B, N, V)``; ``'loss'`` or ``'predict'``: those methods.
            **extras: Other entries of the batch, for :meth:`predict`.

        Raises:
            ValueError: If the mode is unknown.
        """
        if mode == 'tensor':
            return self.logits(self.decoder(input_ids, doc_ids))
        if mode == 'loss':
            return self.loss(input_ids, doc_ids)
        if mode == 'predict':
            return self.predict(input_ids, doc_ids, **extras)
        raise ValueError(f"mode must be 'tensor', 'loss' or 'predict', got {mode!r}")

    def logits(self, features: Tensor) -> Tensor:
        """Logits ``(..., V)`` of features."""
        return self.head(features)

    def _nll(self, input_ids: Tensor, doc_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods of the next tokens and the labels, ``(B, N - 1)``."""
        if input_ids.ndim != 2 or input_ids.shape[1] < 2:
            raise ValueError(
                f'input_ids must be (B, N) with N of 2 or more, got {tuple(input_ids.shape)}'
            )
        features = self.decoder(input_ids, doc_ids)[:, :-1].flatten(0, 1)
        labels = next_tokens(input_ids, doc_ids)
        nll = self.head(features, labels.flatten(), self.loss_chunk)
        return nll.view_as(labels), labels

    def loss(self, input_ids: Tensor, doc_ids: Tensor | None = None) -> dict[str, Tensor]:
        """Losses: ``loss_lm``, the mean cross-entropy in nats, and those of the decoder's experts.

        ``decoder/*`` are the curvatures learnt, for the log.
        """
        nll, labels = self._nll(input_ids, doc_ids)
        losses = {'loss_lm': nll.sum() / (labels != IGNORED).sum().clamp_min(1)}
        losses.update(self.decoder.aux_losses())
        losses.update({f'decoder/{k}': v for k, v in self.decoder.diagnostics().items()})
        return losses

    @torch.no_grad()
    def predict(
        self, input_ids: Tensor, doc_ids: Tensor | None = None, **extras: object
    ) -> list[BaseDataElement]:
        """Log-probabilities of given sequences.

        Args:
            input_ids: Token ids ``(B, N)``.
            doc_ids: Document of each token ``(B, N)``.
            **extras: Lists or tensors of B entries, handed on in the results.

        Returns:
            An element a sequence, with ``log_probs`` ``(N - 1,)`` of its tokens but the first, in
            nats, and ``valid``, False for the first token of a document, whose value is 0.
        """
        nll, labels = self._nll(input_ids, doc_ids)
        return [
            BaseDataElement(
                log_probs=-nll[i],
                valid=labels[i] != IGNORED,
                **{name: values[i] for name, values in extras.items()},
            )
            for i in range(len(nll))
        ]

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_id: int | None = None,
        use_cache: bool = True,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continues sequences.

        Args:
            input_ids: Prompts of equal length ``(B, N)``.
            max_new_tokens: Tokens to add.
            temperature: 0: greedy; see :func:`hyper_mm.models.language.sampling.sample`.
            top_k: Sample among the k best tokens.
            top_p: Sample among the best tokens of this probability together.
            eos_id: Token that ends a sequence; it is repeated after the end, and generation stops
                once all have ended.
            use_cache: Keep keys and values (or latents), or compute all tokens each time.
            generator: Source of random numbers.

        Returns:
            Prompts and continuations ``(B, N + max_new_tokens)``, or shorter if all have ended.

        Raises:
            ValueError: If an argument is out of range, or the result would exceed the longest
                sequence of the decoder.
        """
        check_sampling(temperature, top_k, top_p)
        if input_ids.ndim != 2 or not input_ids.shape[1]:
            raise ValueError(f'input_ids must be (B, N), not empty, got {tuple(input_ids.shape)}')
        length = input_ids.shape[1] + max_new_tokens
        if max_new_tokens < 1 or length > self.decoder.max_length:
            raise ValueError(
                'max_new_tokens must be positive and lead to no more than max_length = '
                f'{self.decoder.max_length} tokens, got {max_new_tokens} after '
                f'{input_ids.shape[1]}'
            )
        if eos_id is not None and not 0 <= eos_id < self.decoder.vocab_size:
            raise ValueError(f'eos_id must be 0 to {self.decoder.vocab_size - 1}, got {eos_id}')
        training = self.training
        self.eval()
        try:
            caches = self.decoder.new_caches() if use_cache else None
            new, prompt = input_ids, input_ids.shape[1]
            ids = new.new_empty(len(new), length)
            ids[:, :prompt] = new
            ended = torch.zeros_like(new[:, 0], dtype=torch.bool)
            for seen in range(prompt, length):
                features = self.decoder(new if use_cache else ids[:, :seen], caches=caches)[:, -1]
                new = sample(self.logits(features), temperature, top_k, top_p, generator)
                if eos_id is not None:
                    new = new.masked_fill(ended, eos_id)
                    ended = ended | (new == eos_id)
                new = new.unsqueeze(1)
                ids[:, seen : seen + 1] = new
                if eos_id is not None and ended.all():
                    break
            return ids[:, : seen + 1]
        finally:
            self.train(training)
