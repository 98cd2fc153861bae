"""Questions with several answers, one item an answer, for language models."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hyper_mm.datasets.files import is_integer, parse_json, read_text
from hyper_mm.datasets.text_tokenizers import build_tokenizer, tokenizer_of
from hyper_mm.registry import DATASETS


@DATASETS.register_module()
class MultipleChoiceDataset(Dataset):
    """Questions of a jsonl file: ``{"context": "...", "options": ["...", "..."], "answer": 0}``.

    An item is one option behind its context: ``input_ids`` and ``doc_ids``, as of
    :class:`hyper_mm.PackedTokenDataset` and filled up to the longest, and what
    :class:`hyper_mm.MultipleChoiceAccuracy` reads: ``context`` (its number of tokens, with the one
    that begins a document), ``question``, ``option``, ``num_options``, ``answer`` and ``letters``.

    Args:
        ann_file: The file, below ``data_root`` if that is given.
        data_root: Folder.
        tokens: Folder of token ids, whose tokenizer is used, or ``'open_clip'``.
        max_length: Longest sequence of the model.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: For a line of another format, an empty option, an answer that is no option, or a
            text longer than ``max_length``; the message names file and line.
    """

    def __init__(
        self,
        ann_file: str,
        data_root: str | None = None,
        tokens: str = 'open_clip',
        max_length: int = 2048,
    ):
        path = Path(data_root or '') / ann_file
        if not path.is_file():
            raise FileNotFoundError(f'ann_file {path} does not exist')
        tokenizer = build_tokenizer() if tokens == 'open_clip' else tokenizer_of(tokens)
        begin = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        self.eos_id = tokenizer.eos_id
        self.items: list[dict] = []
        lines = enumerate(read_text(path).split('\n'), 1)
        for number, (place, line) in enumerate((n, line) for n, line in lines if line.strip()):
            where = f'{path}, line {place}'
            context, options, answer = _question(parse_json(line, where), where)
            before = [begin, *tokenizer.encode(context)]
            for index, option in enumerate(options):
                after = tokenizer.encode(option)
                if not after or not option.strip() or len(before) + len(after) > max_length:
                    raise ValueError(
                        f'{where}, option {index}: must have tokens and letters, at most '
                        f'max_length = {max_length} tokens with the context, got {len(after)} '
                        f'behind {len(before)} for {option!r}'
                    )
                self.items.append(
                    dict(
                        ids=before + after,
                        context=len(before),
                        question=number,
                        option=index,
                        num_options=len(options),
                        answer=answer,
                        letters=len(option.strip()),
                    )
                )
        if not self.items:
            raise ValueError(f'{path} has no questions')
        self.length = max(len(item['ids']) for item in self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        item = dict(self.items[index])
        ids = item.pop('ids')
        missing = self.length - len(ids)
        doc_ids = [0] * len(ids) + list(range(-1, -1 - missing, -1))
        ids = ids + [self.eos_id] * missing
        return dict(input_ids=torch.tensor(ids), doc_ids=torch.tensor(doc_ids), **item)


def _question(content: dict, where: str) -> tuple[str, list[str], int]:
    """Context, options and answer of a line."""
    context, options, answer = (content.get(k) for k in ('context', 'options', 'answer'))
    if not isinstance(context, str):
        raise ValueError(f'{where} must have a text as context, got {context!r}')
    texts = isinstance(options, list) and all(isinstance(text, str) for text in options)
    if not texts or len(options) < 2 or not is_integer(answer, 0, len(options)):
        raise ValueError(
            f'{where}: answer must be the number of one of two options or more, texts, got '
            f'{answer!r} of {str(options)[:120]}'
        )
    return context, options, answer
