"""The one place that knows of versions.

mmengine 0.10 cannot read its own checkpoints on torch >= 2.6: ``torch.load`` now accepts only what
is on a list (``weights_only=True``), and the message hub of a checkpoint pickles ``HistoryBuffer``,
whose methods go through ``getattr``. Importing hyper_mm puts the few harmless types of mmengine's
checkpoints on that list, with a ``getattr`` that reaches only the methods that they pickle;
everything else stays refused. So resume and test work, and a checkpoint still cannot run code.
"""

from __future__ import annotations

import os
import pickle
import sys

import torch

_installed = False


def _checkpoint_getattr(owner: object, name: str) -> object:
    """The ``getattr`` of checkpoints: the methods that mmengine itself pickles and nothing else."""
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    allowed = {
        HistoryBuffer: ('min', 'max', 'mean', 'current'),
        OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
    }
    if not isinstance(owner, type) or name not in allowed.get(owner, ()):
        raise pickle.UnpicklingError(
            f'refused an unsafe checkpoint: it reads attribute {name!r} of {owner!r}'
        )
    return getattr(owner, name)


def has_safe_globals() -> bool:
    """Whether this torch reads checkpoints by an allow-list (torch >= 2.6)."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    return version >= (2, 6)


def allow_mmengine_checkpoints() -> None:
    """Puts the types of mmengine's checkpoints on torch's list of safe globals."""
    if not has_safe_globals():
        return
    import numpy as np
    from mmengine.config import ConfigDict
    from mmengine.logging import HistoryBuffer

    core = np._core if hasattr(np, '_core') else np.core
    reconstruct, scalar = core.multiarray._reconstruct, core.multiarray.scalar
    numbers_and_text = {type(np.dtype(code)) for code in '?bhilqBHILQefdFDU'}
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            ConfigDict,
            (_checkpoint_getattr, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *numbers_and_text,
            *(
                (f, f'{m}.{f.__name__}')
                for f in (reconstruct, scalar)
                for m in ('numpy.core.multiarray', 'numpy._core.multiarray')
            ),
        ]
    )


def load_from_local(filename: str, map_location: object = None) -> dict:
    """Reads a local checkpoint without running anything it may carry.

    Args:
        filename: Path of the checkpoint.
        map_location: Same as for ``torch.load``.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If the file carries anything but weights and mmengine's own records.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    allow_mmengine_checkpoints()  # others may have emptied the list: onedl-mmengine's loader does
    try:
        return torch.load(filename, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        marks = ('GLOBAL', 'refused', 'Can only build', 'Unsupported')
        found = next((line for line in lines if any(m in line for m in marks)), lines[0])
        raise pickle.UnpicklingError(
            f'refused to load {filename}: it carries something that is not allowed in a checkpoint '
            'because unpickling it could run code.\n'
            f'{found}\n'
            'If you know the file and trust the type it names, allow just that type first: '
            'torch.serialization.add_safe_globals([TheType]).'
        ) from None


TIMM_VIT = 'timm-vit+'
_TIMM_TO_MMSEG = (
    ('blocks.', 'layers.'),
    ('norm1.', 'ln1.'),
    ('norm2.', 'ln2.'),
    ('attn.qkv.', 'attn.attn.in_proj_'),
    ('attn.proj.', 'attn.attn.out_proj.'),
    ('mlp.fc1.', 'ffn.layers.0.0.'),
    ('mlp.fc2.', 'ffn.layers.1.'),
    ('patch_embed.proj.', 'patch_embed.projection.'),
)


def timm_vit_to_mmseg(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames the weights of timm's vision transformers (DeiT's public ones) to mmseg's names.

    Args:
        state: State dict of a ViT or DeiT; classification heads are left out.

    Returns:
        State dict of ``mmseg.VisionTransformer``.
    """
    renamed = {}
    for name, weight in state.items():
        if name.startswith('head'):
            continue
        name = f'ln1.{name[5:]}' if name.startswith('norm.') else name
        for old, new in _TIMM_TO_MMSEG:
            name = name.replace(old, new)
        renamed[name] = weight
    return renamed


def load_timm_vit(filename: str, map_location: object = None, logger: object = None) -> dict:
    """Loads ``timm-vit+ADDRESS``: what is at ADDRESS, renamed for ``mmseg.VisionTransformer``.

    Args:
        filename: The address with its prefix; a path, or anything that mmengine loads.
        map_location: Same as for ``torch.load``.
        logger: Not used.

    Returns:
        State dict of ``mmseg.VisionTransformer``.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    checkpoint = CheckpointLoader.load_checkpoint(filename[len(TIMM_VIT) :], map_location, None)
    for key in ('model', 'state_dict'):
        checkpoint = checkpoint.get(key, checkpoint)
    return timm_vit_to_mmseg(checkpoint)


def install_checkpoint_loader() -> None:
    """Registers the loaders of this module with mmengine, once."""
    global _installed
    if _installed:
        return
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    from mmengine.runner.checkpoint import CheckpointLoader

    if has_safe_globals():
        torch.serialization.add_safe_globals([OneCycleParamScheduler])
        CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    prefix = TIMM_VIT.replace('+', r'\+')  # mmengine matches prefixes as regular expressions
    CheckpointLoader.register_scheme(prefixes=prefix, loader=load_timm_vit, force=True)
    _installed = True


def setup() -> None:
    """What importing hyper_mm does where mmengine is installed."""
    allow_mmengine_checkpoints()
    if 'mmengine.runner.checkpoint' in sys.modules:
        install_checkpoint_loader()
