"""Options that travel with the weights of a module and are compared when they are loaded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

EXTRA = '_extra_state'
"""Key under which torch keeps what a module saves beside its tensors."""


def encode_options(options: Mapping[str, object]) -> Tensor:
    """Options as a tensor of bytes: it passes every reader of checkpoints.

    Args:
        options: Numbers, texts and flags by name.

    Returns:
        JSON text ``(bytes,)``, uint8.
    """
    return torch.tensor(list(json.dumps(dict(options), sort_keys=True).encode()), dtype=torch.uint8)


def decode_options(state: Tensor) -> dict[str, object]:
    """Reads what :func:`encode_options` wrote.

    Args:
        state: Bytes ``(n,)``, uint8.

    Returns:
        The options.

    Raises:
        ValueError: If that is not what the tensor contains.
    """
    try:
        options = json.loads(bytes(state.tolist()))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f'saved options must be JSON in bytes, got {state!r}') from error
    if not isinstance(options, dict):
        raise ValueError(f'saved options must be a JSON object, got {options!r}')
    return options


def compare_options(saved: Mapping, own: Mapping, where: str) -> None:
    """Compares the options of weights with those of the module that takes them.

    Args:
        saved: Options in the state dict.
        own: Options of the module.
        where: Name of the module, for the message.

    Raises:
        ValueError: If one differs; the message names it and both values.
    """
    both = saved.keys() & own.keys()
    for name in sorted(both) + sorted(saved.keys() ^ own.keys()):
        if saved.get(name) != own.get(name):
            raise ValueError(
                f'{where} was trained with {name}={saved.get(name)!r}, the model has '
                f'{name}={own.get(name)!r}: the same weights mean another function. Build the '
                f'model with {name}={saved.get(name)!r}'
            )


class SavedOptions:
    """Mixin of a :class:`torch.nn.Module` that saves ``saved_options()`` in its state dict.

    Loading weights that were trained with other options raises ValueError, strictly or not. A state
    dict from before options were saved loads, with a warning.
    """

    def saved_options(self) -> dict[str, object]:
        """Options that the weights do not mean the same without: numbers, texts and flags."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """The options, for ``state_dict``."""
        return encode_options(self.saved_options())

    def set_extra_state(self, state: Tensor) -> None:
        """Compares the options of a state dict with the module's.

        Args:
            state: What :meth:`get_extra_state` returned.

        Raises:
            ValueError: If one differs.
        """
        compare_options(decode_options(state), self.saved_options(), type(self).__name__)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, *args
    ) -> None:
        where = f'{prefix}{EXTRA}'
        if where in state_dict:
            saved = decode_options(state_dict[where])
            compare_options(saved, self.saved_options(), prefix.rstrip('.') or type(self).__name__)
        super()._load_from_state_dict(  # type: ignore[misc]  # of nn.Module, beside it
            state_dict, prefix, local_metadata, strict, missing_keys, *args
        )
        if where in missing_keys:
            missing_keys.remove(where)
        names = [name for name, _ in self.named_parameters()]  # type: ignore[attr-defined]
        given = any(f'{prefix}{name}' in state_dict for name in names)
        if given and where not in state_dict:
            warnings.warn(
                f'weights of {type(self).__name__} come without the options that they were trained '
                f'with, from before these were saved; taken to be {self.saved_options()}',
                stacklevel=2,
            )
