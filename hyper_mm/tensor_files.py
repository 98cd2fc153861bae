"""Files of tensors by name: PyTorch's, or those of safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

SAFE = '.safetensors'


def save_tensors(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Writes tensors.

    Args:
        tensors: Tensors by name, on any device.
        path: The file; one that ends in ``.safetensors`` is written with that library, any other
            one with :func:`torch.save`.

    Raises:
        ImportError: If that library is wanted and not installed.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    if Path(path).suffix == SAFE:
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Reads tensors that :func:`save_tensors` wrote.

    Args:
        path: The file.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ImportError: If the file needs safetensors, which is not installed.
    """
    if Path(path).suffix == SAFE:
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location='cpu', weights_only=True)
