"""Folders of token ids."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip('mmengine')

from hyper_mm.registry import DATASETS  # noqa: E402

EOS = 9


def write(folder, ids, dtype='uint16', **changes):
    """A folder of one split, as the converter writes it."""
    folder.mkdir(exist_ok=True)
    np.array(ids, np.dtype(dtype).newbyteorder('<')).tofile(folder / 'train.bin')
    meta = dict(
        dtype=dtype,
        vocab_size=10,
        bos_id=None,
        eos_id=EOS,
        splits=dict(train=dict(tokens=len(ids), documents=1)),
        tokenizer=dict(type='open_clip'),
        original_ids=None,
    )
    (folder / 'meta.json').write_text(json.dumps({**meta, **changes}))
    return str(folder)


def build(root, **options):
    return DATASETS.build(dict(type='hyper_mm.PackedTokenDataset', data_root=root, **options))
