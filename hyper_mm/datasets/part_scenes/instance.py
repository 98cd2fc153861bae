"""One visible thing of a scene."""

from __future__ import annotations

from dataclasses import dataclass

from hyper_mm.deprecation import renamed_property


@dataclass(frozen=True)
class Instance:
    """One visible thing.

    Attributes:
        id: Its value in the instance map, from 1 without gaps.
        whole: Whole class.
        bbox: x, y, width and height of its visible pixels.
        area: Number of its visible pixels.
        color: Name of its color, if it has one.
    """

    id: int
    whole: str
    bbox: tuple[int, int, int, int]
    area: int
    color: str | None

    colour = renamed_property('color')
