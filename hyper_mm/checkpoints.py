"""Safe loading of checkpoints, in all versions of torch that are supported.

mmengine 0.10 cannot read its own checkpoints on torch >= 2.6: ``torch.load`` now accepts only what
is on a list (``weights_only=True``), and the message hub of a checkpoint pickles ``HistoryBuffer``,
whose methods go through ``getattr``. Importing hyper_mm puts the few types of mmengine's
checkpoints on that list, as the stand-ins of :mod:`hyper_mm.checkpoint_types`, which take plain
numbers and text, and no other arguments; everything else stays refused. So resume and test work,
and a file cannot run code or reach memory through its pickle. torch < 2.6 has no such list: there,
hyper_mm's loader reads local files by an unpickler of its own, with the same table.

What this does not protect: a checkpoint of mmengine holds the text of its config, and a config is
code. An inferencer that is handed weights alone executes it. :func:`load_weights`, and the prefix
``weights-only+`` in front of a path, read the weights without it. Before torch 2.6, ``torch.load``
called by others, and files that mmengine reads from the network, are unpickled freely.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

import numpy as np
import torch

from . import checkpoint_types
from .package_weights import PACKAGE, load_package

_installed = False
WEIGHTS_ONLY = 'weights-only+'


def has_safe_globals() -> bool:
    """Whether this torch reads checkpoints by an allow-list (torch >= 2.6)."""
    version = tuple(int(part) for part in torch.__version__.split('.')[:2])
    return version >= (2, 6)


def allow_mmengine_checkpoints() -> None:
    """Puts what mmengine's checkpoints name on torch's list of safe globals."""
    if not has_safe_globals():
        return
    torch.serialization.add_safe_globals(
        [(kind, name) for name, kind in checkpoint_types.replacements().items()]
    )


@contextlib.contextmanager
def _own_safe_globals() -> Iterator[None]:
    """The list of safe globals with ours, and without what others put under the same names."""
    before = torch.serialization.get_safe_globals()
    ours = checkpoint_types.replacements()
    # NumPy's dtype classes take a state that reaches memory; ours need none of them
    raw = (np.ndarray, np.dtype, np.generic)

    def is_ours(entry: object) -> bool:
        kind, name = entry if isinstance(entry, tuple) else (entry, '')
        name = name or f'{kind.__module__}.{kind.__qualname__}'
        return name in ours or (isinstance(kind, type) and issubclass(kind, raw))

    torch.serialization.clear_safe_globals()
    try:
        kept = [entry for entry in before if not is_ours(entry)]
        torch.serialization.add_safe_globals([*kept, *((k, name) for name, k in ours.items())])
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _read(filename: str, map_location: object) -> object:
    """Reads a file by an allow-list: torch's where there is one, else our own unpickler."""
    if zipfile.is_zipfile(filename):
        with zipfile.ZipFile(filename) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise checkpoint_types.refuse('it is a TorchScript archive, which holds code')
    elif tarfile.is_tarfile(filename):
        raise checkpoint_types.refuse("it is of torch's tar form of before 2017; save it again")
    if not has_safe_globals():
        kwargs = dict(weights_only=False, pickle_module=checkpoint_types)
        return torch.load(filename, map_location=map_location, **kwargs)
    with _own_safe_globals():
        return torch.load(filename, map_location=map_location, weights_only=True)


def load_from_local(filename: str, map_location: object = None) -> dict:
    """Reads a local checkpoint without running anything that its pickle may carry.

    Args:
        filename: Path of the checkpoint.
        map_location: Same as for ``torch.load``.

    Returns:
        The checkpoint. It may hold the text of a config, which is code for whoever executes it;
        see :func:`load_weights`.

    Raises:
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If the file carries anything but weights and mmengine's own records.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise FileNotFoundError(f'{filename} can not be found.')
    try:
        return checkpoint_types.settle(_read(filename, map_location))
    except (
        *(pickle.UnpicklingError, TypeError, ValueError, AttributeError, LookupError),
        *(AssertionError, MemoryError, RecursionError, OverflowError),
    ) as error:
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        marks = ('GLOBAL', 'refused', 'Can only', 'Unsupported', 'reduce')
        found = next((line for line in lines if any(m in line for m in marks)), lines[0])
        raise pickle.UnpicklingError(
            f'refused to load {filename}: it carries something that is not allowed in a checkpoint '
            'because unpickling it could run code, or it is damaged.\n'
            f'{found}\n'
            'If you know the file and trust the type it names, allow just that type first: '
            'torch.serialization.add_safe_globals([TheType]).'
        ) from None


def load_weights(filename: str, map_location: object = 'cpu') -> dict[str, torch.Tensor]:
    """Reads the weights of a local checkpoint, and nothing of its config.

    Args:
        filename: Path of the checkpoint: mmengine's, or a plain state dict.
        map_location: Same as for ``torch.load``.

    Returns:
        State dict, for ``model.load_state_dict``.

    Raises:
        FileNotFoundError: If there is no such file.
        pickle.UnpicklingError: If the file is refused; see :func:`load_from_local`.
        ValueError: If it holds no state dict.
    """
    state = load_from_local(filename, map_location)
    for key in ('state_dict', 'model'):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f'{filename} holds no state dict')
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def load_weights_only(filename: str, map_location: object = None, logger: object = None) -> dict:
    """Loads ``weights-only+PATH``, wherever a path of a checkpoint is expected.

    Args:
        filename: The path with its prefix.
        map_location: Same as for ``torch.load``.
        logger: Accepted, as mmengine passes one; nothing is logged.

    Returns:
        Checkpoint of ``state_dict`` and ``meta``, of which only ``dataset_meta`` is left.
    """
    path = filename[len(WEIGHTS_ONLY) :]
    meta = load_from_local(path, map_location).get('meta')
    kept = meta.get('dataset_meta') if isinstance(meta, dict) else None
    meta = {} if kept is None else dict(dataset_meta=kept)
    return dict(state_dict=load_weights(path, map_location), meta=meta)


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
        logger: Accepted, as mmengine passes one; nothing is logged.

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
    from mmengine.runner.checkpoint import CheckpointLoader

    CheckpointLoader.register_scheme(prefixes='', loader=load_from_local, force=True)
    for prefix, loader in (
        (TIMM_VIT, load_timm_vit),
        (WEIGHTS_ONLY, load_weights_only),
        (PACKAGE, load_package),
    ):
        # mmengine matches prefixes as regular expressions
        CheckpointLoader.register_scheme(re.escape(prefix), loader=loader, force=True)
    _installed = True


_RUNNER = 'mmengine.runner.checkpoint'


class _AfterRunner(MetaPathFinder, Loader):
    """Registers the loaders as soon as somebody imports mmengine's runner.

    Importing the runner with hyper_mm would take as long as importing torch.
    """

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Finds the runner's module as Python does, with ``self`` as its loader."""
        if name != _RUNNER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        install_checkpoint_loader()


def setup() -> None:
    """Prepares mmengine for safe checkpoints; called when hyper_mm is imported."""
    allow_mmengine_checkpoints()
    if _RUNNER in sys.modules:
        install_checkpoint_loader()
    elif not any(isinstance(finder, _AfterRunner) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterRunner())
