"""Computes the frozen targets of RadialCLIP once for a data set, and keeps them on disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from rich.progress import track
from torch import nn

from hyper_mm.engine.unwrap import unwrap_model
from hyper_mm.models.vision_language.radial_clip import FrozenTargets, RadialCLIP
from hyper_mm.registry import HOOKS


@HOOKS.register_module()
class FrozenTargetsHook(Hook):
    """Sets the frozen embeddings of all training texts in :class:`hyper_mm.RadialCLIP`.

    They are computed before a checkpoint is loaded, so those of a resumed run are the same. The
    file's name is made of the texts, the tokenizer, the modules of the text tower and their
    weights: it is computed anew when one of them changes, and shared by runs with the same ones.
    The first process writes it, so all must see the folder.

    Args:
        cache_dir: Folder of the file; that of all runs of this work folder if None.

    Raises:
        TypeError: In use, if the model is no ``RadialCLIP``.
        ValueError: In use, if a row has no negatives or a caption too many tokens; the message
            names the row.
    """

    def __init__(self, cache_dir: str | None = None):
        self.cache_dir = cache_dir

    def before_run(self, runner: Runner) -> None:
        """Computes or reads the targets; a run that only tests or validates needs none."""
        if not isinstance(runner._train_loop, BaseLoop):  # not built: a test
            return
        model = unwrap_model(runner.model)
        if not isinstance(model, RadialCLIP):
            raise TypeError(f'FrozenTargetsHook serves RadialCLIP, got {type(model).__name__}')
        if not model.needs_frozen:
            return
        texts = _all_texts(runner.train_dataloader.dataset)
        folder = Path(self.cache_dir or Path(runner.work_dir) / 'frozen_targets')
        path = folder / f'{_key(model.clip, texts)}.npy'
        if is_main_process() and not path.is_file():
            runner.logger.info(f'computing the frozen targets of {len(texts)} texts: {path}')
            folder.mkdir(parents=True, exist_ok=True)
            _compute(model, texts, path)
        barrier()
        model.frozen = FrozenTargets(list(texts), np.load(path, mmap_mode='r'))


def _all_texts(dataset) -> dict[str, str]:
    """All texts of a data set, each with where it first is."""
    texts = {}
    for index in range(len(dataset)):
        item = dataset.get_data_info(index)
        where = item.get('where', f'item {index}')
        if 'negatives' not in item:
            raise ValueError(
                f'{where}: training needs negatives, which {item["texts"]} do not have: use '
                "HierarCapsDataset with mode='train'"
            )
        for text in (*item['texts'], *item['negatives']):
            texts.setdefault(text, where)
    return texts


def _key(clip: nn.Module, texts: dict[str, str]) -> str:
    digest = hashlib.sha256(str(clip.tokenizer).encode())
    for name, module in clip.named_modules():  # equal weights serve GELU and QuickGELU
        if name and name.partition('.')[0] != 'visual':
            parts = type(module).__qualname__, getattr(module, 'num_heads', ''), module.extra_repr()
            digest.update(f'{name} {parts}'.encode())
    for name, weight in clip.state_dict().items():
        if not name.startswith('visual.'):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().float().numpy().tobytes())
    for text in texts:
        digest.update(f'{text}\0'.encode())
    return digest.hexdigest()[:20]


@torch.no_grad()
def _compute(model: RadialCLIP, texts: dict[str, str], path: Path) -> None:
    parts, known = [], list(texts)
    chunks = [known[i : i + model.chunk] for i in range(0, len(known), model.chunk)]
    for chunk in track(chunks, 'frozen targets'):
        try:
            features = model.text_features(chunk)
        except ValueError:
            _check(model, chunk, texts)
            raise
        features = torch.nn.functional.normalize(features.float(), dim=-1)
        parts.append(features.half().cpu().numpy())
    partial = path.with_suffix(f'.{os.getpid()}.npy')
    np.save(partial, np.concatenate(parts))
    partial.replace(path)  # a file that is there is whole


def _check(model: RadialCLIP, chunk: list[str], texts: dict[str, str]) -> None:
    for text in chunk:
        try:
            model.text_features([text])
        except ValueError as error:
            raise ValueError(f'{texts[text]}: {error}') from None
