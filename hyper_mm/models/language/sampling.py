"""Choice of the next token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hyper_mm.checks import check_range


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError for arguments of :func:`sample` that are out of range."""
    check_range('[0, inf)', temperature=temperature)
    if top_k is not None and (top_k < 1 or top_k != int(top_k)):
        raise ValueError(f'top_k must be an integer of at least 1, got {top_k}')
    if top_p is not None:
        check_range('(0, 1]', top_p=top_p)


def sample(
    logits: Tensor,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Chooses a token from each row of logits.

    Args:
        logits: ``(B, V)``.
        temperature: Divides the logits; 0: the best token (greedy).
        top_k: Choose among the k best; of equal ones, any.
        top_p: Choose among the fewest best that have this probability together.
        generator: Source of random numbers.

    Returns:
        Ids ``(B,)``.

    Raises:
        ValueError: If an argument is out of range, or a row of logits holds NaN or infinity, or
            nothing but minus infinity. A single minus infinity excludes its token.
    """
    check_sampling(temperature, top_k, top_p)
    highest = logits.amax(-1, keepdim=True)  # NaN, if there is one
    if not highest.isfinite().all():
        rows = (~highest.isfinite()).flatten().nonzero().flatten().tolist()
        raise ValueError(
            'logits must be finite to choose a token from, got '
            f'{highest.flatten()[rows[0]].item()} as the highest of row {rows[0]} ({len(rows)} of '
            f'{len(logits)} rows): weights are not finite, or the model overflows in its dtype'
        )
    if temperature == 0:
        return logits.argmax(-1)
    # the best is 0: no temperature takes it to infinity
    logits = (logits.float() - highest.float()) / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        best, order = logits.topk(int(top_k))
        logits = torch.full_like(logits, -torch.inf).scatter_(-1, order, best)
    if top_p is not None:
        ranked, order = logits.sort(-1, descending=True)
        probs = ranked.softmax(-1)
        # a token is out if those before it suffice; the best never is
        ranked = ranked.masked_fill(probs.cumsum(-1) - probs >= top_p, -torch.inf)
        logits = torch.empty_like(logits).scatter_(-1, order, ranked)
    return logits.softmax(-1).multinomial(1, generator=generator).squeeze(-1)


def penalize(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    r"""Makes tokens that have occurred less likely (Keskar et al., CTRL, 2019).

    .. math:: l \mapsto l / p \;\text{if}\; l > 0 \;\text{else}\; p\, l

    Args:
        logits: ``(B, V)``.
        seen: Which tokens have occurred, bool ``(B, V)``.
        penalty: ``p``, 1 or more to avoid them.
    """
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, changed, logits)


def end_ids(eos_id: int | Sequence[int] | None, vocab_size: int) -> list[int]:
    """Checks the tokens that end a sequence.

    Args:
        eos_id: One, several or None.
        vocab_size: Size of the vocabulary.

    Returns:
        The tokens, empty for None.

    Raises:
        ValueError: If one is outside the vocabulary, or the sequence is empty.
    """
    if eos_id is None:
        return []
    found = [eos_id] if isinstance(eos_id, int) else list(eos_id)
    if not found:
        raise ValueError('eos_id must be a token, several or None, got an empty sequence')
    for one in found:
        check_range(f'[0, {vocab_size})', eos_id=one)
    return found
