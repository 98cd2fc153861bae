"""One visible thing of a scene."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instance:
    """One visible thing.

    Attributes:
        id: Its value in the instance map, from 1 without gaps.
        whole: Whole class.
        bbox: x, y, width and height of its visible pixels.
        area: Number of its visible pixels.
        colour: Name of its colour, if it has one.
    """

    id: int
    whole: str
    bbox: tuple[int, int, int, int]
    area: int
    colour: str | None
