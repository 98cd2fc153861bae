"""Weights of stock necks find their place beside and inside a neck that was added."""

from __future__ import annotations

from torch import nn


class AddedNeck:
    """Mixin of necks that are added to a stock model: its other parts and levels stay as they are.

    A checkpoint of the stock model is loaded into the neck that the added one has in it (``neck``),
    or stands in a list with: :func:`load_listed_necks`. Put it in front of the stock class.
    """

    neck: nn.Module | None

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        if self.neck is not None:  # weights of a stock neck lie one step further down here
            own = self.state_dict().keys()  # type: ignore[attr-defined]  # of nn.Module
            for name in self.neck.state_dict():
                given, wanted = f'{prefix}{name}', f'{prefix}neck.{name}'
                if given in state_dict and name not in own and wanted not in state_dict:
                    state_dict[wanted] = state_dict.pop(given)
        super()._load_from_state_dict(state_dict, prefix, *args)  # type: ignore[misc]


def load_listed_necks(model: nn.Module, state_dict: dict, prefix: str = '') -> None:
    """Renames weights of stock necks for a list of necks to which one was added, in place.

    ``neck=[HiMapper, FPN]`` has the weights of FPN at ``neck.1``; in the stock model they are at
    ``neck``, and those of a stock list ``neck=[FPN, DyHead]`` at ``neck.0`` and ``neck.1``. A list
    whose added necks have weights in ``state_dict`` is left alone: that is a checkpoint of its own.

    Args:
        model: Model with any number of such lists.
        state_dict: Weights of the whole model, as they come.
        prefix: What their names begin with in front of those in ``model``.
    """
    for path, parts in model.named_modules(prefix=prefix.rstrip('.')):
        if not isinstance(parts, nn.Sequential):
            continue
        added = [i for i, part in enumerate(parts) if isinstance(part, AddedNeck)]
        stock = [i for i in range(len(parts)) if i not in added]
        if not added or not stock:
            continue
        inside = [name[len(path) + 1 :] for name in state_dict if name.startswith(f'{path}.')]
        if any(f'{i}.{name}' in inside for i in added for name in parts[i].state_dict()):
            continue
        places = [name.partition('.')[0] for name in inside]
        moved = {}
        if len(stock) == 1 and any(f'{stock[0]}.{name}' in parts.state_dict() for name in inside):
            moved = {name: f'{stock[0]}.{name}' for name in inside}
        elif all(place.isdecimal() and int(place) < len(stock) for place in places):
            moved = {
                name: f'{stock[int(place)]}.{name.partition(".")[2]}'
                for name, place in zip(inside, places)
            }
        values = {now: state_dict.pop(f'{path}.{name}') for name, now in moved.items()}
        state_dict.update({f'{path}.{name}': value for name, value in values.items()})
