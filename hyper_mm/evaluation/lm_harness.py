"""Bridge to EleutherAI's lm-evaluation-harness, which need not be installed.

:class:`HarnessRequests` answers the harness's three kinds of requests by a language model of this
package; :func:`harness_model` makes the harness's model class of it.

    model = harness_model(model, tokenizer_of(data_root))
    lm_eval.simple_evaluate(model=model, tasks=['hellaswag'], num_fewshot=0)
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from hyper_mm.checks import check_at_least
from hyper_mm.datasets.text_tokenizers import CompactTokenizer, StopStrings

_UNKNOWN = -1
"""Id of a part of a text that the vocabulary lacks."""


class HarnessRequests:
    """Answers requests of lm-evaluation-harness, objects with a tuple ``args``.

    Texts may hold parts that a reduced vocabulary lacks (:class:`.CompactTokenizer`). They are left
    out of contexts. As a label each counts as one of equally probable tokens, ``-log(vocab_size)``,
    and greedy decoding does not give it. A warning tells how many texts hold any, and how many
    were cut because they do not fit.

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
        check_at_least(1, batch_size=batch_size)
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

    def _encode(self, text: str) -> list[int]:
        """Ids of a text, -1 for what the vocabulary lacks."""
        if isinstance(self.text_tokenizer, CompactTokenizer):
            return self.text_tokenizer.encode(text, unknown=_UNKNOWN)
        return self.text_tokenizer.encode(text)

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and what follows: white space between them is the continuation's."""
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        before = self._encode(stripped) if stripped else []
        whole = self._encode(stripped + continuation)
        if whole[: len(before)] == before:
            return self._begin + before, whole[len(before) :]
        return self._begin + before, self._encode(continuation)

    def _track(self, batches: Sequence, what: str) -> Iterable:
        """Batches, with a progress bar."""
        with Progress(disable=not self.progress) as bar:
            yield from bar.track(batches, description=what)

    @torch.no_grad()
    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Scores continuations.

        Args:
            pairs: Ids of a context, not empty, and of what follows, not empty; -1 is a part that
                the vocabulary lacks. Contexts that do not fit are cut at their beginning, as the
                harness does.

        Returns:
            Log-probability of each continuation, in nats, and whether greedy decoding returns it.

        Raises:
            ValueError: If a continuation alone does not fit, or is empty.
        """
        device = next(self.model.parameters()).device
        rows, cut, unknown = [], 0, 0
        for context, target in pairs:
            if not 0 < len(target) < self.max_length:
                raise ValueError(
                    f'a continuation must have 1 to {self.max_length - 1} tokens, got {len(target)}'
                )
            unknown += _UNKNOWN in context or _UNKNOWN in target
            whole = [i for i in context if i != _UNKNOWN] + target
            cut += len(whole) > self.max_length
            rows.append((whole[-self.max_length :], len(target)))
        _warn(unknown, len(rows), 'hold parts that the vocabulary lacks')
        _warn(cut, len(rows), f'exceed max_length = {self.max_length} and lose their beginning')
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]))
        found: list[tuple[float, bool]] = [(0.0, False)] * len(rows)
        for batch in self._track(list(self._batches(order)), 'scoring'):
            logits = self._logits([rows[i][0] for i in batch], device)
            for i, own in zip(batch, logits):
                ids, count = rows[i]
                ids = torch.tensor(ids[-count:], device=device)
                known = ids != _UNKNOWN
                ids = ids.where(known, 0)
                nll = F.cross_entropy(own[-count - 1 : -1].float(), ids, reduction='none')
                nll = nll.where(known, torch.tensor(float(own.shape[-1]), device=device).log())
                greedy = (own[-count - 1 : -1].argmax(-1) == ids) & known
                found[i] = -nll.sum().item(), bool(greedy.all())
        return found

    def _batches(self, order: Sequence[int]) -> Iterable[Sequence[int]]:
        starts = range(0, len(order), self.batch_size)
        return (order[start : start + self.batch_size] for start in starts)

    def _logits(self, rows: list[list[int]], device: torch.device) -> list[Tensor]:
        """Logits of each row; rows are filled up behind, where causal attention does not look."""
        length, end = max(map(len, rows)), self.text_tokenizer.eos_id
        rows = [[end if i == _UNKNOWN else i for i in row] for row in rows]
        ids = [row + [end] * (length - len(row)) for row in rows]
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
        step, pairs, owners = self.max_length - 1, [], []
        for number, request in enumerate(requests):
            ids = self._encode(request.args[0])
            known = self._begin
            for start in range(0, len(ids), step):
                window = ids[start : start + step]
                pairs.append((known, window))
                owners.append(number)
                known = [i for i in window if i != _UNKNOWN][-1:] or known
        found = [0.0] * len(requests)
        for owner, (total, _) in zip(owners, self.score(pairs)):
            found[owner] += total
        return found

    def generate_until(self, requests: Sequence, **kwargs: object) -> list[str]:
        """Requests of ``(context, options)``: text generated until one of ``options['until']``.

        ``max_gen_toks`` (256), ``temperature``, ``do_sample``, ``top_k`` and ``top_p`` are heeded.
        Requests of equal options share batches. A prompt is kept as a whole where it fits into the
        model; of a longer one the last half at least is kept. Where prompt and text together exceed
        the model, generation goes on from the last half of what there is so far.
        """
        found = [''] * len(requests)
        prompts, groups, cut, unknown = [], {}, 0, 0
        for number, request in enumerate(requests):
            context, options = request.args
            ids = self._encode(context)
            unknown += _UNKNOWN in ids
            ids = self._begin + [i for i in ids if i != _UNKNOWN]
            count = options.get('max_gen_toks', 256)
            check_at_least(1, max_gen_toks=count)
            if len(ids) >= self.max_length:
                cut += 1
                ids = ids[-(self.max_length - min(count, self.max_length // 2)) :]
            prompts.append(ids)
            until = options.get('until') or ()
            until = (until,) if isinstance(until, str) else tuple(end for end in until if end)
            sampling = options.get('do_sample', bool(options.get('temperature')))
            key = (count, until, (options.get('temperature') or 1.0) if sampling else 0.0)
            key += tuple((options.get(k) or None) if sampling else None for k in ('top_k', 'top_p'))
            groups.setdefault(key, []).append(number)
        _warn(unknown, len(prompts), 'hold parts that the vocabulary lacks')
        _warn(cut, len(prompts), f'exceed max_length = {self.max_length} and lose their beginning')
        batches = []
        for key, members in groups.items():
            members = sorted(members, key=lambda i: -len(prompts[i]))
            batches += [(key, batch) for batch in self._batches(members)]
        for (count, until, *sampling), batch in self._track(batches, 'generating'):
            rows = [prompts[i] for i in batch]
            for i, text in zip(batch, self._generate(rows, count, until, *sampling)):
                found[i] = text
        return found

    def _generate(self, prompts, count, until, temperature, top_k, top_p) -> list[str]:
        """Texts that follow prompts of at most ``max_length - 1`` ids."""
        device, end = next(self.model.parameters()).device, self.text_tokenizer.eos_id
        decode = self.text_tokenizer.decode
        new: list[list[int]] = [[] for _ in prompts]
        going = list(range(len(prompts)))
        stop = StopStrings(until, decode)
        while going:
            rows = [prompts[i] + new[i] for i in going]
            if max(map(len, rows)) >= self.max_length:
                rows = [row[-max(self.max_length // 2, 1) :] for row in rows]
            length = max(map(len, rows))
            pads = torch.tensor([length - len(row) for row in rows], device=device)
            stop = StopStrings(until, decode, [list(new[i]) for i in going])
            ids = self.model.generate(
                torch.tensor([[end] * (length - len(row)) + row for row in rows], device=device),
                min(self.max_length - length, count - len(new[going[0]])),
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                eos_id=end,
                attention_mask=torch.arange(length, device=device) >= pads[:, None],
                stop=stop if until else None,
            )[:, length:]
            for i, own in zip(going, ids.tolist()):
                new[i] += own
            going = [
                i
                for i in going
                if len(new[i]) < count and end not in new[i] and not stop.found(decode(new[i]))
            ]
        return [stop.cut(decode(_until_id(own, end))) for own in new]


def _until_id(ids: list[int], end: int) -> list[int]:
    return ids[: ids.index(end)] if end in ids else ids


def _warn(count: int, total: int, what: str) -> None:
    if count:
        warnings.warn(f'{count} of {total} texts {what}', stacklevel=3)


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
