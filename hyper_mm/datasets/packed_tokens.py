"""Sequences of one length out of a long file of token ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hyper_mm.checks import check_at_least, check_choice
from hyper_mm.datasets.text_tokenizers import read_meta
from hyper_mm.registry import DATASETS


@DATASETS.register_module()
class PackedTokenDataset(Dataset):
    """Documents end to end, cut into sequences of one length; read from disk as they are needed.

    The folder is written by ``tools/dataset_converters/tokenize_text.py``: ``<split>.bin`` with the
    ids (16 or 32 bits, little-endian), each document ended by ``eos_id``, and ``meta.json``.

    Sequence ``i`` begins at token ``i (length - 1)``: its first token is the last one before, so
    that every token but the very first is predicted exactly once. The last sequence is filled up
    with ``eos_id``, in documents of their own, which nothing sees and nobody predicts.

    An item is a dict of ``input_ids`` and ``doc_ids``, both ``(length,)`` of int64, for
    :class:`hyper_mm.HelmForCausalLM`: a token attends to its own document alone and the first token
    of a document is no label. Positions need not start anew with a document, as rotary attention
    depends on differences of positions alone.

    Args:
        data_root: The folder.
        split: ``'train'`` or ``'val'``, or any other ``.bin`` file that ``meta.json`` knows.
        length: Tokens of a sequence.
        document_masks: Without, tokens see all tokens before them in the sequence, and the first
            token of a document is predicted too.
        vocab_size: Size of the model's vocabulary, to be checked against that of the ids.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an argument is out of range, the file has another size than ``meta.json``
            says, or ids do not fit into the vocabulary (in use, for those of an item).
    """

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        length: int = 1024,
        document_masks: bool = True,
        vocab_size: int | None = None,
    ):
        check_at_least(2, length=length)
        meta = read_meta(data_root)
        self.file = Path(data_root) / f'{split}.bin'
        check_choice(sorted(meta['splits']), split=split)
        if not self.file.is_file():
            raise FileNotFoundError(f'{self.file} does not exist')
        self.num_tokens = meta['splits'][split]['tokens']
        self.dtype = np.dtype(meta['dtype']).newbyteorder('<')
        expected = self.num_tokens * self.dtype.itemsize
        if self.file.stat().st_size != expected:
            raise ValueError(
                f'{self.file} must have {expected} bytes, as {self.num_tokens} tokens in meta.json '
                f'say, got {self.file.stat().st_size}'
            )
        if self.num_tokens < 2:
            raise ValueError(f'{self.file} must have at least 2 tokens, got {self.num_tokens}')
        if vocab_size is not None and meta['vocab_size'] > vocab_size:
            raise ValueError(
                f'vocab_size must be at least {meta["vocab_size"]}, as in {data_root}, '
                f'got {vocab_size}'
            )
        self.length, self.document_masks, self.eos_id = length, document_masks, meta['eos_id']
        self.vocab_size = meta['vocab_size']
        self.metainfo = dict(vocab_size=meta['vocab_size'], eos_id=meta['eos_id'])

    def __len__(self) -> int:
        return -(-(self.num_tokens - 1) // (self.length - 1))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f'index must be 0 to {len(self) - 1}, got {index}')
        start = index * (self.length - 1)
        # a map of its own for each item: nothing is held that a worker process would have to copy
        ids = np.memmap(self.file, self.dtype, 'r', shape=(self.num_tokens,))
        ids = torch.from_numpy(ids[start : start + self.length].astype(np.int64))
        if ids.max() >= self.vocab_size:
            at = int((ids >= self.vocab_size).nonzero()[0])
            raise ValueError(
                f'{self.file}, token {start + at} must be below vocab_size={self.vocab_size} of '
                f'meta.json, got {ids[at]}'
            )
        doc_ids = torch.zeros_like(ids)
        if self.document_masks:
            doc_ids[1:] = (ids[:-1] == self.eos_id).cumsum(0)
        missing = self.length - len(ids)
        if missing:
            ids = torch.cat([ids, ids.new_full((missing,), self.eos_id)])
            doc_ids = torch.cat([doc_ids, -1 - torch.arange(missing)])
        return dict(input_ids=ids, doc_ids=doc_ids)
