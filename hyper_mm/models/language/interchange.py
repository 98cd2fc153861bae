"""Language models as folders of safetensors: weights, config and tokenizer, and no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hyper_mm.datasets.files import read_json, relative
from hyper_mm.datasets.text_tokenizers import META, read_meta
from hyper_mm.engine.records import write_text
from hyper_mm.registry import MODELS

CONFIG, WEIGHTS = 'config.json', 'model.safetensors'
KIND = 'hyper_mm'
TYPE = 'hyper_mm.HelmForCausalLM'


def _safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            'folders of weights need safetensors, which is not installed: pip install safetensors'
        ) from error
    return safetensors.torch


def save_pretrained(
    folder: str | Path, model: nn.Module, cfg: Mapping[str, Any], tokens: str | Path | None = None
) -> None:
    """Writes ``config.json``, ``model.safetensors`` and the files of the tokenizer.

    Args:
        folder: Where to write; it is made.
        model: The model.
        cfg: The config that it was built from (``cfg.model``), of plain types.
        tokens: Folder of the token ids that it was trained with
            (``tools/dataset_converters/tokenize_text.py``), whose tokenizer is kept: ``meta.json``
            and, if the tokenizer is a file, that file.

    Raises:
        ImportError: If safetensors is not installed.
        ValueError: If the config is of another model, or the tokenizer has more ids than it.
    """
    cfg = cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg)
    if cfg.get('type') != TYPE:
        raise ValueError(f'cfg.type must be {TYPE}, got {cfg.get("type")!r}')
    library, folder = _safetensors(), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if tokens is not None:
        meta = read_meta(tokens)
        if meta['vocab_size'] > model.decoder.vocab_size:
            raise ValueError(
                f"tokens must have at most the model's {model.decoder.vocab_size} ids, got "
                f'{meta["vocab_size"]}'
            )
        meta.pop('made_from', None)
        write_text(folder / META, json.dumps(meta) + '\n')
        if meta['tokenizer']['type'] == 'file':
            name = meta['tokenizer']['file']
            shutil.copyfile(Path(tokens) / name, folder / name)
    state = {name: value.contiguous().cpu() for name, value in model.state_dict().items()}
    library.save_file(state, folder / WEIGHTS, metadata=dict(format='pt'))
    content = dict(model_type=KIND, architectures=['HelmForTransformers'], model=cfg)
    write_text(folder / CONFIG, json.dumps(content, indent=2) + '\n')


def read_config(folder: str | Path) -> dict[str, Any]:
    """Reads the config of a model that :func:`save_pretrained` wrote.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is of no language model of this package.
    """
    path = Path(folder) / CONFIG
    content = read_json(path)
    cfg = content.get('model') if isinstance(content, dict) else None
    if not isinstance(cfg, dict) or cfg.get('type') != TYPE or content.get('model_type') != KIND:
        raise ValueError(f'{path}: model must be the config of a {TYPE}, model_type {KIND!r}')
    decoder = cfg.get('decoder')
    kind = decoder.get('type') if isinstance(decoder, dict) else None
    if kind not in ('hyper_mm.HelmDecoder', 'hyper_mm.EuclideanDecoder'):
        raise ValueError(f'{path}: model.decoder.type must be a decoder of hyper_mm, got {kind!r}')
    return cfg


def load_pretrained(folder: str | Path, device: str | torch.device = 'cpu') -> nn.Module:
    """Builds the model of a folder, in evaluation mode; nothing of it is run as code.

    :func:`hyper_mm.datasets.text_tokenizers.tokenizer_of` builds its tokenizer.

    Args:
        folder: What :func:`save_pretrained` wrote.
        device: Where to put it.

    Raises:
        FileNotFoundError: If a file is missing.
        ImportError: If safetensors is not installed.
        ValueError: If the config is not one of a language model.
        RuntimeError: If the weights are not those of the config.
    """
    path = Path(folder) / relative(WEIGHTS, str(folder))
    if not path.is_file():
        raise FileNotFoundError(f'{path} does not exist')
    model = MODELS.build(read_config(folder))
    model.load_state_dict(_safetensors().load_file(path))
    return model.to(device).eval()
