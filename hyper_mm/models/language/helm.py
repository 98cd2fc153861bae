"""Causal language model around a decoder of points or vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hyper_mm.checks import check_at_least, check_choice, check_range
from hyper_mm.layers.common.aux_losses import collect_losses
from hyper_mm.layers.lorentz.embedding import check_ids
from hyper_mm.models.utils.own_init import OwnInit
from hyper_mm.registry import MODELS

from .decoders import check_mask
from .sampling import check_sampling, end_ids, penalize, sample

IGNORED = -100


def next_tokens(
    ids: Tensor,
    doc_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
) -> Tensor:
    """Which token each token but the last is to predict.

    Args:
        ids: Token ids ``(B, N)``.
        doc_ids: Document of each token ``(B, N)``; the first token of a document is ignored.
        attention_mask: 1 for tokens and 0 for padding ``(B, N)``; padding is ignored, and so is a
            token behind padding.
        labels: Labels at the place of their token ``(B, N)``; -100 is ignored. None: ``ids``.

    Returns:
        Labels ``(B, N - 1)``, -100 where ignored.
    """
    found = (ids if labels is None else labels)[:, 1:]
    if doc_ids is not None:
        found = found.masked_fill(doc_ids[:, 1:] != doc_ids[:, :-1], IGNORED)
    if attention_mask is not None:
        seen = attention_mask != 0
        found = found.masked_fill(~(seen[:, 1:] & seen[:, :-1]), IGNORED)
    return found


def check_labels(labels: Tensor, ids: Tensor, vocab_size: int) -> None:
    """Raises ValueError for labels of another shape than ``ids`` or, on the CPU, out of range."""
    if labels.shape != ids.shape:
        raise ValueError(
            f'labels must be of the shape of input_ids, {tuple(ids.shape)}, '
            f'got {tuple(labels.shape)}'
        )
    check_ids(labels.masked_fill(labels == IGNORED, 0), vocab_size, 'labels')


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
class HelmForCausalLM(OwnInit, BaseModel):
    """Language model: a decoder, and logits that are linear in its features.

    The logits are Euclidean, as in the official code. A batch is a dict of ``input_ids`` ``(B, N)``
    and, of the same shape, ``doc_ids`` for packed sequences, ``attention_mask`` for padded ones and
    ``labels`` where not every token is to be predicted.

    Args:
        decoder: Config of :class:`hyper_mm.HelmDecoder` or :class:`hyper_mm.EuclideanDecoder`.
        loss_chunk: Tokens whose logits are in memory at once.
        data_preprocessor: See ``mmengine.model.BaseModel``.
        init_cfg: Initialization config of mmengine.

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
        check_at_least(1, loss_chunk=loss_chunk)
        self.loss_chunk = loss_chunk
        self.decoder = MODELS.build(decoder)
        self.head = Head(self.decoder.out_dims, self.decoder.vocab_size)

    def forward(
        self,
        input_ids: Tensor,
        doc_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        mode: str = 'tensor',
        **extras: object,
    ) -> Tensor | dict[str, Tensor] | list[BaseDataElement]:
        """Runs the model.

        Args:
            input_ids: Token ids ``(B, N)``.
            doc_ids: Document of each token ``(B, N)``.
            attention_mask: 1 for tokens and 0 for padding on either side ``(B, N)``.
            labels: For the losses, labels at the place of their token ``(B, N)``; -100 is ignored.
                None: ``input_ids``.
            mode: ``'tensor'``: logits ``(B, N, V)``; ``'loss'`` or ``'predict'``: those methods.
            **extras: Other entries of the batch, for :meth:`predict` alone.

        Raises:
            ValueError: If the mode is unknown, or an argument has a wrong shape.
            TypeError: For entries that the mode does not use.
        """
        if mode == 'predict':
            return self.predict(input_ids, doc_ids, attention_mask, labels, **extras)
        check_choice(('tensor', 'loss', 'predict'), mode=mode)
        if extras:
            raise TypeError(
                f'mode={mode!r} takes input_ids, doc_ids, attention_mask and labels, '
                f'got {sorted(extras)}'
            )
        if mode == 'loss':
            return self.loss(input_ids, doc_ids, attention_mask, labels)
        if labels is not None:
            raise TypeError("labels must be left out for mode='tensor', which computes no loss")
        return self.logits(self.decoder(input_ids, doc_ids, attention_mask=attention_mask))

    def logits(self, features: Tensor) -> Tensor:
        """Logits ``(..., V)`` of features."""
        return self.head(features)

    def _nll(
        self,
        input_ids: Tensor,
        doc_ids: Tensor | None,
        attention_mask: Tensor | None,
        labels: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Negative log-likelihoods of the next tokens and the labels, ``(B, N - 1)``."""
        if input_ids.ndim != 2 or input_ids.shape[1] < 2:
            raise ValueError(
                f'input_ids must be (B, N) with N of 2 or more, got {tuple(input_ids.shape)}'
            )
        if labels is not None:
            check_labels(labels, input_ids, self.decoder.vocab_size)
        features = self.decoder(input_ids, doc_ids, attention_mask=attention_mask)
        labels = next_tokens(input_ids, doc_ids, attention_mask, labels)
        features = features[:, :-1].flatten(0, 1)
        nll = self.head(features, labels.flatten(), self.loss_chunk)
        return nll.view_as(labels), labels

    def loss(
        self,
        input_ids: Tensor,
        doc_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Losses: ``loss_lm``, the mean cross-entropy in nats, and those of the decoder's experts.

        ``decoder/*`` are the learned curvatures, for the log.

        Args:
            input_ids: See :meth:`forward`, as the others.
            doc_ids: The same.
            attention_mask: The same.
            labels: The same.
        """
        with collect_losses(self) as scope:
            nll, labels = self._nll(input_ids, doc_ids, attention_mask, labels)
        losses = {'loss_lm': nll.sum() / (labels != IGNORED).sum().clamp_min(1)}
        losses.update(scope.total(taken=losses))
        losses.update({f'decoder/{k}': v for k, v in self.decoder.diagnostics().items()})
        return losses

    @torch.no_grad()
    def predict(
        self,
        input_ids: Tensor,
        doc_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        **extras: object,
    ) -> list[BaseDataElement]:
        """Log-probabilities of given sequences.

        Args:
            input_ids: See :meth:`forward`, as the next three.
            doc_ids: The same.
            attention_mask: The same.
            labels: The same.
            **extras: Lists or tensors of B entries, handed on in the results.

        Returns:
            An element a sequence, with ``log_probs`` ``(N - 1,)`` of its labels but the first, in
            nats, and ``valid``, False where there is no label: at padding, at -100 and at the first
            token of a document. The value is 0 there.
        """
        nll, labels = self._nll(input_ids, doc_ids, attention_mask, labels)
        return [
            BaseDataElement(
                log_probs=-nll[i],
                valid=labels[i] != IGNORED,
                **{name: values[i] for name, values in extras.items()},
            )
            for i in range(len(nll))
        ]

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_id: int | Sequence[int] | None = None,
        use_cache: bool = True,
        generator: torch.Generator | None = None,
        attention_mask: Tensor | None = None,
        stop: Callable[[Tensor], Tensor] | None = None,
        repetition_penalty: float = 1.0,
    ) -> Tensor:
        """Continues sequences.

        Args:
            input_ids: Prompts ``(B, N)``; shorter ones are filled up on the left.
            max_new_tokens: Tokens to add.
            temperature: 0: greedy; see :func:`hyper_mm.models.language.sampling.sample`.
            top_k: Sample among the k best tokens.
            top_p: Sample among the best tokens of this probability together.
            eos_id: Token, or any of several, that ends a sequence; the first of them is repeated
                after the end, and generation stops once all have ended.
            use_cache: Keep keys and values (or latents), or compute all tokens each time.
            generator: Source of random numbers.
            attention_mask: 0 for the padding of the prompts, on the left, and 1 for their tokens
                ``(B, N)``; None: there is no padding.
            stop: Function of the new tokens so far ``(B, n)`` that returns which sequences have
                ended, bool ``(B,)``, such as :class:`.StopStrings`; the last token belongs to them.
                It is asked after each token. What follows an end is ``eos_id``, which several
                sequences therefore need.
            repetition_penalty: See :func:`hyper_mm.models.language.sampling.penalize`; the tokens
                of the prompt have occurred, too.

        Returns:
            Prompts and continuations ``(B, N + max_new_tokens)``, or shorter if all have ended.

        Raises:
            ValueError: If an argument is out of range, the padding is not on the left, the result
                would exceed the longest sequence of the decoder, or logits are not finite.
        """
        new = self.stream(
            input_ids,
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            eos_id,
            use_cache,
            generator,
            attention_mask,
            stop,
            repetition_penalty,
        )
        return torch.cat([input_ids, torch.stack(list(new), 1)], 1)

    def stream(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_id: int | Sequence[int] | None = None,
        use_cache: bool = True,
        generator: torch.Generator | None = None,
        attention_mask: Tensor | None = None,
        stop: Callable[[Tensor], Tensor] | None = None,
        repetition_penalty: float = 1.0,
    ) -> Iterator[Tensor]:
        """Continues sequences, a token of each at a time.

        The model is in evaluation mode until the iterator is exhausted or closed.

        Args:
            input_ids: See :meth:`generate`, as all others.
            max_new_tokens: The same.
            temperature: The same.
            top_k: The same.
            top_p: The same.
            eos_id: The same.
            use_cache: The same.
            generator: The same.
            attention_mask: The same.
            stop: The same.
            repetition_penalty: The same.

        Yields:
            The next token of each sequence ``(B,)``.

        Raises:
            ValueError: See :meth:`generate`; at the call, but for logits that are not finite.

        Example:
            >>> for token in model.stream(prompt, 64):
            ...     print(tokenizer.decode(token.tolist()), end=' ', flush=True)
        """
        check_sampling(temperature, top_k, top_p)
        check_range('(0, inf)', repetition_penalty=repetition_penalty)
        if input_ids.ndim != 2 or not input_ids.shape[1]:
            raise ValueError(f'input_ids must be (B, N), not empty, got {tuple(input_ids.shape)}')
        length = input_ids.shape[1] + max_new_tokens
        if max_new_tokens < 1 or length > self.decoder.max_length:
            raise ValueError(
                'max_new_tokens must be positive and lead to no more than max_length = '
                f'{self.decoder.max_length} tokens, got {max_new_tokens} after '
                f'{input_ids.shape[1]}'
            )
        ends = end_ids(eos_id, self.decoder.vocab_size)
        if stop is not None and not ends and len(input_ids) > 1:
            raise ValueError(
                'eos_id must be given with stop for several sequences: it follows their ends'
            )
        mask = None if attention_mask is None else check_left_padding(attention_mask, input_ids)

        def choose(logits: Tensor) -> Tensor:
            return sample(logits, temperature, top_k, top_p, generator)

        return self._steps(
            input_ids, length, choose, ends, use_cache, mask, stop, repetition_penalty
        )

    @torch.no_grad()
    def _steps(
        self,
        prompt: Tensor,
        length: int,
        choose: Callable[[Tensor], Tensor],
        ends: list[int],
        use_cache: bool,
        mask: Tensor | None,
        stop: Callable[[Tensor], Tensor] | None,
        penalty: float,
    ) -> Iterator[Tensor]:
        """Tokens of :meth:`stream`, whose arguments have been checked."""
        training = self.training
        self.eval()
        try:
            caches = self.decoder.new_caches(length) if use_cache else None
            first = prompt.shape[1]
            ids = prompt.new_empty(len(prompt), length)
            ids[:, :first] = prompt
            used = None
            if penalty != 1:
                used = prompt.new_zeros(len(prompt), self.decoder.vocab_size)
                occurred = torch.ones_like(prompt) if mask is None else mask.to(prompt.dtype)
                used.scatter_reduce_(1, prompt, occurred, 'amax')  # not the padding
                used = used.bool()
            if mask is not None:
                mask = F.pad(mask, (0, length - first), value=True)
            ended = torch.zeros_like(prompt[:, 0], dtype=torch.bool)
            last = prompt.new_tensor(ends)
            new = prompt
            for seen in range(first, length):
                features = self.decoder(
                    new if use_cache else ids[:, :seen],
                    caches=caches,
                    attention_mask=None if mask is None else mask[:, :seen],
                )[:, -1]
                logits = self.logits(features)
                found = choose(logits if used is None else penalize(logits, used, penalty))
                if ends:
                    found = found.masked_fill(ended, ends[0])
                    ended = ended | torch.isin(found, last)
                ids[:, seen] = found
                new = found.unsqueeze(1)
                if used is not None:
                    used.scatter_(1, new, True)
                if stop is not None:
                    asked = torch.as_tensor(stop(ids[:, first : seen + 1]), device=ended.device)
                    if asked.shape != ended.shape:
                        raise ValueError(
                            f'stop must return {tuple(ended.shape)} booleans, one a sequence, got '
                            f'{tuple(asked.shape)}'
                        )
                    ended = ended | asked.bool()
                yield found
                if (ends or stop is not None) and ended.all():
                    break
        finally:
            self.train(training)


def check_left_padding(mask: Tensor, ids: Tensor) -> Tensor | None:
    """Checks the mask of prompts that are to be continued.

    Args:
        mask: 1 for tokens and 0 for padding ``(B, N)``.
        ids: The prompts ``(B, N)``.

    Returns:
        The mask as bool, or None if there is no padding.

    Raises:
        ValueError: If the shapes differ, or a prompt is not padding and then at least one token.
    """
    if mask.shape != ids.shape:
        raise ValueError(
            f'attention_mask must be of the shape of input_ids, {tuple(ids.shape)}, '
            f'got {tuple(mask.shape)}'
        )
    mask = check_mask(mask)
    if mask.all():
        return None
    if (mask[:, :-1] & ~mask[:, 1:]).any() or not mask[:, -1].all():
        raise ValueError(
            'attention_mask must be 0 (padding) on the left and 1 (tokens) on the right of each '
            'prompt that is to be continued'
        )
    return mask
