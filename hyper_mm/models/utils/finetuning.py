"""What of a CLIP model is trained."""

from __future__ import annotations

import open_clip

from hyper_mm.checks import check_choice
from hyper_mm.layers.hyperclip.weight_updates import train_parts
from hyper_mm.registry import MODELS

FINETUNE = ('frozen', 'qv', 'full')


def prepare_clip(clip: open_clip.CLIP, adapter: dict | None, finetune: str) -> object:
    """Freezes a CLIP model but for what is trained of it.

    Args:
        clip: The model, changed in place.
        adapter: Config of an adapter with ``attach(clip)``, which inserts itself and freezes the
            rest: ``hyper_mm.HyperCLIPAdapter``, ``hyper_mm.LoRAAdapter``; or None.
        finetune: What is trained without one: ``'frozen'``, ``'qv'`` (query and value projections
            of both towers, as in CAT-Seg's official code) or ``'full'``.

    Returns:
        The adapter, or None.

    Raises:
        TypeError: If the adapter cannot be attached.
        ValueError: If ``finetune`` is unknown, or given beside an adapter.
    """
    check_choice(FINETUNE, finetune=finetune)
    if adapter is not None and finetune != 'frozen':
        raise ValueError(f"an adapter needs finetune='frozen', got {finetune!r}")
    built = None
    if adapter is not None:
        built = MODELS.build(adapter)
        if not hasattr(built, 'attach'):
            raise TypeError(f'adapter must have a method attach, got {type(built).__name__}')
        built.attach(clip)
    elif finetune == 'qv':
        train_parts(clip, 'qv')
    else:
        clip.requires_grad_(finetune == 'full')
    clip.logit_scale.requires_grad_(False)  # plays no part
    return built
