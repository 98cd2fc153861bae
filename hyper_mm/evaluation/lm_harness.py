"""Bridge to EleutherAI's lm-evaluation-harness, which need not be installed.

:class:`HarnessRequests` answers the harness's three kinds of requests by a language model of this
package; :func:`harness_model` makes the harness's model class of it.

    model = harness_model(model, tokenizer_of(data_root))
    lm_eval.simple_evaluate(model=model, tasks=['hellaswag'], num_fewshot=0)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F


class HarnessRequests:
    """Answers requests of lm-evaluation-harness, objects with a tuple ``args``.

    Args:
        model: A :class:`hyper_mm.HelmForCausalLM`, on the device to use.
        tokenizer: Of :mod:`hyper_mm.datasets.text_tokenizers`, with the model's vocabulary.
        batch_size: Sequences at a time.
        progress: Show how far it is.

    Raises:
        ValueError: If ``batch_size`` is not positive, or the tokenizer has more ids than the model.
    """

    def __init__(self, model: nn.Module, tokenizer, batch_size: int = 8, progress: bool = True):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}')
        if tokenizer.vocab_size > model.decoder.vocab_size:
            raise ValueError(
                f"tokenizer.vocab_size must be at most the model's {model.decoder.vocab_size}, "
                f'got {tokenizer.vocab_size}'
            )
        self.model, self.text_tokenizer = model.eval(), tokenizer
        self.batch_size, self.progress = batch_size, progress
        self.max_length = model.decoder.max_length

    @property
    def _begin(self) -> list[int]:
        """What stands before a text: the id that begins a document, or one that ended another."""
        tokenizer = self.text_tokenizer
        return [tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id]

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and what follows: white space between them is the continuation's."""
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        before = self.text_tokenizer.encode(stripped) if stripped else []
        whole = self.text_tokenizer.encode(stripped + continuation)
        if whole[: len(before)] == before:
            return self._begin + before, whole[len(before) :]
        return self._begin + before, self.text_tokenizer.encode(continuation)

    @torch.no_grad()
    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Scores continuations.

        Args:
            pairs: Ids of a context, not empty, and of what follows, not empty. Contexts that do not
                fit are cut at their beginning, as the harness does.

        Returns:
            Log-probability of each continuation, in nats, and whether greedy decoding gives it.

        Raises:
            ValueError: If a continuation alone does not fit, or is empty.
        """
        device = next(self.model.parameters()).device
        rows = []
        for context, target in pairs:
            if not 0 < len(target) < self.max_length:
                raise ValueError(
                    f'a continuation must have 1 to {self.max_length - 1} tokens, got {len(target)}'
                )
            rows.append(((context + target)[-self.max_length :], len(target)))
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
        found: list[tuple[float, bool]] = [(0.0, False)] * len(rows)
        starts = range(0, len(order), self.batch_size)
        for start in track(starts, 'scoring', disable=not self.progress):
            batch = order[start : start + self.batch_size]
            logits = self._logits([rows[i][0] for i in batch], device)
            for i, own in zip(batch, logits):
                ids, count = rows[i]
                ids = torch.tensor(ids[-count:], device=device)
                own = own[-count - 1 : -1].float()
                total = -F.cross_entropy(own, ids, reduction='sum').item()
                found[i] = total, bool((own.argmax(-1) == ids).all())
        return found

    def _logits(self, rows: list[list[int]], device: torch.device) -> list[Tensor]:
        """Logits of each row; rows are filled up behind, where causal attention does not look."""
        length = max(map(len, rows))
        ids = [row + [self.text_tokenizer.eos_id] * (length - len(row)) for row in rows]
        logits = self.model(torch.tensor(ids, device=device))
        return [own[: len(row)] for own, row in zip(logits, rows)]

    def loglikelihood(self, requests: Sequence, **kwargs: object) -> list[tuple[float, bool]]:
        """Requests of ``(context, continuation)``: see :meth:`score`."""
        return self.score([self._pair(*request.args) for request in requests])

    def loglikelihood_rolling(self, requests: Sequence, **kwargs: object) -> list[float]:
        """Requests of ``(text,)``: log-probability of all of its tokens.

        Longer texts are scored in windows; every token is scored once, and the first of a window
        from the token before it.
        """
        found = []
        for request in requests:
            ids = self._begin + self.text_tokenizer.encode(request.args[0])
            step = self.max_length - 1
            pairs = [
                (ids[start : start + 1], ids[start + 1 : start + 1 + step])
                for start in range(0, len(ids) - 1, step)
            ]
            found.append(sum(total for total, _ in self.score(pairs)))
        return found

    def generate_until(self, requests: Sequence, **kwargs: object) -> list[str]:
        """Requests of ``(context, options)``: text generated until one of ``options['until']``.

        ``max_gen_toks``, ``temperature``, ``do_sample``, ``top_k`` and ``top_p`` are heeded.
        """
        device = next(self.model.parameters()).device
        found = []
        for request in track(requests, 'generating', disable=not self.progress):
            context, options = request.args
            until = options.get('until') or []
            until = [until] if isinstance(until, str) else until
            count = min(options.get('max_gen_toks', 256), self.max_length - 1)
            ids = self._begin + self.text_tokenizer.encode(context)
            ids = torch.tensor([ids[-(self.max_length - count) :]], device=device)
            sampling = options.get('do_sample', bool(options.get('temperature')))
            new = self.model.generate(
                ids,
                count,
                temperature=(options.get('temperature') or 1.0) if sampling else 0.0,
                top_k=(options.get('top_k') or None) if sampling else None,
                top_p=options.get('top_p') if sampling else None,
                eos_id=self.text_tokenizer.eos_id,
            )[0, ids.shape[1] :]
            text = self.text_tokenizer.decode(new.tolist())
            ends = [text.index(end) for end in until if end and end in text]
            found.append(text[: min(ends)] if ends else text)
        return found


def harness_model(model: nn.Module, tokenizer, **options):
    """Makes a model of lm-evaluation-harness.

    Args:
        model: See :class:`HarnessRequests`, as the others.
        tokenizer: The same.
        **options: The same.

    Returns:
        An ``lm_eval.api.model.LM``.

    Raises:
        ImportError: If lm-evaluation-harness is not installed.
    """
    try:
        from lm_eval.api.model import LM
    except ImportError as error:
        raise ImportError('harness_model needs lm_eval: pip install lm_eval') from error

    class HyperMM(HarnessRequests, LM):
        """Requests of the harness, answered by a model of hyper_mm."""

    return HyperMM(model, tokenizer, **options)
