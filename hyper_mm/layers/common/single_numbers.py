"""Single numbers among the parameters of a module."""

from __future__ import annotations

from typing import ClassVar


class SingleNumbers:
    """Mixin of a :class:`torch.nn.Module` whose parameters ``numbers`` are of shape ``(1,)``.

    FSDP refuses parameters without dimensions. State dicts of before, in which they have none, are
    upgraded when they are loaded.
    """

    numbers: ClassVar[tuple[str, ...]] = ()
    """Names of the parameters."""

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        for name in self.numbers:
            value = state_dict.get(f'{prefix}{name}')
            if value is not None and not value.ndim:
                state_dict[f'{prefix}{name}'] = value.reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]
